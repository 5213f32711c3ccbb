import dataclasses

import numpy as np
import pytest

from tests.support.entries import make_entries
from tests.support.runs import make_hospitals, write_run
from training.calibration import Scores
from training.errors import TrainingError
from training.outcome import answer_folds, answer_left_out, fit, load_answers, load_run

ENTRIES = make_hospitals()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, ENTRIES)
    return load_run(folder, ENTRIES)


@pytest.fixture(scope="module")
def folds(run):
    return answer_folds(run, ENTRIES)


@pytest.fixture(scope="module")
def left_out(run):
    return answer_left_out(run, ENTRIES)


def test_every_film_is_answered_by_its_fold_and_without_its_source(folds, left_out):
    for answers in (folds, left_out):
        assert answers.judged.all()
        np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1)
        assert np.isfinite(answers.thresholds).all()


def test_fractures_are_accepted_and_most_of_the_rest_is_not(folds, left_out):
    fractured = np.array([entry.is_fractured for entry in ENTRIES])
    for answers in (folds, left_out):
        assert answers.accepted[fractured].mean() > 0.6
        assert answers.accepted[~fractured].mean() < 0.15


def test_what_judges_a_source_left_out_does_not_depend_on_its_scores(run, left_out):
    there = np.array([entry.source == "north" for entry in ENTRIES])
    before = fit(run, ENTRIES, ~there)
    changed = [
        Scores(*(np.where(there, -9.0, getattr(scores, field.name)) for field in dataclasses.fields(Scores)))
        for scores in (run.folds, run.left_out)
    ]
    after = fit(dataclasses.replace(run, folds=changed[0], left_out=changed[1]), ENTRIES, ~there)
    assert after == before
    assert set(left_out.thresholds[there]) == {before.threshold}
    expected = before.calibration.apply(run.left_out)[there]
    np.testing.assert_allclose(left_out.probabilities[there], expected)


def test_what_judges_a_fold_is_fitted_without_it(run, folds):
    there = np.array([entry.fold == 2 for entry in ENTRIES])
    fitted = fit(run, ENTRIES, ~there)
    np.testing.assert_allclose(folds.probabilities[there], fitted.calibration.apply(run.folds)[there])
    np.testing.assert_allclose(folds.quantiles[there][0], list(fitted.quantiles.values()))


def test_a_manifest_with_one_source_is_calibrated_on_its_folds(tmp_path):
    entries = make_entries()
    write_run(tmp_path, entries)
    run = load_run(tmp_path, entries)
    assert not run.left_out.judged.any()
    assert answer_folds(run, entries).judged.all()
    assert not answer_left_out(run, entries).judged.any()


def test_of_an_unfinished_run_the_finished_splits_are_judged(tmp_path):
    write_run(tmp_path, ENTRIES)
    for name in ("without_north", "fold_1", "fold_4"):
        (tmp_path / f"{name}.plain.npz").unlink()
    run = load_run(tmp_path, ENTRIES)
    folds, left_out = answer_folds(run, ENTRIES), answer_left_out(run, ENTRIES)
    assert {entry.fold for entry, judged in zip(ENTRIES, folds.judged, strict=True) if judged} == {0, 2, 3}
    judged = {entry.source for entry, judged in zip(ENTRIES, left_out.judged, strict=True) if judged}
    assert "north" not in judged
    assert {"south", "east"} <= judged


def test_a_single_fold_is_judged_in_parts_each_by_what_is_fitted_without_it(tmp_path):
    write_run(tmp_path, ENTRIES)
    for fold in range(1, 5):
        (tmp_path / f"fold_{fold}.plain.npz").unlink()
    run = load_run(tmp_path, ENTRIES)
    answers = answer_folds(run, ENTRIES)
    assert answers.judged.tolist() == [entry.fold == 0 for entry in ENTRIES]
    used = {tuple(quantiles) for quantiles in answers.quantiles[answers.judged]}
    assert len(used) == 5
    _, groups = np.unique([entry.group for entry in ENTRIES], return_inverse=True)
    part = groups % 5 == 0
    expected = fit(run, ENTRIES, ~part).calibration.apply(run.folds)[part & answers.judged]
    np.testing.assert_allclose(answers.probabilities[part & answers.judged], expected)


def test_a_run_without_a_fold_is_refused(tmp_path):
    write_run(tmp_path, ENTRIES)
    for fold in range(5):
        (tmp_path / f"fold_{fold}.plain.npz").unlink()
    with pytest.raises(TrainingError, match="lacks every fold"):
        load_run(tmp_path, ENTRIES)


def test_kept_answers_are_read_as_they_were_given(tmp_path):
    probabilities = np.array([[0.1, 0.5, 0.4], [np.nan] * 3], np.float32)
    np.savez(tmp_path / "before.npz", folds=probabilities, threshold=0.32)
    answers = load_answers(tmp_path / "before.npz", "folds")
    assert answers.judged.tolist() == [True, False]
    assert answers.accepted.tolist() == [True, False]
    assert answers.fractured[0] == pytest.approx(0.6)
