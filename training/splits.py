"""Which images a network learns from and which it is judged on. No group is ever on both sides of a fold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.manifest import CLASS_NAMES, Entry

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Split:
    """Rows of the manifest to learn from, and rows to judge on."""

    name: str
    train: Rows
    score: Rows

    @property
    def is_fold(self) -> bool:
        """Say whether this is one of the folds that together judge every image."""
        return self.name.startswith("fold_")


def plan_splits(entries: Sequence[Entry]) -> list[Split]:
    """List the folds, then those without whole sources, then all images, scored on none."""
    folds = [fold_split(entries, fold) for fold in sorted({entry.fold for entry in entries})]
    without = [_leave_out(entries, source, others) for source, others in plan_left_out(entries).items()]
    return [*folds, *without, Split("all", np.arange(len(entries)), np.arange(0))]


def plan_left_out(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Say, for each source of typed bones, with which sources of `other` it is left out of training together.

    Every source of `other` is left out once; to leave out two at a time takes fewer networks and judges them harder.
    """
    typed, others = typed_sources(entries), other_sources(entries)
    return {source: others[number :: len(typed)] for number, source in enumerate(typed)}


def fold_split(entries: Sequence[Entry], fold: int) -> Split:
    """Hold one fold back. Groups that reach into it are checked to have no image elsewhere."""
    held = np.array([entry.fold == fold for entry in entries])
    inside, outside = ({entry.group for entry, h in zip(entries, held, strict=True) if h == side} for side in (1, 0))
    if inside & outside:
        raise ValueError(f"fold {fold} cuts the group {min(inside & outside)}")
    return Split(f"fold_{fold}", np.flatnonzero(~held), np.flatnonzero(held))


def typed_sources(entries: Sequence[Entry]) -> list[str]:
    """List the sources that hold both fisura and fractura."""
    kinds = [{entry.source for entry in entries if entry.label == name} for name in CLASS_NAMES]
    return sorted(set.intersection(*kinds))


def other_sources(entries: Sequence[Entry]) -> list[str]:
    """List the sources of what is no limb bone."""
    return sorted({entry.source for entry in entries if entry.label == "other"})


def _leave_out(entries: Sequence[Entry], source: str, others: Sequence[str]) -> Split:
    held = np.array(
        [entry.source == source or (entry.label == "other" and entry.source in others) for entry in entries]
    )
    return Split(f"without_{source}", np.flatnonzero(~held), np.flatnonzero(held))
