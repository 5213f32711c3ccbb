"""The scores of a run, drawn so that they tell kinds apart as well as wanted, written as training writes them."""

import numpy as np

from tests.support.entries import make_entry
from training.splits import plan_splits

SOURCES = ("north", "south", "east")
LABELS = ("fisura", "fractura", "fractura", "normal", "normal", "normal")


def make_hospitals(count=360, sources=SOURCES):
    """Make films of several hospitals, each with every kind, five folds, each film a group of its own."""
    bones = [make_entry(LABELS[row % 6], row % 5, sources[row // 6 % len(sources)], f"g{row}") for row in range(count)]
    others = [make_entry("other", row % 5, f"photos_{row % 2}", f"o{row}") for row in range(60)]
    return [*bones, *others]


def write_run(folder, entries, gap=3.0, seed=0):
    """Write scores whose means differ by `gap` between kinds, and features that tell bones from other images."""
    rng = np.random.default_rng(seed)
    fractured = np.array([entry.is_fractured for entry in entries])
    fisura = np.array([entry.label == "fisura" for entry in entries])
    bone = np.array([entry.label != "other" for entry in entries])
    folder.mkdir(parents=True, exist_ok=True)
    pooled = rng.normal(size=(len(entries), 40)) + 3 * np.where(bone[:, None], 0, np.arange(40) % 2)
    np.savez(folder / "features.npz", pooled=pooled.astype(np.float32))
    for split in plan_splits(entries):
        if len(split.score):
            rows = split.score
            scores = {
                "rows": rows,
                "known": (rng.normal(size=len(rows)) + gap * fractured[rows] - 2).astype(np.float32),
                "type": (rng.normal(size=len(rows)) + gap * fisura[rows]).astype(np.float32),
            }
            if split.is_fold:
                boxed = rows[[bool(entries[row].boxes) for row in rows]]
                scores |= {"boxed": boxed, "evidence": rng.normal(size=(len(boxed), 4, 4)).astype(np.float16)}
                scores["strongest"] = scores["known"] + 1
            np.savez(folder / f"{split.name}.plain.npz", **scores)
