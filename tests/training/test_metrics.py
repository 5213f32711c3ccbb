import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.metrics import auc, bootstrap, calibration_error, excess_calibration_error


def test_auc_counts_ties_half_and_knows_when_it_is_undefined():
    assert auc(np.array([1, 2, 3, 4]), np.array([False, False, True, True])) == 1
    assert auc(np.array([1, 1]), np.array([False, True])) == 0.5
    assert np.isnan(auc(np.array([1.0]), np.array([True])))


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 20, 300), rng.random(300) < 0.4
    assert auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_an_interval_widens_when_groups_are_larger():
    hits = np.random.default_rng(0).random(400) < 0.5
    rows = np.arange(400)
    alone = bootstrap(lambda rows: hits[rows].mean(), rows, [str(row) for row in rows])
    hits = np.repeat(hits[:20], 20)
    grouped = bootstrap(lambda rows: hits[rows].mean(), rows, [str(row // 20) for row in rows])
    assert alone.groups == 400
    assert grouped.groups == 20
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_a_perfect_model_has_no_excess_calibration_error():
    rng = np.random.default_rng(1)
    stated = rng.random(4000)
    right = rng.random(4000) < stated
    assert calibration_error(stated, right) < 0.05
    assert abs(excess_calibration_error(stated, right)) < 0.01
    assert excess_calibration_error(stated**3, right) > 0.1
