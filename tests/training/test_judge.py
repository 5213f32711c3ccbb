import csv
import json
import os
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_score, recall_score, roc_auc_score

import training.judge
from config import read_config
from tests.support.models import brightness_model, with_attributes
from training.figures import Judge, accepted, rejected
from training.judge import judge, parse
from training.learnt import DATASET, hash_films
from training.manifest import read_manifest
from training.metrics import auc, share, wilson
from training.outcome import Answers, fit, load_run
from training.recipe import PLACES
from training.splits import find_split

# Keras 3.15.1 copies TensorFlow variables in a way that NumPy 2 warns of, when it saves an .h5.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROOT = Path(__file__).parents[2]
KINDS = ["fisura", "fractura", "fracture_untyped", "normal", "normal"]


def save_model(path, slope=12.0):
    """Save a network that takes bright images for fractured, and those with a bright spot for fractura."""
    image = keras.Input((32, 32, 1))
    both = [keras.layers.GlobalAveragePooling2D()(image), keras.layers.GlobalMaxPooling2D()(image)]
    head = keras.layers.Dense(3, activation="softmax", name="probabilities")
    model = keras.Model(image, head(keras.layers.Concatenate()(both)))
    head.set_weights([np.array([[slope, slope, 0], [-4, 4, 0]]), np.array([-slope / 2 + 2, -slope / 2 - 4, 0])])
    model.save(path)
    quantiles = {"fisura": 0.9, "fractura": 0.8, "none": 0.85}
    prior = {"fisura": 0.1, "fractura": 0.2, "none": 0.7}
    return with_attributes(path, threshold=0.4, conformal=json.dumps(quantiles), prior=json.dumps(prior))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Make 160 images of 80 patients, brighter where fractured, ten of something else, and one that is no image."""
    folder, random = tmp_path_factory.mktemp("films"), np.random.default_rng(5)
    rows = []
    for number in range(170):
        label = KINDS[number % 5] if number < 160 else "other"
        mean = random.normal(0.55 if label.startswith("fra") or label == "fisura" else 0.42, 0.08)
        pixels = np.clip(random.normal(mean, 0.05, (40, 40)), 0, 0.9)
        pixels[3:8, 3:8] = 0.95 if label == "fractura" and random.random() < 0.8 else pixels[3, 3]
        Image.fromarray((255 * pixels).astype(np.uint8)).save(folder / f"{number}.png")
        rows.append([f"{number}.png", label, f"patient {number // 2}", ("wrist", "ankle")[number % 3 == 0], number])
    (folder / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    rows += [["damaged.png", "normal", "", "wrist", 1], ["missing.png", "normal", "", "wrist", 1]]
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", "group", "body_part", "age"], *rows])
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "model.h5")


@pytest.fixture(autouse=True)
def _plain_keras(monkeypatch):
    monkeypatch.setenv("BONE_ENGINE", "tensorflow")


def judge_films(out, *arguments):
    judge(parse([*map(str, arguments), "--out", str(out)]))
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def judged(films, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BONE_ENGINE", "tensorflow")
        facts = judge_films(
            out, films, "--model", model, "--sensitivity", "0.9", "--false-alarms", "0.2", "--by", "age"
        )
    with (out / "films.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return facts, [row for row in rows if not row["error"]], out


def columns_of(rows):
    """Return label, P(fractured), the output's log-odds of fisura, whether accepted, the confidence."""
    outputs = np.array([[float(row[f"output_{name}"]) for name in ("fisura", "fractura", "none")] for row in rows])
    label = np.array([row["label"] for row in rows])
    accepted = np.array([row["accepted"] == "1" for row in rows])
    return label, 1 - outputs[:, 2], np.log(outputs[:, 0] / outputs[:, 1]), accepted


def test_the_figures_are_those_of_scikit_learn(judged):
    facts, rows, _ = judged
    label, scores, types, accepted = columns_of(rows)
    bone = label != "other"
    fractured = bone & (label != "normal")
    typed = np.isin(label, ("fisura", "fractura"))
    true, stated = calibration_curve(fractured[bone], scores[bone], n_bins=15, strategy="quantile")
    expected = {
        "sensitivity": recall_score(fractured[bone], accepted[bone]),
        "specificity": recall_score(~fractured[bone], ~accepted[bone]),
        "ppv": precision_score(fractured[bone], accepted[bone]),
        "npv": precision_score(~fractured[bone], ~accepted[bone]),
        "fracture_auc": roc_auc_score(fractured[bone], scores[bone]),
        "type_auc": roc_auc_score(label[typed] == "fisura", types[typed]),
        "other_rejected": 1 - accepted[~bone].mean(),
    }
    found = {key: facts["figures"][key]["value"] for key in expected}
    assert found == pytest.approx(expected, abs=2e-4)  # films.csv holds six decimals
    assert facts["figures"]["calibration_fractured"]["value"] == pytest.approx(np.mean(abs(true - stated)), abs=0.01)
    assert 0.6 < expected["fracture_auc"] < 0.99
    for key, value in found.items():
        low, high = facts["figures"][key]["interval95"]
        assert low <= value <= high


