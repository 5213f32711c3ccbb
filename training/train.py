"""Trains one recipe on every split and scores what each split held back: `python -m training.train --help`.

A split that is done is not done again, and one that was broken off goes on from its last epoch: run the same command.
Written to `<runs>/<recipe>/`: `<split>.weights.h5`, the head; to `<scores>/<recipe>/`: `<split>.<view>.npz`, what the
joined network says of the rows held back: `rows`, `probabilities`, and of a fold's plain view the `evidence` for the
rows `boxed`. The scores are small and kept in the repository, so that `evaluate` needs no training.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from training.backbone import Tensor
from training.features import FeatureCache, Features
from training.manifest import Entry, add_data_argument, likelihoods, read_manifest, take, weights
from training.network import PROBABILITIES, build_head, join
from training.prepare import CACHE, Pixels, load_boxes, load_view, view_names
from training.progress import show_progress
from training.recipe import RECIPES, Recipe
from training.splits import Rows, Split, plan_splits
from training.views import DAMAGES, PLAIN

RUNS: Final = Path("training/runs")
SCORES: Final = Path("training/scores")
SEED: Final = 20261123

_SCORE_BATCH: Final = 32


@dataclass(frozen=True)
class Material:
    """What a split learns from: per view the features and the places of the boxes, and the manifest's rows."""

    features: Sequence[Features]
    boxes: Sequence[Pixels]
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Folders:
    """Where a recipe's views and features, its heads, and its scores are kept."""

    cache: Path
    run: Path
    scores: Path


