"""Which films a network learns from and which it is judged on. No group is ever on both sides of a fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.checks import NEEDED, holds_pair
from training.errors import TrainingError
from training.manifest import CLASS_NAMES, UNTYPED, Entry

Rows = NDArray[np.intp]

# Sources that are left out of training together, by the one that gives the split its name: three networks instead of
# fourteen, each without sources that are judged by themselves and without some sources of `other`.
LEFT_OUT_TOGETHER: Final = {
    "multan_wrist": ("eeeh_lowerleg", "bone_break_10class", "simple_comminuted", "imagenet_samples"),
    "fracatlas": ("nih_chestxray14", "scikit_image", "hbfmid"),
    "rf_science_research_2022": ("multi_region", "graz_sample", "hand_masks"),
}


@dataclass(frozen=True)
class Split:
    """Rows of the manifest to learn from, and rows to judge on."""

    name: str
    train: Rows
    score: Rows

    @property
    def is_fold(self) -> bool:
        """Return whether this is one of the folds that together judge every film."""
        return self.name.startswith("fold_")


def plan_splits(entries: Sequence[Entry]) -> list[Split]:
    """List the folds, then those without whole sources, then all films, scored on none."""
    folds = [fold_split(entries, fold) for fold in sorted({entry.fold for entry in entries})]
    return [*folds, *left_out_splits(entries), Split("all", np.arange(len(entries)), np.arange(0))]


def find_split(entries: Sequence[Entry], name: str) -> Split:
    """Return the split of this name. Raise TrainingError where there is none."""
    splits = {split.name: split for split in plan_splits(entries)}
    if name not in splits:
        raise TrainingError(f"There is no split {name}; this manifest has {', '.join(splits)}.")
    return splits[name]


def left_out_splits(entries: Sequence[Entry]) -> list[Split]:
    """List the splits that leave whole sources out."""
    return [_leave_out(entries, name, sources) for name, sources in plan_left_out(entries).items()]


def plan_left_out(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Return, for each split by name, the sources that are left out of training together.

    Known sources follow LEFT_OUT_TOGETHER. Of the others, each that holds both kinds or both types is left out by
    itself, and the rest are dealt out over the splits. A split that would leave nothing to learn from is dropped: a
    manifest with one source has none.
    """
    sources = sorted({entry.source for entry in entries})
    plan = {
        first: [first, *(source for source in others if source in sources)]
        for first, others in LEFT_OUT_TOGETHER.items()
        if first in sources
    }
    known = {source for left_out in plan.values() for source in left_out}
    new = [source for source in sources if source not in known]
    plan |= {source: [source] for source in new if _can_be_judged(entries, source)}
    splits = list(plan.values())
    for number, source in enumerate(source for source in new if source not in plan and splits):
        splits[number % len(splits)].append(source)
    return {name: left_out for name, left_out in plan.items() if _can_be_learnt(entries, left_out)}


def fold_split(entries: Sequence[Entry], fold: int) -> Split:
    """Hold one fold back. Raise TrainingError where a group reaches into another fold."""
    held = np.array([entry.fold == fold for entry in entries])
    inside, outside = ({entry.group for entry, h in zip(entries, held, strict=True) if h == side} for side in (1, 0))
    if inside & outside:
        raise TrainingError(f"Fold {fold} cuts the group {min(inside & outside)}.")
    return Split(f"fold_{fold}", np.flatnonzero(~held), np.flatnonzero(held))


def _can_be_judged(entries: Sequence[Entry], source: str) -> bool:
    labels = {entry.label for entry in entries if entry.source == source}
    fractured = labels & {*CLASS_NAMES, UNTYPED}
    return labels >= set(CLASS_NAMES) or ("normal" in labels and bool(fractured))


def _can_be_learnt(entries: Sequence[Entry], left_out: Sequence[str]) -> bool:
    kept = [entry for entry in entries if entry.source not in left_out]
    return set(NEEDED) <= {entry.label for entry in kept} and holds_pair(kept)


def _leave_out(entries: Sequence[Entry], name: str, sources: Sequence[str]) -> Split:
    held = np.array([entry.source in sources for entry in entries])
    return Split(f"without_{name}", np.flatnonzero(~held), np.flatnonzero(held))
