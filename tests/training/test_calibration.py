import dataclasses

import numpy as np
import pytest

from tests.support.entries import make_entries, make_entry
from tests.support.runs import make_hospitals
from training.calibration import (
    PRIOR,
    Scores,
    choose_threshold,
    confidence,
    fit_calibration,
    normal_strata,
    other_strata,
    shift,
)
from training.errors import TrainingError


def draw_scores(entries, gap=2.0, seed=0):
    rng = np.random.default_rng(seed)
    kinds = [
        [entry.is_fractured for entry in entries],
        [entry.label == "fisura" for entry in entries],
        [entry.label != "other" for entry in entries],
    ]
    known, kind, scope = (rng.normal(size=len(entries)) + gap * np.array(positive) for positive in kinds)
    return Scores(known, kind, scope, np.ones(len(entries)))


def test_calibrated_probabilities_add_up_and_mean_what_they_state_at_the_prior():
    entries = make_hospitals(6000)
    probabilities = fit_calibration(draw_scores(entries), entries).apply(draw_scores(entries, seed=1))
    assert probabilities.sum(axis=1) == pytest.approx(1)
    labels = np.array([entry.label for entry in entries])
    shares = [probabilities[labels == label].mean(axis=0) for label in ("fisura", "fractura", "normal")]
    at_prior = np.sum([share * mean for share, mean in zip(PRIOR.values(), shares, strict=True)], axis=0)
    np.testing.assert_allclose(at_prior, list(PRIOR.values()), atol=0.03)


def test_calibration_undoes_overconfidence():
    entries = make_hospitals(3000)
    scores = draw_scores(entries)
    loud = Scores(scores.known * 10 + 5, scores.type * 10, scores.scope * 10, scores.familiarity)
    quiet = fit_calibration(scores, entries).apply(scores)
    np.testing.assert_allclose(fit_calibration(loud, entries).apply(loud), quiet, atol=0.01)


def test_a_source_that_holds_every_film_twice_counts_no_more_than_another():
    north, south = make_hospitals(240, ["north"]), make_hospitals(240, ["south"])
    entries = [*north, *south]
    scores = draw_scores(entries)
    scores.known[: len(north)] += 2
    again = np.r_[np.arange(len(entries)), np.arange(len(north))]
    twice = Scores(*(getattr(scores, field.name)[again] for field in dataclasses.fields(Scores)))
    once, more = (fit_calibration(*given) for given in ((scores, entries), (twice, [entries[row] for row in again])))
    for name in ("known", "type"):
        assert dataclasses.astuple(getattr(more, name)) == pytest.approx(
            dataclasses.astuple(getattr(once, name)), abs=0.01
        )


def test_an_untyped_fracture_counts_as_fractured_and_not_for_the_type():
    entries = make_entries()
    untyped = [make_entry("fracture_untyped", group=f"u{row}") for row in range(100)]
    alone, both = draw_scores(entries), draw_scores([*entries, *untyped])
    for name in ("known", "type", "scope"):
        getattr(both, name)[: len(entries)] = getattr(alone, name)
    first, second = fit_calibration(alone, entries), fit_calibration(both, [*entries, *untyped])
    assert second.type == first.type
    assert second.known != first.known


def test_without_other_images_every_film_is_in_scope():
    entries = [entry for entry in make_hospitals() if entry.label != "other"]
    probabilities = fit_calibration(draw_scores(entries), entries).apply(draw_scores(entries))
    assert probabilities[:, :2].sum(axis=1).max() > 0.9


def test_films_of_one_kind_alone_cannot_be_calibrated():
    entries = [make_entry("fractura", group=f"g{row}") for row in range(50)]
    with pytest.raises(TrainingError, match="both kinds"):
        fit_calibration(draw_scores(entries), entries)


def test_the_threshold_keeps_false_acceptance_below_its_limit():
    entries = make_entries(700)
    scores = np.random.default_rng(4).random(700)
    threshold = choose_threshold([*normal_strata(scores, entries, 0.07, 0.9), *other_strata(scores, entries)])
    normal = np.array([entry.label == "normal" for entry in entries])
    assert 0.9 < threshold < 1
    assert (scores[normal] >= threshold).mean() < 0.07


def test_the_threshold_holds_on_a_source_left_out_with_a_limit_of_its_own():
    entries = make_entries(700)
    scores = np.random.default_rng(4).random(700)
    threshold = choose_threshold(normal_strata(scores, entries, 0.3, 0.9))
    normal = np.array([entry.label == "normal" for entry in entries])
    assert 0.65 < threshold < 0.8
    assert 0.2 < (scores[normal] >= threshold).mean() < 0.3


def test_a_bound_asks_for_a_higher_threshold_than_the_share_itself():
    entries = make_entries(700)
    scores = np.random.default_rng(4).random(700)
    bound, share = (choose_threshold(normal_strata(scores, entries, 0.07, level)) for level in (0.9, 0.5))
    assert bound > share
    normal = np.array([entry.label == "normal" for entry in entries])
    assert (scores[normal] >= share).mean() == pytest.approx(0.07, abs=0.01)


def test_few_normals_and_photographs_do_not_bound_the_threshold():
    few = [make_entry("normal", group=f"g{row}") for row in range(20)]
    photographs = [dataclasses.replace(make_entry("other"), original_label="photo cat") for _ in range(50)]
    assert normal_strata(np.ones(20), few, 0.07, 0.9) == []
    assert other_strata(np.ones(50), photographs) == []
    assert choose_threshold([]) == 0.05


def test_confidence_is_the_likelier_known_class():
    assert confidence(np.array([[0.2, 0.3, 0.5]])) == pytest.approx([0.3])


def test_a_shift_to_the_prior_itself_changes_nothing_and_a_rarer_class_becomes_less_likely():
    probabilities = np.array([[0.2, 0.3, 0.5]])
    np.testing.assert_allclose(shift(probabilities, PRIOR), probabilities)
    rare = shift(probabilities, {"fisura": 0.01, "fractura": 0.04, "none": 0.95})
    assert rare[0, 0] < 0.05
    assert rare.sum() == pytest.approx(1)
