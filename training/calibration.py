"""Makes probabilities mean what they say, and chooses the confidence from which an image counts as recognised.

Both are fitted on outputs for images that the network was not trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from training.manifest import CLASS_NAMES, Entry, take
from training.metrics import Bools, Floats, group_parts

THRESHOLDS: Final = np.round(np.arange(0.05, 0.996, 0.005), 3)
MAX_NORMALS_ACCEPTED: Final = 0.07
MAX_OTHERS_ACCEPTED: Final = 0.08
BOUND: Final = 0.90  # one-sided confidence of the bound that must stay below those

_MIN_STRATUM: Final = 30  # a source with fewer normals than this cannot bound its own rate
_CLIP: Final = 1e-6


@dataclass(frozen=True)
class Line:
    """Log-odds times a scale plus a bias: Platt's scaling (Platt 1999)."""

    scale: float
    bias: float

    def apply(self, log_odds: Floats) -> Floats:
        """Return the calibrated log-odds. (n,)."""
        return np.asarray(log_odds * self.scale + self.bias, np.float64)


@dataclass(frozen=True)
class Calibration:
    """One line for fractured or not, one for fisura or fractura."""

    known: Line
    type: Line

    def apply(self, probabilities: NDArray[np.floating]) -> Floats:
        """Return calibrated probabilities of the network's own, (n, 3) both."""
        lines = zip((self.known, self.type), log_odds(probabilities), strict=True)
        known, kind = (_sigmoid(line.apply(x)) for line, x in lines)
        return np.stack([known * kind, known * (1 - kind), 1 - known], axis=1)


def log_odds(probabilities: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Return the log-odds of fractured against not, and of fisura against fractura, of (..., 3): (...) each."""
    fisura, fractura, none = np.moveaxis(np.clip(probabilities.astype(np.float64), _CLIP, 1), -1, 0)
    return np.log((fisura + fractura) / none), np.log(fisura / fractura)


def fit_calibration(probabilities: NDArray[np.floating], entries: Sequence[Entry]) -> Calibration:
    """Fit both lines by maximum likelihood to the networks' probabilities, (n, 3).

    Untyped fractures are left out: the prior is that of the rest.
    """
    typed = np.array([entry.is_typed for entry in entries])
    untyped = np.array([entry.label == "fracture_untyped" for entry in entries])
    fisura = np.array([entry.label == CLASS_NAMES[0] for entry in entries])
    known, kind = log_odds(probabilities)
    return Calibration(_fit_line(known[~untyped], typed[~untyped]), _fit_line(kind[typed], fisura[typed]))


def cross_calibrate(
    probabilities: NDArray[np.floating], entries: Sequence[Entry], damaged: NDArray[np.floating] | None = None
) -> Floats:
    """Calibrate each fold's outputs, (n, 3), by the lines that the other folds' outputs give. (n, 3).

    With `damaged`, those outputs are calibrated by the lines of the undamaged ones.
    """
    folds = np.array([entry.fold for entry in entries])
    judged = probabilities if damaged is None else damaged
    calibrated = np.empty((len(entries), 3), np.float64)
    for fold in np.unique(folds):
        others = np.flatnonzero(folds != fold)
        calibration = fit_calibration(probabilities[others], take(entries, others))
        calibrated[folds == fold] = calibration.apply(judged[folds == fold])
    return calibrated


def confidence(probabilities: NDArray[np.floating]) -> Floats:
    """Return the contract's confidence: the highest output among the known classes. (n,)."""
    return np.asarray(probabilities[:, : len(CLASS_NAMES)].max(axis=1), np.float64)


def choose_threshold(scores: Floats, entries: Sequence[Entry]) -> float:
    """Choose the smallest threshold that accepts few enough of what is no fracture; the highest where none does.

    In each source of normal bones by itself, the one-sided 90 % group-bootstrap bound of those accepted is at most
    7 %; of `other` that is no photograph, at most 8 %.
    """
    fits = np.ones(len(THRESHOLDS), bool)
    for rows, limit in _strata(entries):
        fits &= _acceptance_bound(scores[rows], [entries[row].group for row in rows]) <= limit
    return float(THRESHOLDS[fits.argmax()] if fits.any() else THRESHOLDS[-1])


def prior(entries: Sequence[Entry]) -> dict[str, float]:
    """Return the shares of fisura, fractura and none for which confidence is calibrated."""
    counted = [entry for entry in entries if entry.label != "fracture_untyped"]
    shares = {name: sum(entry.label == name for entry in counted) / len(counted) for name in CLASS_NAMES}
    return {**shares, "none": 1 - sum(shares.values())}


def _strata(entries: Sequence[Entry]) -> list[tuple[NDArray[np.intp], float]]:
    sources = sorted({entry.source for entry in entries if entry.label == "normal"})
    normals = [_rows(entries, "normal", source) for source in sources]
    others = np.array(
        [row for row, entry in enumerate(entries) if entry.label == "other" and not entry.is_photograph], int
    )
    strata = [(rows, MAX_NORMALS_ACCEPTED) for rows in normals] + [(others, MAX_OTHERS_ACCEPTED)]
    return [(rows, limit) for rows, limit in strata if len(rows) >= _MIN_STRATUM]


def _rows(entries: Sequence[Entry], label: Literal["normal"], source: str) -> NDArray[np.intp]:
    return np.array([row for row, entry in enumerate(entries) if (entry.label, entry.source) == (label, source)], int)


def _acceptance_bound(scores: Floats, groups: Sequence[str], repeats: int = 1000) -> Floats:
    """Return, for each threshold, the bound of the share accepted: the bootstrap's 90 % point over whole groups."""
    parts = group_parts(groups)
    accepted = np.array([(scores[part, None] >= THRESHOLDS).sum(axis=0) for part in parts])
    sizes = np.array([len(part) for part in parts])
    draws = np.random.default_rng(0).multinomial(len(parts), np.full(len(parts), 1 / len(parts)), size=repeats)
    shares = (draws @ accepted) / (draws @ sizes)[:, None]
    return np.asarray(np.quantile(shares, BOUND, axis=0), np.float64)


def _fit_line(x: Floats, positive: Bools, steps: int = 50, ridge: float = 1e-3) -> Line:
    """Fit P(positive) = sigmoid(scale * x + bias).

    Newton's method, with halved steps where a whole one overshoots; the ridge only keeps the lines of separable data
    finite.
    """
    design = np.stack([x, np.ones_like(x)], axis=1)
    line = np.zeros(2)
    for _ in range(steps):
        p = _sigmoid(design @ line)
        gradient = design.T @ (p - positive) + ridge * line
        hessian = (design * (p * (1 - p))[:, None]).T @ design + ridge * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while _line_loss(design, positive, line - step, ridge) > _line_loss(design, positive, line, ridge) + 1e-9:
            step = step / 2
        line = line - step
    return Line(*line.tolist())


def _line_loss(design: Floats, positive: Bools, line: Floats, ridge: float) -> float:
    signs = np.where(positive, -1.0, 1.0)
    return float(np.logaddexp(0, signs * (design @ line)).sum() + ridge * (line @ line) / 2)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -60, 60))), np.float64)