def test_wilson_s_interval_is_that_of_statsmodels():
    proportion = pytest.importorskip("statsmodels.stats.proportion", reason="pip install -r requirements/dev.txt")
    for hits, count in ((0, 12), (12, 12), (3, 40), (39, 40)):
        assert wilson(hits, count) == pytest.approx(proportion.proportion_confint(hits, count, method="wilson"))


def test_a_threshold_that_was_asked_for_keeps_its_promise_in_the_environment(
    judged, films, model, tmp_path, monkeypatch
):
    facts, _, out = judged
    sensitive, specific = facts["operatingPoints"]
    lines = re.findall(r"^(BONE_CONFIDENCE_THRESHOLD)=(\S+)  # (.*)$", (out / "report.md").read_text(), re.MULTILINE)
    assert [line[2] for line in lines] == ["sensitivity 90 %", "specificity 80 % (false alarms 20 %)"]
    assert read_config({lines[0][0]: lines[0][1]}).threshold == sensitive["threshold"]
    for point, key, other in ((sensitive, "sensitivity", "specificity"), (specific, "specificity", "sensitivity")):
        monkeypatch.setenv("BONE_CONFIDENCE_THRESHOLD", f"{point['threshold']:.4f}")
        again = judge_films(tmp_path, films, "--model", model)["figures"]
        assert again[key]["value"] == pytest.approx(point[key]["value"])
        assert point["wanted"] <= again[key]["value"] < point["wanted"] + 0.03
        assert again[other]["value"] == pytest.approx(point[other]["value"])


def test_films_that_cannot_be_read_are_counted_listed_and_left_out(judged):
    facts, rows, out = judged
    assert [Path(film["path"]).name for film in facts["unreadable"]] == ["damaged.png", "missing.png"]
    assert [film["reason"] for film in facts["unreadable"]] == ["unreadable_image", "unreadable_file"]
    assert sum(facts["films"].values()) == len(rows) == 170
    assert "missing.png | normal | unreadable_file" in (out / "report.md").read_text()


def test_columns_of_the_manifest_give_subgroups_many_numbers_in_quarters(judged):
    facts, rows, _ = judged
    assert facts["parts"].keys() == {"body_part", "age"}
    assert len(facts["parts"]["age"]) == 4
    label, scores, _, accepted = columns_of(rows)
    wrist = np.array([int(Path(row["path"]).stem) % 3 > 0 for row in rows]) & (label != "other")
    part, fractured = facts["parts"]["body_part"]["wrist"], label[wrist] != "normal"
    assert part["sensitivity"]["value"] == pytest.approx(recall_score(fractured, accepted[wrist]))
    assert part["fracture_auc"]["value"] == pytest.approx(roc_auc_score(fractured, scores[wrist]), abs=2e-4)


