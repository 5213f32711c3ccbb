import dataclasses

import numpy as np
import pytest

from inference.prevalence import Prevalence
from model_loader import Outputs, Setting
from prediction import OutputError, answer, judge, judge_outputs, judge_shifted, shift
from tests.conftest import make_classifier

TWO = ("fisura", "fractura")


def shares(outputs, class_names=TWO):
    return judge(np.array(outputs), class_names, 0.5).shares


def test_the_example_of_a_success_in_the_contract():
    verdict = judge(np.array([0.005, 0.995]), TWO, 0.985)
    assert answer(verdict, "unused") == {
        "success": 1,
        "predictedClass": "fractura",
        "confidence": 99.5,
        "allProbabilities": [{"class": "fisura", "probability": 0.5}, {"class": "fractura", "probability": 99.5}],
    }
    assert list(answer(verdict, "unused")) == ["success", "predictedClass", "confidence", "allProbabilities"]


def test_the_example_of_a_failure_in_the_contract():
    # 55 % among the known classes, times 82 % for any known class, is 45 %
    verdict = judge(np.array([0.369, 0.451, 0.18]), TWO, 0.985)
    body = answer(verdict, "ninguna")
    assert list(body) == ["success", "message", "confidence", "allProbabilities"]
    assert body["confidence"] == 45.1
    assert [entry["probability"] for entry in body["allProbabilities"]] == [45.0, 55.0]


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([1.0, 0.0], (10000, 0)),
        ([0.5, 0.5], (5000, 5000)),
        ([0.33335, 0.66665], (3334, 6666)),  # a tie of remainders goes to the earlier class
        ([0.66665, 0.33335], (6667, 3333)),
        ([0.2, 0.2, 0.6], (5000, 5000)),
        ([3e-7, 6e-7, 0.9999991], (5000, 5000)),  # together under 1e-6: equal shares
    ],
)
def test_shares_are_rounded_by_largest_remainder(outputs, expected):
    assert shares(outputs) == expected


def test_three_equal_classes_add_up():
    assert shares([1 / 3, 1 / 3, 1 / 3], ("a", "b", "c")) == (3334, 3333, 3333)


def test_rounding_errors_of_the_division_do_not_decide_a_tie():
    exact = np.array([10.2, 1000.2, 2000.2, 3000.2, 3989.2]) / 10_000
    assert shares(exact, tuple("abcde")) == (11, 1000, 2000, 3000, 3989)


def test_shares_always_add_up_and_confidence_never_exceeds_them():
    random = np.random.default_rng(1)
    for classes in (2, 3, 7):
        for has_none in (0, 1):
            for outputs in random.dirichlet(np.full(classes + has_none, 0.3), 500).astype(np.float32):
                verdict = judge(outputs, [str(index) for index in range(classes)], 0.9)
                assert sum(verdict.shares) == 10_000
                assert verdict.confidence <= max(verdict.shares)
                assert has_none or verdict.confidence == max(verdict.shares)
                assert min(verdict.shares) >= 0


def test_confidence_counts_the_none_output():
    verdict = judge(np.array([0.1, 0.6, 0.3]), TWO, 0.6)
    assert verdict.confidence == 6000
    assert verdict.accepted
    assert verdict.shares == (1429, 8571)


def test_without_any_known_output_the_confidence_is_zero():
    assert judge(np.array([0.0, 0.0, 1.0]), TWO, 0.1).confidence == 0


def test_the_threshold_is_compared_with_the_number_shown():
    assert judge(np.array([0.98496, 0.01504]), TWO, 0.985).accepted  # shown as 98.5
    assert not judge(np.array([0.98494, 0.01506]), TWO, 0.985).accepted  # shown as 98.49
    assert judge(np.array([0.985, 0.015], dtype=np.float32), TWO, 0.985).accepted


