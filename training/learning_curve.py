"""Asks what more data would give: `python -m training.learning_curve --help`.

Trains the recipe on a part of each fold's training groups and scores the fold; prints one line per part.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.calibration import log_odds
from training.manifest import Entry, add_data_argument, read_manifest, take
from training.metrics import Estimate, auc, bootstrap
from training.prepare import CACHE
from training.recipe import RECIPES, Recipe
from training.splits import Rows, fold_split
from training.train import SEED, Material, load_material, train_head

PARTS: Final = (0.25, 0.5, 0.75, 1.0)


def draw_groups(entries: Sequence[Entry], rows: Rows, part: float) -> Rows:
    """Return the rows of a random part of the groups: the same groups, and more, for a larger part."""
    groups = np.array([entry.group for entry in take(entries, rows)])
    names = np.random.default_rng(SEED).permutation(np.unique(groups))
    kept = names[: max(1, round(part * len(names)))]
    return rows[np.isin(groups, kept)]


def score_part(recipe: Recipe, material: Material, part: float) -> NDArray[np.float32]:
    """Return out-of-fold probabilities of networks that learn from this part of the groups. (n, 3)."""
    probabilities = np.zeros((len(material.entries), 3), np.float32)
    for fold in sorted({entry.fold for entry in material.entries}):
        split = fold_split(material.entries, fold)
        with TemporaryDirectory() as backup:
            rows = draw_groups(material.entries, split.train, part)
            head = train_head(recipe, material, rows, Path(backup) / f"{part:.0%} of fold {fold}")
        probabilities[split.score] = head.predict(np.asarray(material.features[0][split.score]), verbose=0)[0]
    return probabilities


def judge(entries: Sequence[Entry], probabilities: NDArray[np.float32]) -> tuple[Estimate, Estimate]:
    """Return the AUC of fisura against fractura, and of fractured against normal in FracAtlas."""
    known, kind = log_odds(probabilities)
    groups = [entry.group for entry in entries]
    fisura = np.array([entry.label == "fisura" for entry in entries])
    fractured = np.array([entry.is_fractured for entry in entries])
    typed = np.flatnonzero([entry.is_typed for entry in entries])
    bones = np.flatnonzero([entry.source == "fracatlas" for entry in entries])
    types = bootstrap(lambda rows: auc(kind[rows], fisura[rows]), typed, groups)
    return types, bootstrap(lambda rows: auc(known[rows], fractured[rows]), bones, groups)


def main() -> None:
    """Print the curve as rows of a table."""
    parser = argparse.ArgumentParser(description="Train on parts of the data; print what each gives.")
    add_data_argument(parser)
    parser.add_argument("--recipe", choices=RECIPES, default="baseline")
    parser.add_argument("--cache", type=Path, default=CACHE)
    chosen = parser.parse_args()
    recipe, entries = RECIPES[chosen.recipe], read_manifest(chosen.data)
    material = load_material(recipe, entries, chosen.cache)
    for part in PARTS:
        types, fractures = judge(entries, score_part(recipe, material, part))
        cells = (f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})" for figure in (types, fractures))
        print(f"| {part:.0%} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
