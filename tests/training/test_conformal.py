import numpy as np
import pytest

from tests.support.entries import make_entry
from training.calibration import PRIOR
from training.conformal import COVERAGE, fit_quantiles, possible, true_classes


def draw_probabilities(count, seed):
    """Draw probabilities (n, 3) and true classes that follow them, for which none is commonest."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.6, 1.2, 2.0], count)
    truth = (rng.random((count, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    return probabilities, truth


def test_new_films_of_each_class_are_covered_as_often_as_stated():
    quantiles = np.array(list(fit_quantiles(*draw_probabilities(4000, 0)).values()))
    probabilities, truth = draw_probabilities(4000, 1)
    sets = possible(probabilities, quantiles)
    for index in range(3):
        assert sets[truth == index, index].mean() == pytest.approx(COVERAGE, abs=0.03)
    assert sets.sum(axis=1).mean() < 2.5


def test_a_class_with_too_few_films_is_never_excluded():
    probabilities, _ = draw_probabilities(5, 0)
    quantiles = fit_quantiles(probabilities, np.zeros(5, int))
    assert quantiles == dict.fromkeys(PRIOR, 1.0)
    assert possible(probabilities, np.ones(3)).all()


def test_untyped_fractures_and_other_images_calibrate_no_class():
    labels = ("fisura", "fractura", "normal", "fracture_untyped", "other")
    assert true_classes([make_entry(label) for label in labels]).tolist() == [0, 1, 2, -1, -1]


@pytest.mark.filterwarnings("ignore:.*conformalization dataset has less labels:UserWarning")
def test_mapie_gives_the_same_sets():
    pytest.importorskip("mapie", reason="MAPIE is missing: pip install -r requirements/dev.txt")
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        """A fitted classifier whose inputs are its probabilities."""

        classes_ = np.arange(3)

        def fit(self, *_):
            return self

        def predict_proba(self, x):
            return x

        def predict(self, x):
            return x.argmax(axis=1)

        def __sklearn_is_fitted__(self):
            return True

    known, truth = draw_probabilities(900, 0)
    new, _ = draw_probabilities(300, 1)
    ours = possible(new, np.array(list(fit_quantiles(known, truth).values())))
    for index in range(3):  # MAPIE has no class-conditional sets: one classifier is calibrated on each class by itself
        mapie = SplitConformalClassifier(Given(), confidence_level=COVERAGE, conformity_score="lac", prefit=True)
        mapie.conformalize(known[truth == index], truth[truth == index])
        _, theirs = mapie.predict_set(new)
        np.testing.assert_array_equal(ours[:, index], theirs[:, index, 0])
