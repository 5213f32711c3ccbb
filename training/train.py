"""Trains the network on every split and scores what each split held back: `python -m training.train --help`.

A split that is done is not done again, and an interrupted one continues from its last epoch: run the same command.
Written to `<runs>/<recipe>/`: `<split>.weights.h5`, the trained part, and `<split>.type.npz`, the line that tells the
type; to `<scores>/<recipe>/`: `<split>.<view>.npz` with `rows` of the manifest and their `known` and `type` scores, and
for a fold's plain view the `evidence` of the places for the rows `boxed` and the score of each row's `strongest` place;
and `features.npz`, the thumbnail's features of every film. The scores are small and kept in the repository, so that
`evaluate` needs no training.
"""

import argparse
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from training.backbone import Tensor
from training.checks import check_duplicates, check_training, claim_folder
from training.errors import TrainingError, run_command
from training.films import find_interest, read_films, to_pixels
from training.manifest import Entry, add_data_argument, digest_manifest, read_manifest, take
from training.network import (
    FOCUSED,
    KNOWN,
    KNOWN_PLACE,
    POOLED,
    TYPE,
    Weights,
    build_network,
    build_places,
    build_trainee,
    join_scores,
    set_trainable,
)
from training.recipe import CELL_PIXELS, RECIPES, Phase, Recipe
from training.splits import Rows, Split, find_split, plan_splits
from training.views import DAMAGES, PLAIN, VIEWS, Window, cut, draw_window, regrade, share_in_boxes

RUNS: Final = Path("training/runs")
SCORES: Final = Path("training/scores")
SEED: Final = 20261127

TYPE_LOSS: Final = 0.3  # weight of the type's loss beside that of fractured or not
PAIR_LOSS: Final = 0.7
STRONGEST_PLACES: Final = 10  # whose mean is compared between the two films of a pair
HARDEST_PLACES: Final = 6  # of those outside boxes, which count as much as all of them
LABEL_SMOOTHING: Final = 0.1
TYPE_REGULARISATION: Final = 0.03  # scikit-learn's C
THUMBNAIL_SHARE: Final = 0.2

_SCORE_BATCH: Final = 8
_PATCHES: Final = {"boxed": 0.56, "normal": 0.36, "other": 0.08}  # share of each kind of film among the patches
_BOX_PATCHES: Final = 0.65  # share of a fractured film's patches that lie around a box

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Material:
    """What every split learns from: the manifest's rows, their decoded films, and where these are of interest."""

    entries: Sequence[Entry]
    films: Sequence[Image.Image]
    interest: Sequence[NDArray[np.float64]]


@dataclass(frozen=True)
class Folders:
    """Where a recipe's weights and scores are kept."""

    run: Path
    scores: Path