def load_material(recipe: Recipe, entries: Sequence[Entry], cache: Path) -> Material:
    """Load, or compute, what all splits of a recipe learn from."""
    names = list(view_names(recipe.random_views, with_damages=False))
    features = FeatureCache(recipe, cache)
    boxes = [load_boxes(cache, recipe.size, name) for name in names] if recipe.place_weight else []
    return Material([features.load(name) for name in names], boxes, entries)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches; each time an image comes up, one of its views is drawn.

    Items: features; P(label | outcome), (n, 3), and where training looks at places too the share of each place that
    lies in a box, (n, rows, columns, 1); the weights of both, (n,).
    """

    def __init__(self, recipe: Recipe, material: Material, rows: Rows) -> None:
        super().__init__()
        self._recipe, self._material, self._rows = recipe, material, rows
        self._likelihoods, self._weights = likelihoods(material.entries), weights(material.entries)
        self._place_weights = _place_weights(material.entries)
        self._chances = draw_chances(material.entries, rows)
        self._rng = np.random.default_rng(SEED)
        self._shuffle()

    def __len__(self) -> int:
        return len(self._order) // self._recipe.batch or 1

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        part = slice(index * self._recipe.batch, (index + 1) * self._recipe.batch)
        rows, views = self._order[part], self._choice[part]
        features = _gather(self._material.features, views, rows)
        if not self._recipe.place_weight:
            return features, self._likelihoods[rows], self._weights[rows]
        boxes = _gather(self._material.boxes, views, rows) / 255
        return features, (self._likelihoods[rows], boxes), (self._weights[rows], self._place_weights[rows])

    def on_epoch_end(self) -> None:
        """Draw a new order and new views."""
        self._shuffle()

    def _shuffle(self) -> None:
        count = self._recipe.images_per_epoch
        drawn = self._rng.choice(self._rows, count, p=self._chances) if count else self._rows
        self._order = self._rng.permutation(drawn)
        self._choice = self._rng.integers(len(self._material.features), size=len(self._order))


def draw_chances(entries: Sequence[Entry], rows: Rows) -> NDArray[np.float64]:
    """Return how likely each row is drawn: a kind (source and label) by the square root of its size. Sums to 1."""
    kinds = [(entry.source, entry.label) for entry in take(entries, rows)]
    sizes = Counter(kinds)
    chances = np.array([sizes[kind] ** -0.5 for kind in kinds])
    return np.asarray(chances / chances.sum(), np.float64)


def negative_log_likelihood(likelihood: Tensor, probabilities: Tensor) -> Tensor:
    """Return -log P(label) for P(label | outcome) and P(outcome), both (n, 3); see `manifest.likelihoods`."""
    chance = keras.ops.sum(likelihood * probabilities, axis=-1)
    return -keras.ops.log(keras.ops.clip(chance, 1e-7, 1.0))


def place_loss(boxes: Tensor, evidence: Tensor) -> Tensor:
    """Compare the places' log-odds of a fracture with the radiologists' boxes: (n,).

    `boxes` is (n, rows, columns, 1), the share of each place inside a box; `evidence` (n, rows, columns, 2), whose mean
    over the classes is the log-odds. A place counts as inside with half the share of the image's fullest place, since
    many boxes are smaller than a place; inside and outside weigh alike, since boxes are few places.
    """
    log_odds = keras.ops.mean(evidence, axis=-1, keepdims=True)
    fullest = keras.ops.max(boxes, axis=(1, 2, 3), keepdims=True)
    inside = keras.ops.cast(keras.ops.greater_equal(boxes, keras.ops.maximum(fullest / 2, 0.02)), "float32")
    return _mean_where(inside, keras.ops.softplus(-log_odds)) + _mean_where(1 - inside, keras.ops.softplus(log_odds))


def _mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    total = keras.ops.sum(chosen * values, axis=(1, 2, 3))
    return total / keras.ops.maximum(keras.ops.sum(chosen, axis=(1, 2, 3)), 1.0)


def train_head(recipe: Recipe, material: Material, rows: Rows, backup: Path) -> keras.Model:
    """Train a new head on these rows; an unfinished earlier try is taken up from `backup`."""
    keras.utils.set_random_seed(SEED)
    head = build_head(recipe)
    for layer in head.layers:
        layer.trainable = recipe.trains_depthwise or not isinstance(layer, keras.layers.DepthwiseConv2D)
    batches = Batches(recipe, material, rows)
    optimizer = _optimizer(recipe, len(batches))
    if recipe.place_weight:
        head.compile(optimizer, loss=[negative_log_likelihood, place_loss], loss_weights=[1.0, recipe.place_weight])
        trained = head
    else:
        trained = keras.Model(head.input, head.get_layer(PROBABILITIES).output)
        trained.compile(optimizer, loss=negative_log_likelihood)
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


def run_split(recipe: Recipe, split: Split, entries: Sequence[Entry], folders: Folders) -> None:
    """Train on one split and write its head; one that is there is not trained again."""
    path = folders.run / f"{split.name}.weights.h5"
    if not path.exists():
        material = load_material(recipe, entries, folders.cache)
        train_head(recipe, material, split.train, folders.run / "unfinished" / split.name).save_weights(path)


def score_split(recipe: Recipe, split: Split, entries: Sequence[Entry], view: str, folders: Folders) -> None:
    """Write what the joined network says of one view of the rows held back; what is there is not done again."""
    path = folders.scores / f"{split.name}.{view}.npz"
    if path.exists() or not len(split.score):
        return
    network = join(recipe, load_head(recipe, folders.run / f"{split.name}.weights.h5"))
    pixels = load_view(folders.cache, recipe.size, view)
    probabilities, evidence = score(network, pixels, split.score, f"{split.name} {view}")
    said: dict[str, Any] = {"rows": split.score, "probabilities": probabilities}
    if view == PLAIN and split.is_fold:
        boxed = np.array([bool(entry.boxes) for entry in take(entries, split.score)], bool)
        said |= {"boxed": split.score[boxed], "evidence": evidence[boxed].astype(np.float16)}
    np.savez_compressed(path, **said)


def load_head(recipe: Recipe, path: Path) -> keras.Model:
    """Read a trained head back."""
    head = build_head(recipe)
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
    warmup = round(steps_per_epoch * recipe.warmup_epochs)
    steps = max(1, steps_per_epoch * recipe.epochs - warmup)
    first = 0.0 if warmup else recipe.learning_rate
    schedule = keras.optimizers.schedules.CosineDecay
    rate = schedule(first, steps, warmup_target=recipe.learning_rate if warmup else None, warmup_steps=warmup)
    return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)


def _gather(views: Sequence[NDArray[Any]], choice: NDArray[np.int64], rows: Rows) -> NDArray[np.float32]:
    return np.stack([views[view][row] for view, row in zip(choice, rows, strict=True)]).astype(np.float32)


def _place_weights(entries: Sequence[Entry]) -> NDArray[np.float32]:
    """Return 1 where it is known of every place whether a fracture is there, 0 for fractures without boxes. (n,)."""
    return np.array([bool(entry.boxes) or not entry.is_fractured for entry in entries], np.float32)


def main() -> None:
    """Train what is still missing of a recipe's splits."""
    parser = argparse.ArgumentParser(description="Train a recipe on each fold, without each source, and on all images.")
    add_data_argument(parser)
    parser.add_argument("--recipe", choices=RECIPES, default="baseline")
    parser.add_argument("--split", action="append", help="only this split, such as fold_0; may be repeated")
    parser.add_argument("--damages", action="store_true", help="then score the folds' damaged views too")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--scores", type=Path, default=SCORES)
    chosen = parser.parse_args()
    recipe, entries = RECIPES[chosen.recipe], read_manifest(chosen.data)
    folders = Folders(chosen.cache, chosen.runs / recipe.name, chosen.scores / recipe.name)
    for folder in (folders.run, folders.scores):
        folder.mkdir(parents=True, exist_ok=True)
    splits = [split for split in plan_splits(entries) if not chosen.split or split.name in chosen.split]
    for split in splits:
        run_split(recipe, split, entries, folders)
        score_split(recipe, split, entries, PLAIN, folders)
    for split in splits if chosen.damages else ():
        for view in DAMAGES if split.is_fold else ():
            score_split(recipe, split, entries, view, folders)


if __name__ == "__main__":
    main()
