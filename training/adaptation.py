"""Fits what stands behind a frozen network to a hospital's own films, and keeps only what cross-validation says helps.

Nothing here sees a pixel: a film is its score, and the features that the frozen backbone sees in a thumbnail of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.model_selection import StratifiedGroupKFold

from training.calibration import PRIOR, sigmoid
from training.metrics import Bools, Floats, group_parts

FOLDS: Final = 5
SCALE_DEVIATION: Final = 0.5  # how far the scale of the log-odds is expected to move, and below, their bias
BIAS_DEVIATION: Final = 2.0
FEATURE_DEVIATION: Final = 0.05  # of a weight; the features have a standard deviation of 1
AS_IT_IS: Final = "as it is"
CALIBRATION: Final = "calibration"
HEAD: Final = "head"
MIN_OF_A_KIND: Final = {CALIBRATION: 8, HEAD: 20}  # fractured films, and normal ones

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Films:
    """What a frozen network gives for labelled films, and which of them are fractured; one row a film.

    `logit` is the log-odds of a fracture as the network answers now, (n,); `features` is (n, features).
    """

    logit: Floats
    features: Floats
    fractured: Bools
    groups: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.logit)

    def take(self, rows: Rows) -> "Films":
        """Return these films."""
        return Films(self.logit[rows], self.features[rows], self.fractured[rows], self.groups[rows])


@dataclass(frozen=True)
class Change:
    """New log-odds of a fracture: the old times `scale`, plus `bias`, plus features times `weights`, (features,)."""

    scale: float
    bias: float
    weights: Floats

    def apply(self, films: Films) -> Floats:
        """Return the new log-odds. (n,)."""
        return np.asarray(self.scale * films.logit + self.bias + films.features @ self.weights, np.float64)


@dataclass(frozen=True)
class Trial:
    """A stage under cross-validation: its log-odds for films held back, (n,), and its mean loss.

    `gain` is by how much the loss falls below that of the last stage kept, with its standard error over groups.
    """

    stage: str
    logit: Floats
    loss: float
    gain: float
    error: float
    kept: bool


def fit_change(films: Films, stage: str) -> Change:
    """Fit a stage by maximum likelihood, drawn towards no change. Both kinds weigh as in the prior.

    Logistic regression with Gaussian priors around what the network answers now.
    """
    if stage == AS_IT_IS:
        return Change(1.0, 0.0, np.zeros(films.features.shape[1]))
    middle, spread = films.features.mean(axis=0), films.features.std(axis=0) + 1e-6
    columns, deviations = [films.logit[:, None], np.ones((len(films), 1))], [SCALE_DEVIATION, BIAS_DEVIATION]
    if stage == HEAD:
        columns.append((films.features - middle) / spread)
        deviations += [FEATURE_DEVIATION] * films.features.shape[1]
    scale, bias, *moved = _fit_towards(np.hstack(columns), films.fractured, np.array(deviations)).tolist()
    weights = np.array(moved) / spread if moved else np.zeros(len(spread))
    return Change(scale, float(bias - weights @ middle), weights)


def try_stages(films: Films) -> list[Trial]:
    """Cross-validate by group every stage that there are enough films for, first the network as it is.

    A stage is kept if the loss falls.
    """
    trials = [Trial(AS_IT_IS, films.logit, mean_loss(films, films.logit), 0.0, 0.0, kept=True)]
    for stage in _plan_stages(films):
        logit = _hold_back(films, stage)
        gain, error = _compare(films, last_kept(trials).logit, logit)
        trials.append(Trial(stage, logit, mean_loss(films, logit), gain, error, kept=gain > 0))
    return trials


def last_kept(trials: Sequence[Trial]) -> Trial:
    """Return the last stage that was kept."""
    return next(trial for trial in reversed(trials) if trial.kept)


def split_by_group(films: Films) -> list[tuple[Rows, Rows]]:
    """Return rows to fit on and rows to judge: whole groups, both kinds in all parts if possible."""
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    return list(splitter.split(films.features, films.fractured, films.groups))


def weigh(fractured: Bools) -> Floats:
    """Weigh films so that their mean weight is 1 and the fractured among them weigh as in the prior. (n,)."""
    shares = np.where(fractured, 1 - PRIOR["none"], PRIOR["none"])
    counts = np.where(fractured, fractured.sum(), (~fractured).sum())
    return np.asarray(shares / counts * len(fractured), np.float64)


def mean_loss(films: Films, logit: Floats) -> float:
    """Return the mean log loss of these log-odds, both kinds weighing as in the prior."""
    return float(_losses(logit, films.fractured).mean())


def _plan_stages(films: Films) -> list[str]:
    """List the stages that there are enough films of both kinds for, and enough groups to cut into folds."""
    kinds = films.fractured, ~films.fractured
    if min(len(np.unique(films.groups[kind])) for kind in kinds) < FOLDS:
        return []
    return [stage for stage, least in MIN_OF_A_KIND.items() if min(kind.sum() for kind in kinds) >= least]


def _hold_back(films: Films, stage: str) -> Floats:
    logit = np.full(len(films), np.nan)
    for fitted, held in split_by_group(films):
        logit[held] = fit_change(films.take(fitted), stage).apply(films.take(held))
    return logit


def _losses(logit: Floats, fractured: Bools) -> Floats:
    return np.asarray(np.logaddexp(0, np.where(fractured, -logit, logit)) * weigh(fractured), np.float64)


def _compare(films: Films, before: Floats, after: Floats) -> tuple[float, float]:
    """Return by how much the loss falls per film, and the standard error of that over groups."""
    gains = _losses(before, films.fractured) - _losses(after, films.fractured)
    sums = np.array([gains[part].sum() for part in group_parts(films.groups.tolist())])
    return float(gains.mean()), float(sums.std(ddof=1) * np.sqrt(len(sums)) / len(gains))


def _fit_towards(columns: Floats, positive: Bools, deviations: Floats) -> Floats:
    """Return coefficients, the first drawn towards 1 and the others towards 0 by the squares of these deviations."""
    centre = np.zeros(columns.shape[1])
    centre[0] = 1.0
    weights = weigh(positive)

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        logit, moved = columns @ coefficients, (coefficients - centre) / deviations
        value = weights @ np.logaddexp(0, np.where(positive, -logit, logit)) + moved @ moved / 2
        return float(value), columns.T @ (weights * (sigmoid(logit) - positive)) + moved / deviations

    found = minimize(loss, centre, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(found.x, np.float64)
