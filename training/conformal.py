"""Which of fisura, fractura and none cannot be excluded at 90 %: class-conditional conformal sets.

A class belongs to a film's set while 1 less its probability is at most the class's quantile: Sadinle, Lei and
Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", JASA 2019.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.calibration import PRIOR
from training.manifest import Entry
from training.metrics import Bools, Floats

COVERAGE: Final = 0.90


def fit_quantiles(probabilities: Floats, truth: NDArray[np.intp]) -> dict[str, float]:
    """Return the quantile of each class.

    `probabilities` is (n, 3); `truth`, (n,), is each film's class by index, -1 for one that counts for none of them.
    """
    return {name: _quantile(1 - probabilities[truth == index, index]) for index, name in enumerate(PRIOR)}


def possible(probabilities: Floats, quantiles: Floats) -> Bools:
    """Return which classes cannot be excluded, for quantiles (3,) or (n, 3): (n, 3)."""
    return np.asarray(1 - probabilities <= quantiles + 1e-9)


def true_classes(entries: Sequence[Entry]) -> NDArray[np.intp]:
    """Return the class of each film by index; -1 for a fracture of unknown type, and for `other`. (n,).

    Most `other` is told from bones so easily that a quantile fitted on it would cover few healthy bones.
    """
    classes = {"fisura": 0, "fractura": 1, "normal": 2}
    return np.array([classes.get(entry.label, -1) for entry in entries], np.intp)


def _quantile(scores: Floats) -> float:
    """Return the smallest bound that holds for a new film of the class at the coverage; 1 with too few films."""
    rank = int(np.ceil((len(scores) + 1) * COVERAGE))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else 1.0
