"""The figures a classifier is judged by, and how certain they are. Truth and scores are arrays of one row per film."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, rankdata

DRAWS = 1000  # of a bootstrap
EDGE = 5  # hits or misses, below which a bootstrap of a share is too narrow

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Metric = Callable[[NDArray[np.intp]], float]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval by bootstrap over groups, its number of films and of groups."""

    value: float
    low: float
    high: float
    images: int
    groups: int


def auc(scores: NDArray[Any], positive: Bools) -> float:
    """Return the chance that a positive scores above a negative, ties half; nan where one of them is missing.

    The same number as scikit-learn's roc_auc_score, in a twentieth of the time: a bootstrap needs it a thousand times.
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def share(hits: Bools) -> float:
    """Return the share of hits; nan of none."""
    return float(hits.mean()) if len(hits) else float("nan")


def calibration_error(confidence: Floats, correct: Bools, bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal count, 0 to 1."""
    order = np.argsort(confidence, kind="stable")
    counts = [len(part) for part in np.array_split(order, bins)]
    starts = np.cumsum([0, *counts[:-1]])[np.array(counts) > 0]
    gaps = np.add.reduceat((confidence - correct)[order], starts) if len(order) else np.zeros(1)
    return float(np.abs(gaps).sum() / max(1, len(order)))


def excess_calibration_error(confidence: Floats, correct: Bools, bins: int = 15, repeats: int = 200) -> float:
    """Return the calibration error less that of a perfect model, whose answers come true as often as it states.

    A perfect model of n films has an error too, by chance alone; it is the mean over `repeats` drawn truths.
    """
    rng = np.random.default_rng(0)
    perfect = [calibration_error(confidence, rng.random(len(confidence)) < confidence, bins) for _ in range(repeats)]
    return calibration_error(confidence, correct, bins) - float(np.mean(perfect))


def bootstrap(metric: Metric, rows: NDArray[np.intp], groups: Sequence[str]) -> Estimate:
    """Estimate `metric(rows)` with the interval that redrawing whole groups gives it.

    `groups` names each film's group, by row of the manifest. Draws in which the metric is undefined are left out.
    """
    rng = np.random.default_rng(0)
    members = [rows[part] for part in group_parts([groups[row] for row in rows])]
    draws = [metric(np.concatenate([members[g] for g in pick])) for pick in _picks(rng, len(members), DRAWS)]
    low, high = np.nanpercentile(draws, [2.5, 97.5]) if np.isfinite(draws).any() else (float("nan"), float("nan"))
    return Estimate(metric(rows), float(low), float(high), len(rows), len(members))


def bootstrap_share(hits: Bools, rows: NDArray[np.intp], groups: Sequence[str]) -> Estimate:
    """Estimate the share of hits, widened near 0 and 1, where redrawing groups hardly varies it.

    With fewer than five groups' worth of hits or of misses the interval reaches as far as Wilson's for as many groups.
    """
    return widen_at_edge(bootstrap(lambda drawn: share(hits[drawn]), rows, groups))


def widen_at_edge(estimate: Estimate, count: int | None = None) -> Estimate:
    """Let an interval near 0 or 1 reach as far as Wilson's of a share of `count`, by default of its groups."""
    count = estimate.groups if count is None else count
    hits = round(estimate.value * count) if np.isfinite(estimate.value) else 0
    if not count or min(hits, count - hits) >= EDGE:
        return estimate
    low, high = wilson(hits, count)
    return replace(estimate, low=min(low, estimate.low), high=max(high, estimate.high))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def group_parts(groups: Sequence[str]) -> list[NDArray[np.intp]]:
    """Return, per group, the indices in the sequence that hold it."""
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if len(order) else []


def _picks(rng: np.random.Generator, count: int, draws: int) -> list[NDArray[np.int64]]:
    return [rng.integers(count, size=count) for _ in range(draws)] if count else []
