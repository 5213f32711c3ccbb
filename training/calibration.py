"""Makes probabilities mean what they state, and chooses the confidence from which a film counts as recognised.

Everything here is fitted on scores for films that the network was not trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from training.errors import TrainingError
from training.manifest import CLASS_NAMES, Entry
from training.metrics import Bools, Floats, group_parts

PRIOR: Final = {"fisura": 0.07, "fractura": 0.26, "none": 0.67}  # of films of limb bones
IN_SCOPE: Final = 0.9  # prior of a film's showing a limb bone at all

THRESHOLDS: Final = np.round(np.arange(0.05, 0.996, 0.005), 3)
MAX_NORMALS_ACCEPTED: Final = 0.07
MAX_OTHERS_ACCEPTED: Final = 0.08
MAX_UNSEEN_NORMALS_ACCEPTED: Final = 0.30
BOUND: Final = 0.90  # one-sided confidence of the bounds that must stay below a limit
SHARE_ITSELF: Final = 0.50

_MIN_NORMALS: Final = 30  # a source with fewer cannot bound its own rate
_MIN_KIND: Final = 15  # a source with fewer of either kind does not fit a line


@dataclass(frozen=True)
class Scores:
    """What networks give for films that they were not trained on, (n,) each; nan where no network judged the film.

    `known`, `type` and `scope` are scores, higher for a fracture, for fisura among fractures, for a limb bone;
    `familiarity` is a share, 0 to 1.
    """

    known: Floats
    type: Floats
    scope: Floats
    familiarity: Floats

    @property
    def judged(self) -> Bools:
        """Return which films were judged. (n,)."""
        return np.isfinite(self.known)


@dataclass(frozen=True)
class Line:
    """A score times a scale plus a bias gives log-odds: Platt's scaling (Platt 1999)."""

    scale: float
    bias: float

    def apply(self, score: Floats) -> Floats:
        """Return the probability. (n,)."""
        return sigmoid(score * self.scale + self.bias)


ALL_IN_SCOPE: Final = Line(0.0, 60.0)


@dataclass(frozen=True)
class Calibration:
    """One line each for limb bone or not, for fractured or not, and for fisura or fractura."""

    scope: Line
    known: Line
    type: Line

    def apply(self, scores: Scores) -> Floats:
        """Return the probabilities of fisura, fractura and none: (n, 3)."""
        fractured = self.scope.apply(scores.scope) * self.known.apply(scores.known)
        fisura = self.type.apply(scores.type)
        return np.stack([fractured * fisura, fractured * (1 - fisura), 1 - fractured], axis=1)


def fit_calibration(scores: Scores, entries: Sequence[Entry]) -> Calibration:
    """Fit the three lines by maximum likelihood, every source weighing alike and both kinds as in the prior.

    A source takes part in a line if it holds enough of both kinds; for the scope, all sources together count as one.
    Where no film is `other`, every film is in scope. Raise TrainingError where a kind is missing.
    """
    sources = np.array([entry.source for entry in entries])
    labels = np.array([entry.label for entry in entries])
    bone, fisura, typed = labels != "other", labels == CLASS_NAMES[0], np.isin(labels, CLASS_NAMES)
    fractured = bone & (labels != "normal")
    known_prior = 1 - PRIOR["none"]

    def fit(score: Floats, positive: Bools, among: Bools, prior: float) -> Line:
        return _fit_line(score[among], positive[among], _weigh_sources(sources[among], positive[among], prior))

    return Calibration(
        _fit_scope_line(scores.scope, bone),
        fit(scores.known, fractured, bone, known_prior),
        fit(scores.type, fisura, typed, PRIOR["fisura"] / known_prior),
    )


def confidence(probabilities: NDArray[np.floating]) -> Floats:
    """Return the contract's confidence: the highest output among the known classes. (n,)."""
    return np.asarray(probabilities[:, : len(CLASS_NAMES)].max(axis=1), np.float64)


def shift(probabilities: Floats, prevalence: dict[str, float]) -> Floats:
    """Shift probabilities, (n, 3), from the prior to another prevalence, as the service does (Saerens et al. 2002)."""
    shifted = probabilities * [prevalence[name] / PRIOR[name] for name in PRIOR]
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float64)


