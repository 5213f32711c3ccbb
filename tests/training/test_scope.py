import numpy as np
import pytest

from tests.support.runs import make_hospitals
from training.scope import fit_familiarity, fit_scope, judge_scope
from training.splits import fold_split


def draw_features(count=1000, seed=0):
    """Draw features that vary along five of sixty directions, and little otherwise."""
    rng = np.random.default_rng(seed)
    axes = np.random.default_rng(9).normal(size=(5, 60))
    return (rng.normal(size=(count, 5)) @ axes * 3 + rng.normal(size=(count, 60)) * 0.1 + 1).astype(np.float32)


def test_the_scope_tells_bones_from_other_images():
    features = draw_features()
    bone = np.arange(1000) % 2 == 0
    features[~bone] += np.random.default_rng(4).normal(size=60) * 5
    scope = fit_scope(features, bone)
    assert (scope.apply(features[bone]) > 0).mean() > 0.95
    assert (scope.apply(features[~bone]) < 0).mean() > 0.95


def test_without_other_images_every_film_scores_the_same():
    features = draw_features(50)
    assert not fit_scope(features, np.ones(50, bool)).apply(features).any()


def test_familiarity_is_the_share_of_new_films_that_are_at_least_as_far():
    familiarity = fit_familiarity(draw_features(2000), np.arange(2000) % 5)
    shares = familiarity.apply(draw_features(2000, seed=1))
    assert [np.mean(shares <= level) for level in (0.1, 0.5, 0.9)] == pytest.approx([0.1, 0.5, 0.9], abs=0.05)


def test_what_the_components_cannot_describe_is_unfamiliar():
    familiarity = fit_familiarity(draw_features(), np.arange(1000) % 5)
    strange = np.random.default_rng(2).normal(size=(50, 60)).astype(np.float32) * 3
    assert familiarity.apply(strange).max() == 0
    assert familiarity.apply(draw_features(1)[:1] * 0 + draw_features().mean(axis=0)).min() == 1


def test_scope_and_familiarity_of_a_fold_do_not_depend_on_its_films():
    entries = make_hospitals()
    features = draw_features(len(entries))
    split = fold_split(entries, 0)
    before = judge_scope(features, entries, split.train, split.score[:5])
    features[split.score[5:]] += 7
    np.testing.assert_array_equal(judge_scope(features, entries, split.train, split.score[:5]), before)
