"""Tells limb bones from other images, and familiar films from unfamiliar ones, by features of frozen layers.

Both are fitted on the films that a split trains on. They are small enough to become layers of the network: see
`training.export`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.manifest import Entry, take
from training.metrics import Bools, Floats
from training.splits import Rows

Features = NDArray[np.float32]  # (n, features)

REGULARISATION: Final = 1e-3  # scikit-learn's C; chosen once, by leaving out one source of `other` after the other
COMPONENTS: Final = 32
SHARES: Final = (1.0, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.005, 0.0)


@dataclass(frozen=True)
class Scope:
    """A linear score of features, higher for a limb bone."""

    weights: Floats  # (features,)
    bias: float

    def apply(self, features: Features) -> Floats:
        """Return the score. (n,)."""
        return np.asarray(features @ self.weights + self.bias, np.float64)


@dataclass(frozen=True)
class Familiarity:
    """The share of training films that are at least as far from what their principal components can describe.

    `axes` is (features, components). A film at `distances[i]`, increasing, has the share `shares[i]`; linear between.
    """

    mean: Floats
    axes: Floats
    distances: Floats
    shares: Floats

    def apply(self, features: Features) -> Floats:
        """Return the share, 0 to 1. (n,)."""
        return np.asarray(np.interp(_residual(features, self.mean, self.axes), self.distances, self.shares))


def fit_scope(features: Features, bone: Bools) -> Scope:
    """Fit limb bone against `other` by a regularised logistic regression on standardised features, both weighing alike.

    Where all films are bones, every film scores 0.
    """
    if bone.all():
        return Scope(np.zeros(features.shape[1]), 0.0)
    model = LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=500)
    scaler = StandardScaler()
    make_pipeline(scaler, model).fit(features, bone)
    weights = model.coef_[0] / scaler.scale_
    return Scope(np.asarray(weights, np.float64), float(model.intercept_[0] - weights @ scaler.mean_))


def fit_familiarity(bones: Features, folds: Sequence[int]) -> Familiarity:
    """Fit how far bones are from the principal components of other bones.

    One fold gives the distances, the others the components: of films that fitted them, distances would be too short.
    """
    fold = np.asarray(folds)
    held = fold == fold.min()
    mean, axes = _components(bones if held.all() else bones[~held])
    knots = np.quantile(_residual(bones[held], mean, axes), 1 - np.array(SHARES))
    kept = np.concatenate([[True], np.diff(knots) > 0])
    return Familiarity(mean, axes, knots[kept], np.array(SHARES)[kept])


def judge_scope(features: Features, entries: Sequence[Entry], train: Rows, score: Rows) -> tuple[Floats, Floats]:
    """Fit both on the films that a split trains on; return scope and familiarity of those that it holds back."""
    learnt = take(entries, train)
    bone = np.array([entry.label != "other" for entry in learnt])
    familiarity = fit_familiarity(features[train[bone]], [entry.fold for entry in learnt if entry.label != "other"])
    return fit_scope(features[train], bone).apply(features[score]), familiarity.apply(features[score])


def _components(bones: Features) -> tuple[Floats, Floats]:
    """Return the mean, (features,), and the principal axes, (features, components)."""
    count = min(COMPONENTS, len(bones) - 1, bones.shape[1] - 1)
    model = PCA(max(1, count), svd_solver="randomized", random_state=0).fit(bones)
    return np.asarray(model.mean_, np.float64), np.asarray(model.components_.T, np.float64)


def _residual(features: Features, mean: Floats, axes: Floats) -> Floats:
    """Return the squared distance to the space that the axes span through the mean. (n,)."""
    centred = features - mean
    return np.asarray((centred**2).sum(axis=1) - ((centred @ axes) ** 2).sum(axis=1), np.float64)