@dataclass(frozen=True)
class Stratum:
    """Films that must not be accepted, by their confidence and groups, and the share of them that may be.

    `level` is the confidence with which the share must be within the limit.
    """

    scores: Floats
    groups: Sequence[str]
    limit: float
    level: float


def normal_strata(scores: Floats, entries: Sequence[Entry], limit: float, level: float) -> list[Stratum]:
    """Return the normal films of each source with enough of them."""
    labels = np.array([entry.label for entry in entries])
    sources = np.array([entry.source for entry in entries])
    parts = [(labels == "normal") & (sources == source) for source in np.unique(sources)]
    return [_stratum(scores, entries, part, limit, level) for part in parts if part.sum() >= _MIN_NORMALS]


def other_strata(scores: Floats, entries: Sequence[Entry]) -> list[Stratum]:
    """Return the images that show no limb bone and are not photographs, as one stratum, or none if they are few."""
    medical = np.array([entry.label == "other" and not entry.is_photograph for entry in entries], bool)
    return [_stratum(scores, entries, medical, MAX_OTHERS_ACCEPTED, BOUND)] if medical.sum() >= _MIN_NORMALS else []


def choose_threshold(parts: Sequence[Stratum]) -> float:
    """Choose the smallest threshold that keeps the share accepted of every stratum within its limit.

    The share is the bootstrap's, over groups, at the stratum's level. The highest threshold where none does.
    """
    fits = np.ones(len(THRESHOLDS), bool)
    for part in parts:
        fits &= _acceptance_bound(part) <= part.limit
    return float(THRESHOLDS[fits.argmax()] if fits.any() else THRESHOLDS[-1])


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x))."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -60, 60))), np.float64)


def _stratum(scores: Floats, entries: Sequence[Entry], part: Bools, limit: float, level: float) -> Stratum:
    return Stratum(scores[part], [entries[row].group for row in np.flatnonzero(part).tolist()], limit, level)


def _weigh_sources(sources: NDArray[np.str_], positive: Bools, prior: float) -> Floats:
    """Weigh films so that each source adds up to 1, its positives to the prior; 0 in a source with too few of a kind.

    Where every source has too few, all films count as one source.
    """
    weights = np.zeros(len(sources))
    for source in np.unique(sources):
        inside = sources == source
        kinds = (inside & positive, prior), (inside & ~positive, 1 - prior)
        if min(kind.sum() for kind, _ in kinds) >= _MIN_KIND:
            for kind, total in kinds:
                weights[kind] = total / kind.sum()
    if weights.any():
        return weights
    alike = np.where(positive, prior / max(1, positive.sum()), (1 - prior) / max(1, (~positive).sum()))
    return np.asarray(alike, np.float64)


def _fit_scope_line(score: Floats, bone: Bools) -> Line:
    if bone.all():
        return ALL_IN_SCOPE
    return _fit_line(score, bone, _weigh_sources(np.full(len(bone), ""), bone, IN_SCOPE))


def _fit_line(score: Floats, positive: Bools, weights: Floats) -> Line:
    counted = weights > 0
    if len(np.unique(positive[counted])) < 2:
        raise TrainingError("a calibration needs films of both kinds: fractured and normal, fisura and fractura")
    model = LogisticRegression(C=np.inf).fit(score[counted, None], positive[counted], weights[counted] * counted.sum())
    return Line(float(model.coef_[0, 0]), float(model.intercept_[0]))


def _acceptance_bound(stratum: Stratum, repeats: int = 1000) -> Floats:
    """Return, for each threshold, the share accepted: the bootstrap's quantile of that level over whole groups."""
    parts = group_parts(stratum.groups)
    accepted = np.array([(stratum.scores[part, None] >= THRESHOLDS).sum(axis=0) for part in parts])
    sizes = np.array([len(part) for part in parts])
    draws = np.random.default_rng(0).multinomial(len(parts), np.full(len(parts), 1 / len(parts)), size=repeats)
    shares = (draws @ accepted) / (draws @ sizes)[:, None]
    return np.asarray(np.quantile(shares, stratum.level, axis=0), np.float64)
