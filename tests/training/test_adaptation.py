import numpy as np
import pytest

from training.adaptation import AS_IT_IS, CALIBRATION, HEAD, Films, fit_change, last_kept, split_by_group, try_stages
from training.metrics import auc


def make_films(count=120, scale=1.0, bias=0.0, told_by_features=0.0, groups=None, seed=0):
    """Draw films whose true log-odds are `scale` times what the network says, plus `bias`, plus two features."""
    rng = np.random.default_rng(seed)
    logit, features = rng.normal(-0.7, 1.5, count), rng.normal(size=(count, 30))
    truth = scale * logit + bias + told_by_features * (features[:, 0] - features[:, 1])
    fractured = rng.random(count) < 1 / (1 + np.exp(-truth))
    return Films(logit, features, fractured, np.array([f"g{row % (groups or count)}" for row in range(count)]))


def test_a_stage_that_does_not_help_is_not_kept():
    trials = try_stages(make_films(400))  # drawn from the very log-odds that the network states
    assert [trial.stage for trial in trials] == [AS_IT_IS, CALIBRATION, HEAD]
    assert last_kept(trials).stage == AS_IT_IS
    assert all(trial.gain <= 0 for trial in trials)


def test_a_network_that_is_too_sure_of_itself_is_calibrated():
    films = make_films(200, scale=0.1)
    trials = try_stages(films)
    assert [trial.stage for trial in trials if trial.kept] == [AS_IT_IS, CALIBRATION]
    assert 0 < fit_change(films, CALIBRATION).scale < 0.6


def test_a_head_is_kept_where_the_features_tell_more():
    films, others = make_films(200, told_by_features=3), make_films(2000, told_by_features=3, seed=1)
    assert last_kept(try_stages(films)).stage == HEAD
    change = fit_change(films, HEAD)
    assert auc(change.apply(others), others.fractured) > auc(others.logit, others.fractured) + 0.03


def test_stages_are_tried_only_with_enough_films_of_both_kinds_and_enough_groups():
    def tried(count, groups=None):
        films = make_films(count, groups=groups)
        half = Films(films.logit, films.features, np.arange(count) % 2 == 0, films.groups)
        return [trial.stage for trial in try_stages(half)]

    assert tried(14) == [AS_IT_IS]
    assert tried(16) == tried(38) == [AS_IT_IS, CALIBRATION]
    assert tried(40) == [AS_IT_IS, CALIBRATION, HEAD]
    assert tried(120, groups=8) == [AS_IT_IS]


def test_no_group_is_both_fitted_on_and_judged():
    films = make_films(120, groups=40)
    for fitted, held in split_by_group(films):
        assert not set(films.groups[fitted]) & set(films.groups[held])


def test_as_it_is_changes_nothing():
    films = make_films(20)
    np.testing.assert_array_equal(fit_change(films, AS_IT_IS).apply(films), films.logit)


@pytest.mark.parametrize("stage", [CALIBRATION, HEAD])
def test_what_is_fitted_does_not_depend_on_how_common_fractures_are_among_the_films(stage):
    films = make_films(400)
    rows = np.concatenate([np.flatnonzero(films.fractured), np.flatnonzero(~films.fractured)])
    doubled = films.take(np.concatenate([rows, np.flatnonzero(films.fractured)]))
    once, twice = (fit_change(part, stage).apply(films) for part in (films, doubled))
    assert abs(np.mean(once - twice)) < 0.25
