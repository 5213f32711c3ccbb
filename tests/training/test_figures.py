import numpy as np
import pytest

from tests.support.entries import make_entry
from tests.support.runs import SOURCES, make_hospitals, write_run
from training.figures import (
    Aim,
    Judge,
    calibration_figures,
    coverage_figures,
    damage_figures,
    first_figures,
    part_figures,
)
from training.metrics import Estimate
from training.outcome import Answers, answer_folds, answer_left_out, load_run


def as_answers(probabilities, threshold=0.5):
    probabilities = np.asarray(probabilities, np.float64)
    return Answers(probabilities, np.full(len(probabilities), threshold), np.full_like(probabilities, np.nan))


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    entries, folder = make_hospitals(), tmp_path_factory.mktemp("run")
    write_run(folder, entries)
    run = load_run(folder, entries)
    return Judge(entries, {"left_out": answer_left_out(run, entries), "folds": answer_folds(run, entries)})


def test_each_hospital_is_judged_left_out_and_in_folds_and_all_are_averaged(judge):
    found = {figure.key: figure.estimates for figure in first_figures(judge)}
    values = [found[f"fracture_auc_{source}"]["left_out"].value for source in SOURCES]
    assert found["fracture_auc_mean"]["left_out"].value == pytest.approx(np.mean(values))
    assert min(values) > 0.9
    assert found["normal_rejected_north"]["folds"].images == 60
    assert {"left_out", "folds"} == set(found["fractured_accepted_south"])
    assert found["other_rejected_photos_0"]["left_out"].value > 0.9


def test_the_type_on_unseen_sources_is_averaged_over_them():
    labels = ["fisura", "fractura", "normal", "other"] * 20
    entries = [make_entry(label, row % 5, "ab"[row // 40], f"g{row}") for row, label in enumerate(labels)]
    told = {"a": 0.6, "b": 0.3}  # every type right; every type wrong
    probabilities = [
        (share, 0.9 - share, 0.1)
        for entry in entries
        for share in [told[entry.source] if entry.label == "fisura" else 0.9 - told[entry.source]]
    ]
    judge = Judge(entries, {"left_out": as_answers(probabilities)})
    found = {figure.key: figure.estimates["left_out"] for figure in first_figures(judge) if figure.estimates}
    assert [found[f"type_auc_{name}"].value for name in ("a", "b", "mean")] == [1, 0, 0.5]
    assert (found["type_auc_mean"].images, found["other_rejected_a"].images) == (40, 10)


def test_overconfident_counts_normal_films_above_ninety_percent():
    entries = [make_entry("normal", source="here", group=f"g{row}") for row in range(40)]
    entries += [make_entry("fractura", source="here", group=f"f{row}") for row in range(40)]
    probabilities = [(0.0, 0.95, 0.05)] * 10 + [(0.0, 0.85, 0.15)] * 70
    judge = Judge(entries, {"left_out": as_answers(probabilities)})
    found = {figure.key: figure.estimates for figure in first_figures(judge)}
    assert found["overconfident_here"]["left_out"].value == 0.25


def test_the_right_class_among_the_accepted_leaves_the_rejected_out():
    entries = [make_entry("fisura", group=f"g{row}") for row in range(20)]
    probabilities = [(0.6, 0.3, 0.1)] * 5 + [(0.3, 0.6, 0.1)] * 5 + [(0.2, 0.1, 0.7)] * 10
    judge = Judge(entries, {"folds": as_answers(probabilities)})
    found = {figure.key: figure.estimates for figure in first_figures(judge)}
    assert found["fisura_right_argmax"]["folds"].value == 0.5
    assert found["fisura_right_balanced"]["folds"].value == 1.0  # 0.3 against 0.6 is more than the prior's share


def test_a_shift_to_the_films_own_prevalence_mends_a_calibration_for_another():
    entries = [make_entry("normal" if row % 4 == 0 else "fractura", 0, "here", f"g{row}") for row in range(400)]
    fractured = np.full(400, 0.33)  # the prior, for films of which three in four are fractured
    probabilities = np.stack([fractured * 0.2, fractured * 0.8, 1 - fractured], axis=1)
    judge = Judge(entries, {"left_out": as_answers(probabilities)})
    found = {figure.key: figure.estimates["left_out"] for figure in calibration_figures(judge)}
    assert found["ece_fractured_here"].value == pytest.approx(0.42, abs=0.01)
    assert found["ece_fractured_shifted_here"].value < found["ece_fractured_here"].value - 0.2
    assert found["ece_excess_here"].value < found["ece_fractured_shifted_here"].value


def test_the_true_class_is_covered_about_as_often_as_stated(judge):
    found = {figure.key: figure.estimates for figure in coverage_figures(judge)}
    for name in ("fisura", "fractura", "none"):
        assert found[f"coverage_{name}"]["folds"].value == pytest.approx(0.9, abs=0.07)
    assert 1 <= found["possible_size"]["folds"].value < 2


def test_a_column_without_answers_for_the_films_has_no_estimate(judge):
    nothing = as_answers(np.full((len(judge.entries), 3), np.nan))
    figure = Judge(judge.entries, {"left_out": nothing}).compare("x", "x", judge.fracture_auc, judge.bone)
    assert figure.estimates == {}


def test_damage_costs_what_it_takes_from_the_auc(tmp_path):
    entries = make_hospitals(sources=["fracatlas", "south"])
    write_run(tmp_path, entries)
    for fold in range(5):
        with np.load(tmp_path / f"fold_{fold}.plain.npz") as plain:
            np.savez(
                tmp_path / f"fold_{fold}.darker.npz", rows=plain["rows"], known=-plain["known"], type=plain["type"]
            )
    found = {figure.key: figure.estimates["folds"] for figure in damage_figures(Judge(entries, {}), tmp_path)}
    assert set(found) == {"lost_fracture_darker", "lost_type_darker"}
    assert found["lost_fracture_darker"].value > 0.9
    assert found["lost_type_darker"].value == 0


def test_parts_with_few_films_get_no_figure(judge):
    names = [figure.name for figure in part_figures(judge)]
    assert "source north: fractured against normal, AUC" in names
    assert not any(name.startswith("tier secondary") for name in names)


def test_an_aim_is_met_by_the_figure_itself():
    estimate = Estimate(0.1, 0.05, 0.2, 30, 10)
    assert Aim(0.1).is_met(estimate)
    assert Aim(0.1, at_most=True).is_met(estimate)
    assert not Aim(0.11).is_met(estimate)


def test_fifteen_films_meet_no_aim_and_miss_none():
    few = Estimate(1.0, 0.8, 1.0, 15, 15)
    assert not Aim(0.1).is_met(few)
    assert Aim(0.1).compare(few) == Aim(1.1).compare(few) == "too few films to say"
