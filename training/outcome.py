"""What the networks gave for films that they were not trained on, and what follows from it: answers to be judged.

A film is held back twice: by the network of its fold, and by one that saw nothing of the film's source. Lines,
threshold and quantiles are fitted on scores of both kinds. Whatever judges a film is fitted without it: without its
fold where folds are judged, without its source where sources left out are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.calibration import (
    BOUND,
    MAX_NORMALS_ACCEPTED,
    MAX_UNSEEN_NORMALS_ACCEPTED,
    SHARE_ITSELF,
    Calibration,
    Scores,
    choose_threshold,
    confidence,
    fit_calibration,
    normal_strata,
    other_strata,
)
from training.conformal import fit_quantiles, possible, true_classes
from training.errors import TrainingError
from training.heatmap import choose_scale
from training.manifest import Entry, take
from training.metrics import Bools, Floats
from training.scope import Features, judge_scope
from training.splits import Rows, Split, plan_splits
from training.views import PLAIN

_PARTS: Final = 5  # that a single fold is cut into


@dataclass(frozen=True)
class Run:
    """Scores in the manifest's order: of each film's fold, and of the network trained without its source.

    `evidence`, (n, rows, columns), is the score of each region, nan for films without a radiologist's box; `strongest`,
    (n,), is the highest score of any region. Both are out of fold.
    """

    folds: Scores
    left_out: Scores
    evidence: NDArray[np.float16]
    strongest: Floats


@dataclass(frozen=True)
class Fit:
    """What is fitted after training and travels in the file."""

    calibration: Calibration
    threshold: float
    quantiles: dict[str, float]


@dataclass(frozen=True)
class Answers:
    """What the service would answer: one row per film, nan where no network judged it.

    `probabilities` is (n, 3), `thresholds` (n,), `quantiles` (n, 3), nan where there are none.
    """

    probabilities: Floats
    thresholds: Floats
    quantiles: Floats

    @property
    def judged(self) -> Bools:
        """Return which films were judged. (n,)."""
        return np.isfinite(self.probabilities[:, 0])

    @property
    def fractured(self) -> Floats:
        """Return the probability of being fractured. (n,)."""
        return 1 - self.probabilities[:, 2]

    @property
    def type(self) -> Floats:
        """Return the log-odds of fisura among fractures. (n,)."""
        fisura, fractura = np.clip(self.probabilities[:, :2].T, 1e-12, 1)
        return np.asarray(np.log(fisura / fractura))

    @property
    def confidence(self) -> Floats:
        """Return the contract's confidence, 0 to 1. (n,)."""
        return confidence(self.probabilities)

    @property
    def accepted(self) -> Bools:
        """Return which films would be answered with a class. (n,)."""
        return self.confidence >= self.thresholds

    @property
    def possible(self) -> Bools:
        """Return which classes cannot be excluded. (n, 3)."""
        return possible(self.probabilities, self.quantiles)


def load_run(folder: Path, entries: Sequence[Entry]) -> Run:
    """Read a run's scores for the plain view: of the splits that are finished. Raise TrainingError without a fold.

    Films of the other splits count as not judged.
    """
    features = load_features(folder)
    splits = [split for split in plan_splits(entries) if (folder / f"{split.name}.{PLAIN}.npz").exists()]
    folds = [split for split in splits if split.is_fold]
    if not folds:
        raise TrainingError(f"{folder.name} lacks every fold: run `python -m training.train` first")
    evidence, strongest = _load_regions(folder, entries, folds)
    return Run(
        _join_splits(folder, entries, features, folds),
        _join_splits(folder, entries, features, [split for split in splits if not split.is_fold]),
        evidence,
        strongest,
    )


def fit(run: Run, entries: Sequence[Entry], keep: Bools) -> Fit:
    """Fit lines, threshold and quantiles on the films to keep, (n,).

    The lines are fitted on scores for sources left out, where there are such, since that is what a new hospital is.
    """
    folds, left_out = (_Part(scores, entries, keep) for scores in (run.folds, run.left_out))
    calibration = fit_calibration(*(left_out if left_out.holds_all_kinds else folds).fitted)
    probabilities = [calibration.apply(part.scores) for part in (folds, left_out)]
    confident = [confidence(part) for part in probabilities]
    not_to_accept = [
        *normal_strata(confident[0], folds.entries, MAX_NORMALS_ACCEPTED, SHARE_ITSELF),
        *normal_strata(confident[1], left_out.entries, MAX_UNSEEN_NORMALS_ACCEPTED, BOUND),
        *other_strata(confident[0], folds.entries),
    ]
    truth = np.concatenate([true_classes(part.entries) for part in (folds, left_out)])
    quantiles = fit_quantiles(np.concatenate(probabilities), truth)
    return Fit(calibration, choose_threshold(not_to_accept), quantiles)