def load_material(entries: Sequence[Entry]) -> Material:
    """Decode what all splits learn from."""
    films = read_films(entries)
    return Material(entries, films, [find_interest(film) for film in films])


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Patches, and films where the phase shows some, drawn anew for each step.

    Items: inputs, (n, side, side, 1), 0 to 1; targets per place, (n, r, c, 4): the share of it inside a box, the chance
    of fisura, the weight of that, and whether it is known where in this image fractures are. Both in pairs with films.
    """

    def __init__(self, recipe: Recipe, phase: Phase, material: Material, rows: Rows) -> None:
        super().__init__()
        self._recipe, self._phase, self._material = recipe, phase, material
        self._epoch = 0
        entries = material.entries
        fractured = [row for row in rows.tolist() if entries[row].is_fractured]
        self._boxed = [row for row in fractured if entries[row].boxes]
        self._normal = [row for row in rows.tolist() if entries[row].label == "normal"]
        self._other = [row for row in rows.tolist() if entries[row].label == "other"]
        self._typed = [row for row in fractured if entries[row].is_typed]
        self._pairs = _pair_sources(entries, fractured, self._normal)
        self._chances = {
            "boxed": _even_chances([entries[row].source for row in self._boxed], 0.5),
            "normal": _even_chances([entries[row].source for row in self._normal], 0.5),
            "other": _even_chances([entries[row].source for row in self._other], 0.5),
            "typed": _even_chances([(entries[row].source, entries[row].label) for row in self._typed], 0.6),
        }

    def __len__(self) -> int:
        return self._phase.steps_per_epoch

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rng = np.random.default_rng([SEED, zlib.crc32(self._phase.name.encode()), self._epoch, index])
        patches = _stack([self._patch(rng) for _ in range(self._phase.patches)])
        if not self._phase.shows_films:
            return patches
        films = _stack([self._film(row, rng) for row in self._draw_films(rng)])
        return (patches[0], films[0]), (patches[1], films[1])

    def on_epoch_end(self) -> None:
        """Draw other windows in the next epoch."""
        self._epoch += 1

    def _draw_films(self, rng: np.random.Generator) -> Iterator[int]:
        """Yield the rows of a step's films: pairs first, the fractured one before the normal one."""
        weights = np.array([min(len(a), len(b), 200) ** 0.7 for a, b in self._pairs])
        for number in rng.choice(len(self._pairs), self._phase.pairs, p=weights / weights.sum()):
            yield from (int(rng.choice(rows)) for rows in self._pairs[number])
        yield from rng.choice(self._typed, self._phase.typed, p=self._chances["typed"]).tolist()

    def _patch(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw a part of a film, around a box or anywhere."""
        kind = self._draw_kind(rng)
        row = int(rng.choice(getattr(self, f"_{kind}"), p=self._chances[kind]))
        entry, film = self._material.entries[row], self._material.films[row]
        centre = self._aim_at_box(entry, film, rng) if kind == "boxed" and rng.random() < _BOX_PATCHES else None
        centre = centre or _aim_at_interest(self._material.interest[row], rng)
        side = max(film.size) * self._recipe.patch_side / self._recipe.side * np.exp(rng.uniform(-0.45, 0.45))
        x, y = (middle + rng.uniform(-0.25, 0.25) * side for middle in centre)
        return self._show(row, draw_window((x, y), side, rng), self._recipe.patch_side, rng)

    def _draw_kind(self, rng: np.random.Generator) -> str:
        """Draw what a patch shows; kinds of which there is no film are never drawn."""
        chances = {kind: share for kind, share in _PATCHES.items() if getattr(self, f"_{kind}")}
        return str(rng.choice(list(chances), p=np.array(list(chances.values())) / sum(chances.values())))

    def _film(self, row: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        film = self._material.films[row]
        x, y = (side * (0.5 + rng.uniform(-0.06, 0.06)) for side in film.size)
        window = draw_window((x, y), max(film.size) * np.exp(rng.uniform(-0.2, 0.2)), rng)
        return self._show(row, window, self._recipe.side, rng)

    def _show(self, row: int, window: Window, side: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        entry, film = self._material.entries[row], self._material.films[row]
        pixels = regrade(to_pixels(cut(film, window), side), rng)
        cells = side // CELL_PIXELS
        targets = np.empty((cells, cells, 4), np.float32)
        targets[..., 0] = share_in_boxes(entry.boxes, film.size, window, cells)
        targets[..., 1:] = (*_type_target(entry), not entry.is_fractured or bool(entry.boxes))
        return np.asarray(pixels, np.float32)[..., np.newaxis] / np.float32(255), targets

    @staticmethod
    def _aim_at_box(entry: Entry, film: Image.Image, rng: np.random.Generator) -> tuple[float, float]:
        box = entry.boxes[rng.integers(len(entry.boxes))]
        x = box.x + rng.uniform(-0.5, 0.5) * max(box.width, 0.08)
        y = box.y + rng.uniform(-0.5, 0.5) * max(box.height, 0.08)
        return x * film.width, y * film.height


def _stack(shown: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    inputs, targets = zip(*shown, strict=True)
    return np.stack(inputs), np.stack(targets)


def _aim_at_interest(interest: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float]:
    row, column = divmod(int(rng.choice(interest.size, p=interest.ravel())), interest.shape[1])
    return (column + 0.5) * CELL_PIXELS, (row + 0.5) * CELL_PIXELS


def _pair_sources(entries: Sequence[Entry], *kinds: Sequence[int]) -> list[list[list[int]]]:
    """Return the rows of each kind for each source that holds every kind."""
    sources = sorted({entry.source for entry in entries})
    by_source = [[[row for row in rows if entries[row].source == source] for rows in kinds] for source in sources]
    return [rows for rows in by_source if all(rows)]


def _even_chances(kinds: Sequence[Any], power: float) -> NDArray[np.float64]:
    """Return how likely each row is drawn, its kind's size to this power less likely. Sums to 1."""
    sizes = Counter(kinds)
    chances = np.array([sizes[kind] ** -power for kind in kinds])
    return np.asarray(chances / max(chances.sum(), 1e-9), np.float64)


def _type_target(entry: Entry) -> tuple[float, float]:
    """Return the chance of fisura, smoothed, and its weight: 1, half for a label that no expert gave, 0 for none."""
    if not entry.is_typed:
        return 0.5, 0.0
    chance = 1 - LABEL_SMOOTHING / 2 if entry.label == "fisura" else LABEL_SMOOTHING / 2
    return chance, 1.0 if entry.tier == "core" else 0.5


def place_loss(targets: Tensor, known: Tensor) -> Tensor:
    """Compare the places' scores, (n, r, c), with the radiologists' boxes: (n,), 0 where their places are unknown.

    A place counts as inside from half the share of the image's fullest place on, since many boxes are smaller than a
    place; places that touch a box otherwise count for nothing. Those outside count twice: all of them, and the hardest.
    """
    share = targets[..., 0]
    fullest = keras.ops.max(share, axis=(1, 2), keepdims=True)
    inside = _where(keras.ops.greater_equal(share, keras.ops.maximum(fullest / 2, 0.03)))
    outside = _where(keras.ops.equal(share, 0))
    false_alarms = keras.ops.softplus(known) * outside
    flat = keras.ops.reshape(false_alarms, (-1, known.shape[1] * known.shape[2]))
    hardest = keras.ops.mean(keras.ops.top_k(flat, HARDEST_PLACES)[0], axis=1)
    misses = _mean_where(inside, keras.ops.softplus(-known))
    return targets[:, 0, 0, 3] * (misses + (_mean_where(outside, false_alarms) + hardest) / 2)


def patch_loss(targets: Tensor, scores: Tensor) -> Tensor:
    """Add up the losses of patches: of the places, and of the type inside boxes. `scores`: (n, r, c, 2)."""
    inside = _where(keras.ops.greater(targets[..., 0], 0.03))
    kind = _mean_where(inside, scores[..., 1])
    seen = keras.ops.max(inside, axis=(1, 2))
    return place_loss(targets, scores[..., 0]) + TYPE_LOSS * seen * _type_loss(targets, kind)


def film_loss(pairs: int) -> Any:
    """Return the loss of films: of the places, of the type where the fracture seems to be, and of the pairs.

    A pair's loss falls with how far the fractured film's strongest places score above the normal one's.
    """

    def loss(targets: Tensor, scores: Tensor) -> Tensor:
        flat = [keras.ops.reshape(scores[..., part], (-1, scores.shape[1] * scores.shape[2])) for part in (0, 1)]
        kind = keras.ops.sum(keras.ops.softmax(flat[0]) * flat[1], axis=1)
        strongest = keras.ops.mean(keras.ops.top_k(flat[0], STRONGEST_PLACES)[0], axis=1)
        paired = keras.ops.reshape(strongest[: 2 * pairs], (-1, 2))
        ranking = keras.ops.mean(keras.ops.softplus(paired[:, 1] - paired[:, 0]))
        of_films = keras.ops.mean(place_loss(targets, scores[..., 0]) + TYPE_LOSS * _type_loss(targets, kind))
        return of_films + PAIR_LOSS * ranking

    return loss


def _type_loss(targets: Tensor, kind: Tensor) -> Tensor:
    chance, weight = targets[:, 0, 0, 1], targets[:, 0, 0, 2]
    return weight * (keras.ops.softplus(kind) - chance * kind)


def _where(condition: Tensor) -> Tensor:
    return keras.ops.cast(condition, "float32")


def _mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    total = keras.ops.sum(chosen * values, axis=(1, 2))
    return total / keras.ops.maximum(keras.ops.sum(chosen, axis=(1, 2)), 1.0)


def train_places(recipe: Recipe, material: Material, rows: Rows, backup: Path) -> keras.Model:
    """Train on these rows and return a running mean of the weights; an unfinished earlier try resumes from `backup`."""
    keras.utils.set_random_seed(SEED)
    places = build_places(recipe)
    for phase in recipe.phases:
        done = backup / f"{phase.name}.weights.h5"
        if done.exists():
            places.load_weights(done)
            continue
        set_trainable(places, recipe.frozen_block if phase.trains_backbone else recipe.last_block)
        trainee = build_trainee(recipe, places) if phase.shows_films else join_scores(places)
        loss = [patch_loss, film_loss(phase.pairs)] if phase.shows_films else patch_loss
        trainee.compile(_optimizer(recipe, phase), loss=loss, jit_compile=False)
        batches = Batches(recipe, phase, material, rows)
        callbacks = [keras.callbacks.BackupAndRestore(backup / phase.name), _EpochLine(f"{backup.name} {phase.name}")]
        trainee.fit(batches, epochs=phase.epochs, verbose=0, callbacks=callbacks)
        done.parent.mkdir(parents=True, exist_ok=True)
        places.save_weights(done)
    return places


def score(network: keras.Model, films: Sequence[Image.Image], side: int, name: str) -> dict[str, NDArray[Any]]:
    """Return the network's outputs by name for these films."""
    outputs: list[dict[str, Any]] = []
    for start in tqdm(range(0, len(films), _SCORE_BATCH), f"score {name}", unit="batch"):
        pixels = [np.asarray(to_pixels(film, side), np.float32) for film in films[start : start + _SCORE_BATCH]]
        outputs.append(network.predict_on_batch(np.stack(pixels)[..., np.newaxis] / np.float32(255)))
    return {key: np.concatenate([np.asarray(part[key]) for part in outputs]) for key in outputs[0]}


def fit_type(network: keras.Model, material: Material, rows: Rows, side: int) -> Weights:
    """Fit which type a fracture is, linearly, to the features of the typed films among these rows: a kernel, a bias.

    The features at the strongest places count fully, the thumbnail's a fifth, so that the look of the whole has less
    say. The strength of the regularisation and the fifth were chosen on sources left out (`EXPERIMENTS.md`).
    """
    typed = [row for row in rows.tolist() if material.entries[row].is_typed]
    outputs = score(network, [material.films[row] for row in typed], side, "type")
    features = np.concatenate([outputs[FOCUSED], outputs[POOLED]], axis=1)
    scale = features.std(axis=0) + 1e-6
    scale[outputs[FOCUSED].shape[1] :] /= THUMBNAIL_SHARE
    middle = features.mean(axis=0)
    labels = [material.entries[row].label == "fisura" for row in typed]
    weights = [1.0 if material.entries[row].tier == "core" else 0.5 for row in typed]
    line = LogisticRegression(C=TYPE_REGULARISATION, class_weight="balanced", max_iter=3000)
    line.fit((features - middle) / scale, labels, sample_weight=weights)
    kernel = line.coef_[0] / scale
    return [kernel[:, np.newaxis].astype(np.float32), (line.intercept_ - middle @ kernel).astype(np.float32)]


def run_split(recipe: Recipe, split: Split, material: Material, folders: Folders) -> None:
    """Train on one split and write its weights; what is there is not trained again."""
    path = folders.run / f"{split.name}.weights.h5"
    if not path.exists():
        train_places(recipe, material, split.train, folders.run / "unfinished" / split.name).save_weights(path)
    path = folders.run / f"{split.name}.type.npz"
    if not path.exists():
        network = build_network(recipe, load_places(recipe, folders.run / f"{split.name}.weights.h5"))
        kernel, bias = fit_type(network, material, split.train, recipe.side)
        np.savez(path, kernel=kernel, bias=bias)


def score_split(recipe: Recipe, split: Split, material: Material, view: str, folders: Folders) -> None:
    """Write the scores of one view of the rows held back; what is there is not done again."""
    path = folders.scores / f"{split.name}.{view}.npz"
    if path.exists() or not len(split.score):
        return
    network = load_network(recipe, folders.run, split.name)
    films = [VIEWS[view](material.films[row]) for row in split.score.tolist()]
    outputs = score(network, films, recipe.side, f"{split.name} {view}")
    kept: dict[str, Any] = {"rows": split.score, KNOWN: outputs[KNOWN][:, 0], TYPE: outputs[TYPE][:, 0]}
    if view == PLAIN and split.is_fold:
        boxed = np.array([bool(entry.boxes) for entry in take(material.entries, split.score)], bool)
        kept |= {"boxed": split.score[boxed], "evidence": outputs[KNOWN_PLACE][boxed, ..., 0].astype(np.float16)}
        kept["strongest"] = outputs[KNOWN_PLACE].max(axis=(1, 2, 3))
    np.savez_compressed(path, **kept)


def save_features(recipe: Recipe, material: Material, folders: Folders) -> None:
    """Write the frozen features of every film, in the manifest's order; what is there is not done again."""
    path = folders.scores / "features.npz"
    if not path.exists():
        network = build_network(recipe)
        frozen = keras.Model(network.input, {POOLED: network.get_layer(POOLED).output})
        pooled = score(frozen, material.films, recipe.side, "features")[POOLED]
        np.savez_compressed(path, pooled=pooled.astype(np.float16))


def load_network(recipe: Recipe, run: Path, split: str) -> keras.Model:
    """Read the network of a split back. Raise TrainingError where it was not trained."""
    if not (run / f"{split}.type.npz").exists():
        raise TrainingError(f"{run} lacks the network of {split}: run `python -m training.train --split {split}` first")
    with np.load(run / f"{split}.type.npz") as line:
        weights = [line["kernel"], line["bias"]]
    return build_network(recipe, load_places(recipe, run / f"{split}.weights.h5"), weights)


def load_places(recipe: Recipe, path: Path) -> keras.Model:
    """Read a trained part back."""
    places = build_places(recipe)
    places.load_weights(path)
    return places


class _EpochLine(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        losses = ", ".join(f"{key} {value:.4f}" for key, value in (logs or {}).items())
        print(f"{self._name}: epoch {epoch + 1} of {self.params['epochs']}, {losses}", flush=True)


def _optimizer(recipe: Recipe, phase: Phase) -> keras.optimizers.Optimizer:
    steps = phase.epochs * phase.steps_per_epoch
    warmup = round(recipe.warmup_share * steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), warmup_target=phase.learning_rate, warmup_steps=max(1, warmup)
    )
    return keras.optimizers.AdamW(
        rate, weight_decay=recipe.weight_decay, global_clipnorm=5.0, use_ema=True, ema_momentum=recipe.ema_momentum
    )


def train(chosen: argparse.Namespace) -> None:
    """Check the manifest, then train and score what is still missing. Raise TrainingError."""
    recipe, entries = RECIPES[chosen.recipe], read_manifest(chosen.data)
    check_training(entries)
    splits = [find_split(entries, name) for name in chosen.split] if chosen.split else plan_splits(entries)
    check_duplicates(entries)
    folders = Folders(chosen.runs / recipe.name, chosen.scores / recipe.name)
    for folder in (folders.run, folders.scores):
        claim_folder(folder, digest_manifest(chosen.data))
    material = load_material(entries)
    for split in splits:
        run_split(recipe, split, material, folders)
        score_split(recipe, split, material, PLAIN, folders)
    for split in splits if chosen.damages else ():
        for view in DAMAGES if split.is_fold else ():
            score_split(recipe, split, material, view, folders)
    save_features(recipe, material, folders)


def main() -> int:
    """Train and score what is still missing of a recipe's splits; return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m training.train", description="Train a recipe on each fold, without each source, and on all films."
    )
    add_data_argument(parser)
    parser.add_argument("--recipe", choices=RECIPES, default="places")
    parser.add_argument("--split", action="append", help="only this split, such as fold_0; may be repeated")
    parser.add_argument("--damages", action="store_true", help="then score the folds' damaged views too")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the weights")
    parser.add_argument("--scores", type=Path, default=SCORES, help="folder of the scores")
    chosen = parser.parse_args()
    return run_command(lambda: train(chosen), hint="the same command resumes")


if __name__ == "__main__":
    sys.exit(main())
