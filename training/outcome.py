"""What the trained folds said of the images they had not seen, put together and calibrated."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    `raw` are the networks' own probabilities, (n, 3). `probabilities`, (n, 3), are calibrated, and
    `thresholds`, (n,), chosen, for each fold on the other folds' answers: what is scored here was tuned elsewhere.
    `evidence`, (n, rows, columns, 2), is nan for images without a radiologist's box.
    """

    raw: NDArray[np.float32]
    probabilities: Floats
    thresholds: Floats
    evidence: NDArray[np.float16]

    @property
    def confidence(self) -> Floats:
        """Return the contract's confidence, 0 to 1. (n,)."""
        return confidence(self.probabilities)

    @property
    def accepted(self) -> Bools:
        """Say which images would be answered with a class. (n,)."""
        return self.confidence >= self.thresholds


def load_outcome(scores: Path, entries: Sequence[Entry]) -> Outcome:
    """Put the folds' scores of a recipe for the plain view together. Raises UnfinishedRunError."""
    raw = load_raw(scores, entries)
    probabilities = cross_calibrate(raw, entries)
    thresholds = _cross_choose(confidence(probabilities), entries)
    return Outcome(raw, probabilities, thresholds, _load_evidence(scores, entries))


def load_raw(scores: Path, entries: Sequence[Entry], view: str = PLAIN) -> NDArray[np.float32]:
    """Return what the folds' networks say of a view: (n, 3), in the manifest's order. Raises UnfinishedRunError."""
    said = np.empty((len(entries), 3), np.float32)
    for part in _load_folds(scores, entries, view):
        said[part["rows"]] = part["probabilities"]
    return said


def _load_evidence(folder: Path, entries: Sequence[Entry]) -> NDArray[np.float16]:
    parts = _load_folds(folder, entries, PLAIN)
    evidence = np.full((len(entries), *parts[0]["evidence"].shape[1:]), np.nan, np.float16)
    for part in parts:
        evidence[part["boxed"]] = part["evidence"]
    return evidence


def _load_folds(folder: Path, entries: Sequence[Entry], view: str) -> list[dict[str, NDArray[Any]]]:
    return [load_split(folder, f"fold_{fold}", view) for fold in sorted({entry.fold for entry in entries})]


def load_split(folder: Path, split: str, view: str = PLAIN) -> dict[str, NDArray[Any]]:
    """Read what one split said of a view. Raises UnfinishedRunError."""
    path, recipe = folder / f"{split}.{view}.npz", folder.name
    if not path.exists():
        raise UnfinishedRunError(f"{recipe} lacks {split} {view}: run `python -m training.train --recipe {recipe}`")
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
