import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import training.evaluate
from tests.support.entries import make_entries
from tests.support.runs import make_hospitals, write_run
from training.card import Shipped, render_card, table
from training.evaluate import compute, gather_answers, quality, show
from training.figures import Judge
from training.manifest import digest_manifest, read_manifest
from training.metrics import auc
from training.outcome import load_run
from training.recipe import PLACES

ROOT = Path(__file__).parents[2]


def judge_run(folder, entries):
    write_run(folder, entries)
    run = load_run(folder, entries)
    judge = Judge(entries, gather_answers(run, entries, folder / "missing.npz"))
    return judge, run, compute(judge, run, folder, PLACES.side)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return judge_run(tmp_path_factory.mktemp("run"), make_hospitals(180, ["multan_wrist", "fracatlas", "north"]))


def test_the_card_begins_with_sources_left_out_and_fills_every_gap(judged):
    judge, run, sections = judged
    card = render_card(judge, run, sections, PLACES, Shipped("all", "0" * 64))
    assert "$" not in card
    assert card.index("## On a hospital that it never saw") < card.index("## What it is")
    first = next(line for line in card.splitlines() if line.startswith("| figure |"))
    assert first == "| figure | source left out | folds |"
    assert "| age of patients | not known |" in card
    assert "Of 100 films with a fracture it answers" in card


def test_the_quality_in_the_model_file_begins_with_sources_left_out(judged):
    _, _, sections = judged
    travelling = quality(sections.first)
    assert list(travelling) == ["sourcesLeftOut", "folds"]
    figure = travelling["sourcesLeftOut"]["figures"]["fracture_auc_multan_wrist"]
    assert figure["interval95"][0] <= figure["value"] <= figure["interval95"][1]
    assert figure["films"] == 60
    json.dumps(travelling, allow_nan=False)


def test_a_figure_is_shown_with_its_aim(judged):
    _, _, sections = judged
    line = next(show(figure) for figure in sections.first if figure.key == "fracture_auc_fracatlas")
    assert "left_out 0." in line
    assert "aim 0.72 met" in line


def test_a_manifest_with_one_source_gets_a_card_that_says_so(tmp_path):
    judge, run, sections = judge_run(tmp_path, make_entries(200))
    card = render_card(judge, run, sections, PLACES, Shipped("all", "0" * 64))
    assert "none could be left out" in card
    assert next(line for line in card.splitlines() if line.startswith("| figure |")) == "| figure | folds |"


def test_an_empty_table_says_that_nothing_was_measured():
    assert table([]) == "Not measured for this network."


def test_the_command_writes_figures_card_and_pictures(folder, tmp_path, monkeypatch):
    entries = read_manifest(folder)
    write_run(tmp_path / "scores/places", entries)
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", "--data", str(folder), "--scores", str(tmp_path / "scores"), "--publish"]
    monkeypatch.setattr(sys, "argv", command)
    training.evaluate.main()
    assert digest_manifest(folder) in (tmp_path / "MODEL_CARD.md").read_text()
    assert (tmp_path / "docs/images/roc.png").stat().st_size > 1000
    assert json.loads((tmp_path / "scores/places.quality.json").read_text())["folds"]["figures"]


def test_answers_of_an_earlier_network_stand_beside_the_new_ones(tmp_path):
    entries = make_hospitals(60)
    write_run(tmp_path, entries)
    probabilities = np.full((len(entries), 3), 1 / 3)
    np.savez(tmp_path / "before.npz", folds=probabilities, left_out=probabilities, threshold=0.3)
    answers = gather_answers(load_run(tmp_path, entries), entries, tmp_path / "before.npz")
    assert list(answers) == ["left_out", "left_out_before", "folds", "folds_before"]
    assert answers["left_out_before"].accepted.all()
    assert dataclasses.is_dataclass(answers["folds"])


def test_the_scores_in_the_repository_give_the_figures_of_the_card():
    folder = os.environ.get("BONE_DATA_DIR")
    card = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    if not folder or digest_manifest(Path(folder)) not in card:
        pytest.skip("BONE_DATA_DIR names no folder with the manifest of the model card")
    entries = read_manifest(Path(folder))
    run = load_run(ROOT / "training/scores/places", entries)
    answers = gather_answers(run, entries, ROOT / "training/scores/before.npz")
    judge = Judge(entries, answers)
    unseen, folds = answers["left_out"], answers["folds"]
    wrists = judge.sources == "multan_wrist"
    for name, value in (
        ("fractured against normal, AUC: multan_wrist", auc(unseen.fractured[wrists], judge.fractured[wrists])),
        ("normal rejected: multan_wrist", np.mean(~unseen.accepted[wrists & judge.normal])),
        ("`other` rejected: imagenet_samples", np.mean(~unseen.accepted[judge.sources == "imagenet_samples"])),
    ):
        assert f"| {name} | **{value:.3f}** (" in card
    judged = judge.typed & np.isfinite(folds.type)
    typed = auc(folds.type[judged], judge.fisura[judged])
    line = next(line for line in card.splitlines() if line.startswith("| fisura against fractura, AUC: all"))
    assert f"**{typed:.3f}**" in line
