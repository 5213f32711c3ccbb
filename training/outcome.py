"""What the trained folds said of the images they had not seen, put together and calibrated."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.calibration import choose_threshold, confidence, cross_calibrate
from training.manifest import Entry, take
from training.metrics import Bools, Floats
from training.views import PLAIN


class UnfinishedRunError(Exception):
    """A run that lacks a fold."""


@dataclass(frozen=True)
class Outcome:
    """Out-of-fold answers, rows in the manifest's order.

    `raw` are the members' own probabilities, (n, members, 3). `probabilities`, (n, 3), are calibrated, and
    `thresholds`, (n,), chosen, for each fold on the other folds' answers: what is scored here was tuned elsewhere.
    """

    raw: NDArray[np.float32]
    probabilities: Floats
    thresholds: Floats
    evidence: NDArray[np.float32]

    @property
    def confidence(self) -> Floats:
        """Return the contract's confidence, 0 to 1. (n,)."""
        return confidence(self.probabilities)

    @property
    def accepted(self) -> Bools:
        """Say which images would be answered with a class. (n,)."""
        return self.confidence >= self.thresholds


def load_outcome(runs: Sequence[Path], entries: Sequence[Entry]) -> Outcome:
    """Put the folds' scores of each member's run for the plain view together. Raises UnfinishedRunError."""
    raw = load_members(runs, entries)
    probabilities = cross_calibrate(raw, entries)
    thresholds = _cross_choose(confidence(probabilities), entries)
    return Outcome(raw, probabilities, thresholds, load_scores(runs[0], entries, "evidence"))


def load_members(runs: Sequence[Path], entries: Sequence[Entry], view: str = PLAIN) -> NDArray[np.float32]:
    """Return what each member says of a view: (n, members, 3). Raises UnfinishedRunError."""
    return np.stack([load_scores(run, entries, "probabilities", view) for run in runs], axis=1)


def load_scores(run: Path, entries: Sequence[Entry], name: str, view: str = PLAIN) -> NDArray[np.float32]:
    """Return one array of the folds' files, its rows in the manifest's order. Raises UnfinishedRunError."""
    parts = [load_split(run, f"fold_{fold}", view) for fold in sorted({entry.fold for entry in entries})]
    scores = np.concatenate([part[name] for part in parts])
    return scores[np.argsort(np.concatenate([part["rows"] for part in parts]))]


def load_split(run: Path, split: str, view: str = PLAIN) -> dict[str, NDArray[np.generic]]:
    """Read what one split said of a view. Raises UnfinishedRunError."""
    path = run / f"{split}.{view}.npz"
    if not path.exists():
        raise UnfinishedRunError(f"{run.name} lacks {split} {view}: run `python -m training.train --recipe {run.name}`")
    with np.load(path) as file:
        return dict(file)


def _cross_choose(scores: Floats, entries: Sequence[Entry]) -> Floats:
    """Choose each fold's threshold on the other folds' images. (n,)."""
    folds = np.array([entry.fold for entry in entries])
    thresholds = np.empty(len(entries))
    for fold in np.unique(folds):
        others = np.flatnonzero(folds != fold)
        thresholds[folds == fold] = choose_threshold(scores[others], take(entries, others))
    return thresholds
