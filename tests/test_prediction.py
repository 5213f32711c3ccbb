import numpy as np
import pytest

from prediction import OutputError, answer, judge

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