def answer_folds(run: Run, entries: Sequence[Entry]) -> Answers:
    """Answer every film by its fold's network, with what is fitted without its fold.

    A single finished fold is cut by groups into five parts: each is answered with what is fitted without it.
    """
    folds = np.array([entry.fold for entry in entries])
    if len(np.unique(folds[run.folds.judged])) > 1:
        return _answer(run, entries, run.folds, folds)
    _, groups = np.unique([entry.group for entry in entries], return_inverse=True)
    return _answer(run, entries, run.folds, groups % _PARTS)


def answer_left_out(run: Run, entries: Sequence[Entry]) -> Answers:
    """Answer every film by the network trained without its source, with what is fitted without its source."""
    return _answer(run, entries, run.left_out, np.array([entry.source for entry in entries]))


def evidence_scale(run: Run, entries: Sequence[Entry]) -> tuple[float, float]:
    """Return the evidence at which the heat map starts and at which it is full, from films out of fold."""
    judged = np.isfinite(run.strongest)
    normal = np.array([entry.label == "normal" for entry in entries], bool) & judged
    boxed = np.array([bool(entry.boxes) and entry.is_fractured for entry in entries], bool) & judged
    return choose_scale(run.strongest, normal, boxed)


def load_answers(path: Path, name: str) -> Answers:
    """Read answers that were kept as they were given: probabilities (n, 3) by that name, and the threshold."""
    kept = _read(path)
    probabilities = kept[name].astype(np.float64)
    return Answers(probabilities, np.full(len(probabilities), kept["threshold"]), np.full_like(probabilities, np.nan))


def load_features(folder: Path) -> Features:
    """Read the frozen layers' features of every film, (n, features). Raise TrainingError."""
    return np.asarray(_read(folder / "features.npz")["pooled"], np.float32)


def load_split(folder: Path, split: str, view: str = PLAIN) -> dict[str, NDArray[Any]]:
    """Read one split's scores for a view. Raise TrainingError."""
    return _read(folder / f"{split}.{view}.npz")


class _Part:
    """The films of one kind of scores that are kept and were judged."""

    def __init__(self, scores: Scores, entries: Sequence[Entry], keep: Bools) -> None:
        rows = np.flatnonzero(keep & scores.judged)
        self.entries = take(entries, rows)
        self.scores = Scores(*(getattr(scores, field.name)[rows] for field in fields(Scores)))
        self.fitted = self.scores, self.entries

    @property
    def holds_all_kinds(self) -> bool:
        return {"fisura", "fractura", "normal"} <= {entry.label for entry in self.entries}


def _answer(run: Run, entries: Sequence[Entry], scores: Scores, part_of: NDArray[Any]) -> Answers:
    """Answer the films that were judged, each with what is fitted on the films of other parts."""
    answers = Answers(*(np.full((len(entries), *shape), np.nan) for shape in ((3,), (), (3,))))
    for part in np.unique(part_of[scores.judged]):
        fitted, judged = fit(run, entries, part_of != part), (part_of == part) & scores.judged
        held = _Part(scores, entries, judged).scores
        answers.probabilities[judged] = fitted.calibration.apply(held)
        answers.thresholds[judged] = fitted.threshold
        answers.quantiles[judged] = list(fitted.quantiles.values())
    return answers


def _join_splits(folder: Path, entries: Sequence[Entry], features: Features, splits: Sequence[Split]) -> Scores:
    joined = np.full((len(fields(Scores)), len(entries)), np.nan)
    for split in splits:
        part = load_split(folder, split.name)
        rows: Rows = part["rows"]
        joined[:, rows] = [part["known"], part["type"], *judge_scope(features, entries, split.train, rows)]
    return Scores(*joined)


def _load_regions(folder: Path, entries: Sequence[Entry], folds: Sequence[Split]) -> tuple[NDArray[np.float16], Floats]:
    parts = [load_split(folder, split.name) for split in folds]
    evidence = np.full((len(entries), *parts[0]["evidence"].shape[1:]), np.nan, np.float16)
    strongest = np.full(len(entries), np.nan)
    for part in parts:
        evidence[part["boxed"]] = part["evidence"]
        strongest[part["rows"]] = part["strongest"]
    return evidence, strongest


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if not path.exists():
        raise TrainingError(f"{path.parent.name} lacks {path.name}: run `python -m training.train` first")
    with np.load(path) as file:
        return dict(file)