def test_outputs_slightly_below_zero_count_as_zero():
    outputs = np.float32([-1e-7, 0.4, 0.6])
    assert judge(outputs, TWO, 0.3) == judge(np.float32([0, 0.4, 0.6]), TWO, 0.3)


@pytest.mark.parametrize(
    "outputs", [[np.nan, 1.0], [np.inf, 0.0], [0.5, 0.48], [0.5, 0.52], [1.5, -0.5], [1.0], [0.25] * 4, [[0.5, 0.5]]]
)
def test_outputs_that_are_not_probabilities_are_an_error(outputs):
    with pytest.raises(OutputError):
        judge(np.array(outputs), TWO, 0.5)


# Prior 0.1, 0.3, 0.6 and prevalence 0.02, 0.06, 0.92. By hand: 0.2, 0.5, 0.3 times these are 0.04, 0.1, 0.46, or 1/15,
# 1/6, 23/30. At a threshold of 0.4 the odds are 0.4 * 0.2 to 0.6 * (0.04 + 0.46) / 0.5, which is 2/17.
RATIOS = (0.2, 0.2, 0.92 / 0.6)


def test_a_shift_to_another_prevalence_multiplies_and_adds_up_to_one_again():
    assert shift(np.array([0.2, 0.5, 0.3]), RATIOS) == pytest.approx([1 / 15, 1 / 6, 23 / 30])
    assert shift(np.array([0.2, 0.5, 0.3]), (1, 1, 1)) == pytest.approx([0.2, 0.5, 0.3])


def test_the_threshold_is_carried_over_for_each_image():
    verdict = judge_shifted(np.array([0.2, 0.5, 0.3]), RATIOS, TWO, 0.4)
    assert verdict.threshold == pytest.approx(2 / 17)
    assert (verdict.accepted, verdict.confidence, verdict.none) == (True, 1667, 7667)
    assert verdict.shares == (2857, 7143)
    refused = judge_shifted(np.array([0.2, 0.35, 0.45]), RATIOS, TWO, 0.4)
    assert (refused.accepted, refused.reason) == (False, "none")
    assert refused.threshold > refused.confidence / 10_000


def test_the_shift_accepts_exactly_what_was_accepted_before():
    random = np.random.default_rng(3)
    changed = 0
    for outputs in [*random.dirichlet((0.5, 0.5, 0.8), 1500), *np.eye(3), np.array([0.0, 0.4, 0.6])]:
        ratios = random.uniform(0.05, 3, 3)
        before, after = judge(outputs, TWO, 0.32), judge_shifted(outputs, ratios, TWO, 0.32)
        changed += before.best != after.best
        assert after.accepted == before.accepted
        assert after.accepted == (after.confidence >= round(10_000 * after.threshold, 6))
        assert 0 <= after.threshold <= 1.0001
    assert changed > 50  # images whose likeliest class is another after the shift


def classifier_with(threshold_source="file", outputs=(0.2, 0.5, 0.3), familiarity=None, **facts):
    row = np.array([outputs], np.float32)
    share = None if familiarity is None else np.array([[familiarity]], np.float32)
    given = Outputs(row, familiarity=share)
    plain = make_classifier(threshold=0.4, outputs=len(outputs))
    settings = dict(plain.settings) | {"threshold": Setting(0.4, threshold_source)}
    return dataclasses.replace(plain, settings=settings, **facts), given


def test_a_threshold_of_the_operator_is_compared_as_it_stands():
    prevalence = Prevalence({"fisura": 0.02, "fractura": 0.06, "none": 0.92}, RATIOS)
    verdict = judge_outputs(*classifier_with("environment", prevalence=prevalence))
    assert (verdict.threshold, verdict.accepted, verdict.confidence) == (0.4, False, 1667)
    for source in ("file", "default"):
        verdict = judge_outputs(*classifier_with(source, prevalence=prevalence))
        assert (round(verdict.threshold, 6), verdict.accepted) == (round(2 / 17, 6), True)