def test_the_html_report_loads_nothing(judged):
    _, _, out = judged
    html = (out / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 3
    assert "http" not in html


def test_a_small_folder_gets_no_figures_instead_of_wild_ones(films, model, tmp_path, capsys):
    for number, label in enumerate(["fisura", "normal", "normal"]):
        (tmp_path / "in" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / label / f"{number}.png").write_bytes((films / f"{number}.png").read_bytes())
    facts = judge_films(tmp_path / "out", tmp_path / "in", "--model", model, "--sensitivity", "0.9")
    assert not [key for key, figure in facts["figures"].items() if figure["value"] is not None]
    assert facts["operatingPoints"][0]["threshold"] is None
    assert "too few to say" in capsys.readouterr().out
    assert "Fewer than 10 films of one kind" in (tmp_path / "out/report.md").read_text()


def test_two_models_are_compared_on_the_same_films(films, model, tmp_path):
    better = save_model(tmp_path / "flat.h5", slope=-2.0)
    ahead = judge_films(tmp_path / "out", films, "--model", model, "--against", better)["against"]["ahead"]
    assert ahead["fracture_auc"]["interval95"][0] > 0
    same = judge_films(tmp_path / "out", films, "--model", model, "--against", model)["against"]["ahead"]
    assert {same[key]["value"] for key in ("sensitivity", "specificity", "fracture_auc", "type_auc")} == {0}
    assert same["same_verdict"]["value"] == 1
    assert "`this" not in (tmp_path / "out/report.md").read_text()


def test_films_that_the_model_learnt_from_are_told_and_can_be_left_out(films, tmp_path, capsys):
    import h5py

    learnt = save_model(tmp_path / "learnt.h5")
    with h5py.File(learnt, "a") as file:
        file.create_dataset(DATASET, data=hash_films([films / f"{number}.png" for number in range(30)]))
    facts = judge_films(tmp_path / "out", films, "--model", learnt)
    assert facts["learntFrom"] == 30
    assert "The model learnt from 30 of these 170 films" in (tmp_path / "out/report.md").read_text()
    assert "Warning: the model learnt from 30" in capsys.readouterr().out
    facts = judge_films(tmp_path / "out", films, "--model", learnt, "--unseen")
    assert (facts["learntFrom"], sum(facts["films"].values())) == (0, 140)


def test_a_network_without_an_output_for_none_is_judged_by_its_confidence(films, tmp_path):
    brightness_model(channels=1).save(tmp_path / "plain.h5")
    with_attributes(tmp_path / "plain.h5", threshold=0.55, class_names="fisura,fractura")
    facts = judge_films(tmp_path / "out", films, "--model", tmp_path / "plain.h5", "--sensitivity", "0.9")
    assert facts["figures"]["fracture_auc"]["value"] is not None
    assert "calibration_fractured" not in facts["figures"]
    point = facts["operatingPoints"][0]
    assert point["threshold"] is None or point["threshold"] > 0.5  # at 0.5 and below it could never reject


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "cannot read nowhere"),
        (["FILMS", "--by", "sex"], "There is no column sex; the manifest has path, label, group, body_part, age."),
        (["FILMS", "--model", "FILMS/0.png"], "cannot be used"),
        (["FILMS", "--out", "FILMS/0.png"], "cannot write to"),
        (["FILMS/empty"], "None of the 1 films can be read; .*: empty_image."),
    ],
)
def test_what_cannot_be_judged_is_said_in_one_sentence(films, model, arguments, sentence, monkeypatch, capsys):
    (films / "empty/normal").mkdir(parents=True, exist_ok=True)
    (films / "empty/normal/nothing.png").write_bytes(b"")
    monkeypatch.setenv("BONE_MODEL_PATH", str(model))
    monkeypatch.chdir(model.parent)
    monkeypatch.setattr(sys, "argv", ["judge", *(text.replace("FILMS", str(films)) for text in arguments)])
    assert training.judge.main() == 1
    error = capsys.readouterr().err
    assert re.search(sentence, error)
    assert "Traceback" not in error


def test_ctrl_c_stops_with_a_word(films, model, tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("training.judge.score_films", interrupt)
    monkeypatch.setattr(sys, "argv", ["judge", str(films), "--model", str(model), "--out", str(tmp_path)])
    assert training.judge.main() == 130
    assert "Stopped" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_shipped_file_gets_the_figures_of_its_fold(tmp_path, monkeypatch):
    """The card's figures rest on scores that training kept; here the file itself answers the same films."""
    folder = os.environ.get("BONE_DATA_DIR")
    if not folder:
        pytest.skip("set BONE_DATA_DIR to the folder of the model card's films")
    monkeypatch.setenv("BONE_ENGINE", "auto")
    entries = read_manifest(Path(folder))
    run = load_run(ROOT / f"training/scores/{PLACES.name}", entries)
    fitted = fit(run, entries, np.ones(len(entries), bool))
    probabilities = fitted.calibration.apply(run.folds)
    answers = Answers(
        probabilities,
        np.full(len(entries), fitted.threshold),
        np.tile(list(fitted.quantiles.values()), (len(entries), 1)),
    )
    rows = find_split(entries, "fold_0").score
    card = Judge(entries, {"folds": answers})
    with (tmp_path / "fold.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group", "source"])
        writer.writerows(
            [entries[row].path, entries[row].label, entries[row].group, entries[row].source] for row in rows
        )
    facts = judge_films(tmp_path, tmp_path / "fold.csv", "--model", ROOT / "bone_fracture_classifier.h5")
    if facts["learntFrom"]:
        pytest.skip("the shipped network learnt from fold 0, so it cannot be judged on it")
    typed, bone = rows[card.typed[rows]], rows[card.bone[rows]]
    expected = {
        "fracture_auc": card.fracture_auc(answers)(bone),
        "type_auc": card.type_auc(answers)(typed),
        "sensitivity": accepted(answers)(rows[card.fractured[rows]]),
        "specificity": rejected(answers)(rows[card.normal[rows]]),
        "coverage_none": share(answers.possible[rows[card.normal[rows]], 2]),
    }
    assert {key: facts["figures"][key]["value"] for key in expected} == pytest.approx(expected, abs=0.005)
    wrists = facts["parts"]["source"]["fracatlas"]["fracture_auc"]["value"]
    inside = bone[card.sources[bone] == "fracatlas"]
    assert wrists == pytest.approx(auc(answers.fractured[inside], card.fractured[inside]), abs=0.005)
