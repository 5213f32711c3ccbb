"""Trains one recipe on every split and scores what each split held back: `python -m training.train --help`.

A split that is done is not done again, and one that was broken off goes on from its last epoch: run the same command.
Written to `<runs>/<recipe>/`: `<split>.weights.h5`, the head; `<split>.npz`, what the joined network says of the rows
held back (`rows`, and per view `probabilities_<view>`; `evidence` for the plain view).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from training.backbone import Tensor
from training.features import FeatureCache, Features
from training.manifest import Entry, add_data_argument, likelihoods, read_manifest, weights
from training.network import PROBABILITIES, build_head, join, load_trunk, standardise
from training.prepare import CACHE, load_view, view_names
from training.progress import show_progress
from training.recipe import RECIPES, Recipe
from training.splits import Rows, Split, plan_splits
from training.views import DAMAGES, PLAIN

RUNS: Final = Path("training/runs")
SEED: Final = 20261123

_SCORE_BATCH: Final = 32


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches of features; each time an image comes up, one of its views is drawn."""

    def __init__(self, views: Sequence[Features], entries: Sequence[Entry], rows: Rows, batch: int) -> None:
        super().__init__()
        self._views, self._rows, self._batch = views, rows, batch
        self._likelihoods, self._weights = likelihoods(entries), weights(entries)
        self._rng = np.random.default_rng(SEED)
        self._shuffle()

    def __len__(self) -> int:
        return len(self._rows) // self._batch or 1

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        rows = self._order[index * self._batch : (index + 1) * self._batch]
        features = [self._views[view][row] for view, row in zip(self._choice[rows], rows, strict=True)]
        return np.stack(features).astype(np.float32), self._likelihoods[rows], self._weights[rows]

    def on_epoch_end(self) -> None:
        """Draw a new order and new views."""
        self._shuffle()

    def _shuffle(self) -> None:
        self._order = self._rng.permutation(self._rows)
        self._choice = self._rng.integers(len(self._views), size=len(self._likelihoods))


def negative_log_likelihood(likelihood: Tensor, probabilities: Tensor) -> Tensor:
    """Return -log P(label) for P(label | outcome) and P(outcome), both (n, 3); see `manifest.likelihoods`."""
    chance = keras.ops.sum(likelihood * probabilities, axis=-1)
    return -keras.ops.log(keras.ops.clip(chance, 1e-7, 1.0))


def train_head(
    recipe: Recipe, views: Sequence[Features], entries: Sequence[Entry], rows: Rows, backup: Path
) -> keras.Model:
    """Train a new head on these rows; an unfinished earlier try is taken up from `backup`."""
    keras.utils.set_random_seed(SEED)
    head = build_head(views[0].shape[1:])
    standardise(head, views[0][rows])
    batches = Batches(views, entries, rows, recipe.batch)
    trained = keras.Model(head.input, head.get_layer(PROBABILITIES).output)
    trained.compile(_optimizer(recipe, len(batches)), loss=negative_log_likelihood)
    resume = keras.callbacks.BackupAndRestore(backup)
    trained.fit(batches, epochs=recipe.epochs, verbose=0, callbacks=[resume, _EpochLine(backup.name, recipe.epochs)])
    return head


def score(network: keras.Model, pixels: NDArray[np.uint8], rows: Rows, name: str) -> list[NDArray[np.float32]]:
    """Return the network's outputs, probabilities and evidence, for these rows of a prepared view."""
    starts = range(0, len(rows), _SCORE_BATCH)
    outputs = []
    for start in show_progress(starts, len(starts), f"score {name}, batches"):
        batch = np.asarray(pixels[rows[start : start + _SCORE_BATCH]], np.float32) / np.float32(255)
        outputs.append(network.predict_on_batch(batch))
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def run_split(recipe: Recipe, split: Split, entries: Sequence[Entry], cache: Path, run: Path) -> None:
    """Train on one split, then write its head and its scores; the scores appear last."""
    weights_path = run / f"{split.name}.weights.h5"
    if not weights_path.exists():
        features = FeatureCache(recipe, cache)
        views = [features.load(name) for name in view_names(recipe.random_views, with_damages=False)]
        head = train_head(recipe, views, entries, split.train, run / "unfinished" / split.name)
        head.save_weights(weights_path)
    if len(split.score):
        score_split(recipe, split, cache, run)


def score_split(recipe: Recipe, split: Split, cache: Path, run: Path) -> None:
    """Write what the joined network says of the rows held back: a fold's also under every kind of damage."""
    network = join(recipe, load_head(recipe, run / f"{split.name}.weights.h5"))
    scores: dict[str, Any] = {"rows": split.score}
    for view in (PLAIN, *DAMAGES) if split.name.startswith("fold_") else (PLAIN,):
        pixels = load_view(cache, recipe.size, view)
        scores[f"probabilities_{view}"], evidence = score(network, pixels, split.score, f"{split.name} {view}")
        scores.setdefault("evidence", evidence)
    np.savez_compressed(run / f"{split.name}.npz", **scores)


def load_head(recipe: Recipe, path: Path) -> keras.Model:
    """Read a trained head back."""
    head = build_head(tuple(load_trunk(recipe).output_shape[1:]))
    head.load_weights(path)
    return head


class _EpochLine(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, name: str, epochs: int) -> None:
        super().__init__()
        self._name, self._epochs = name, epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        loss = (logs or {}).get("loss", float("nan"))
        print(f"{self._name}: epoch {epoch + 1} of {self._epochs}, loss {loss:.4f}", flush=True)


def _optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps_per_epoch * recipe.epochs)
    return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)


def main() -> None:
    """Train what is still missing of a recipe's splits."""
    parser = argparse.ArgumentParser(description="Train a recipe on each fold, without each source, and on all images.")
    add_data_argument(parser)
    parser.add_argument("--recipe", choices=RECIPES, default="baseline")
    parser.add_argument("--split", action="append", help="only this split, such as fold_0; may be repeated")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--runs", type=Path, default=RUNS)
    chosen = parser.parse_args()
    recipe, entries = RECIPES[chosen.recipe], read_manifest(chosen.data)
    run = chosen.runs / recipe.name
    run.mkdir(parents=True, exist_ok=True)
    for split in plan_splits(entries):
        wanted = chosen.split is None or split.name in chosen.split
        done = run / (f"{split.name}.npz" if len(split.score) else f"{split.name}.weights.h5")
        if wanted and not done.exists():
            run_split(recipe, split, entries, chosen.cache, run)


if __name__ == "__main__":
    main()