def test_outputs_that_are_not_probabilities_are_an_error_at_any_prevalence():
    prevalence = Prevalence({}, RATIOS)
    for source in ("file", "environment"):
        with pytest.raises(OutputError):
            judge_outputs(*classifier_with(source, outputs=(0.2, 0.5, 0.2), prevalence=prevalence))


def test_without_prior_quantiles_or_familiarity_the_verdict_is_that_of_the_outputs():
    verdict = judge_outputs(*classifier_with())
    assert verdict == judge(np.float32([0.2, 0.5, 0.3]), TWO, 0.4)
    assert (verdict.possible, verdict.certainty, verdict.fractured, verdict.threshold) == (None, "sure", 7000, 0.4)


# A name is possible from an output of 1 minus its quantile: 0.45, 0.3, 0.25.
QUANTILES = {"fisura": 0.55, "fractura": 0.7, "none": 0.75}


@pytest.mark.parametrize(
    ("outputs", "possible", "certainty"),
    [
        ((0.05, 0.9, 0.05), ("fractura",), "sure"),
        ((0.05, 0.6, 0.35), ("fractura", "none"), "doubtful"),
        ((0.45, 0.45, 0.1), ("fisura", "fractura"), "doubtful"),
        ((0.02, 0.03, 0.95), ("none",), "sure"),
        ((0.1, 0.38, 0.52), ("fractura", "none"), "doubtful"),  # refused, but it may be one
        ((0.42, 0.29, 0.29), ("none",), "doubtful"),  # accepted, but excluded
    ],
)
def test_what_cannot_be_excluded_says_how_certain_a_verdict_is(outputs, possible, certainty):
    verdict = judge_outputs(*classifier_with(outputs=outputs, conformal=QUANTILES))
    assert (verdict.possible, verdict.certainty) == (possible, certainty)


def test_where_no_name_is_possible_the_verdict_is_doubtful():
    strict = dict.fromkeys(("fisura", "fractura", "none"), 0.1)
    verdict = judge_outputs(*classifier_with(outputs=(0.1, 0.7, 0.2), conformal=strict))
    assert (verdict.possible, verdict.certainty) == ((), "doubtful")


def test_what_is_possible_does_not_depend_on_the_prevalence():
    prevalence = Prevalence({}, RATIOS)
    found = judge_outputs(*classifier_with(outputs=(0.05, 0.9, 0.05), conformal=QUANTILES, prevalence=prevalence))
    assert found.possible == ("fractura",)
    assert found.shares == (526, 9474)


def test_an_accepted_class_that_is_less_likely_than_none_is_doubtful():
    assert judge_outputs(*classifier_with(outputs=(0.05, 0.45, 0.5))).certainty == "doubtful"
    assert judge_outputs(*classifier_with(outputs=(0.05, 0.35, 0.6))).certainty == "sure"  # sure that it is neither
    assert judge_outputs(*classifier_with(outputs=(0.05, 0.55, 0.4))).certainty == "sure"


@pytest.mark.parametrize(("familiarity", "certainty"), [(0.0, "unfamiliar"), (0.0099, "unfamiliar"), (0.01, "sure")])
def test_what_is_farther_than_99_percent_of_the_training_images_is_unfamiliar(familiarity, certainty):
    assert judge_outputs(*classifier_with(outputs=(0.05, 0.9, 0.05), familiarity=familiarity)).certainty == certainty


def test_fractured_and_none_add_up_and_fractured_is_never_below_the_confidence():
    for outputs in np.random.default_rng(5).dirichlet((0.5, 0.5, 0.5), 500):
        verdict = judge(outputs, TWO, 0.5)
        assert verdict.fractured in (10_000 - verdict.none, verdict.confidence)
        assert verdict.fractured >= verdict.confidence
    assert judge(np.array([0.3, 0.7]), TWO, 0.5).fractured is None
