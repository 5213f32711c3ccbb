"""Judges whether a recipe bears bfloat16 behind the layer that it names: `python -m training.precision --help`.

Each fold's network, calibrated on the other folds, is run in both formats on the images that it has not seen.
Bfloat16 is emulated, so that any processor can judge it: the weights behind that layer and what each layer there puts
out are rounded, sums are not. A runtime that joins layers would round less often.
The rule: the AUCs fall by less than 0.002, and fewer than 1 verdict in 500 changes.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from training.backbone import Tensor
from training.calibration import confidence, fit_calibration, log_odds
from training.export import build_network
from training.manifest import CLASS_NAMES, Entry, add_data_argument, read_manifest, take
from training.metrics import Floats, auc
from training.network import PROBABILITIES
from training.outcome import Outcome, load_outcome
from training.prepare import CACHE, load_view
from training.recipe import RECIPES, Recipe
from training.train import RUNS, SCORES
from training.views import PLAIN

MOST_FLIPS: Final = 1 / 500
MOST_LOST: Final = 0.002
SEEN: Final = 200

_BATCH: Final = 16

Images = NDArray[np.float32]
Pair = tuple[Floats, Floats]  # probabilities in float32 and in the shorter format, (n, 3) each
RunBoth = Callable[[keras.Model, Images, Images], Pair]  # of a network, inputs, and SEEN inputs that it was trained on


def score_both(
    recipe: Recipe, entries: Sequence[Entry], outcome: Outcome, runs: Path, cache: Path, run_both: RunBoth
) -> Pair:
    """Return what the folds' networks say in both formats of the images held back, rows in the manifest's order."""
    pixels = load_view(cache, recipe.size, PLAIN)
    folds = np.array([entry.fold for entry in entries])
    exact, short = np.empty((len(entries), 3)), np.empty((len(entries), 3))
    for fold in np.unique(folds):
        others, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        calibration = fit_calibration(outcome.raw[others], take(entries, others))
        network = build_network(recipe, runs, f"fold_{fold}", calibration)
        seen = others[:: max(1, len(others) // SEEN)]
        inputs, examples = (np.asarray(pixels[rows], np.float32) / np.float32(255) for rows in (held, seen))
        exact[held], short[held] = run_both(network, inputs, examples)
        print(f"fold {fold}: {len(held)} images", flush=True)
    return exact, short


def run_bfloat16(network: keras.Model, inputs: Images, layer: str) -> Pair:
    """Run the network in float32, and with bfloat16 emulated behind the layer."""
    middle, rounded = emulate(network, layer)
    exact = keras.Model(middle.output, network.get_layer(PROBABILITIES).output)
    parts = [middle.predict_on_batch(part) for part in np.array_split(inputs, max(1, len(inputs) // _BATCH))]
    in_float32, in_bfloat16 = (
        np.concatenate([behind.predict_on_batch(part) for part in parts]).astype(np.float64)
        for behind in (exact, rounded)
    )
    return in_float32, in_bfloat16


def emulate(network: keras.Model, layer: str) -> tuple[keras.Model, keras.Model]:
    """Return the network up to the layer, and the probabilities behind it with bfloat16 emulated."""
    cut = network.get_layer(layer).output
    behind = keras.Model(cut, network.get_layer(PROBABILITIES).output)
    rounded = keras.models.clone_model(
        behind, call_function=lambda layer, *given, **more: _round(layer(*given, **more))
    )
    rounded.set_weights([keras.ops.convert_to_numpy(_round(weights)) for weights in behind.get_weights()])
    return keras.Model(network.input, cut), rounded


def _round(values: Tensor) -> Tensor:
    return keras.ops.cast(keras.ops.cast(values, "bfloat16"), "float32")


def verdicts(probabilities: Floats, thresholds: Floats) -> NDArray[np.int64]:
    """Return the number of the class that the service would answer, -1 where it would refuse. (n,)."""
    known = probabilities[:, : len(CLASS_NAMES)].argmax(axis=1)
    return np.where(confidence(probabilities) >= thresholds, known, -1)


def aucs(probabilities: Floats, entries: Sequence[Entry]) -> tuple[float, float]:
    """Return the AUC of fisura against fractura, and that of fractured against normal in FracAtlas."""
    known, kind = log_odds(probabilities)
    typed = np.array([entry.is_typed for entry in entries])
    fisura = np.array([entry.label == "fisura" for entry in entries])
    fractured = np.array([entry.is_fractured for entry in entries])
    normal = np.array([entry.label == "normal" for entry in entries])
    bones = (fractured | normal) & np.array([entry.source == "fracatlas" for entry in entries])
    return auc(kind[typed], fisura[typed]), auc(known[bones], fractured[bones])


def report(number_format: str, pair: Pair, outcome: Outcome, entries: Sequence[Entry]) -> None:
    """Print what a number format changes, and whether that is allowed."""
    exact, short = pair
    flips = int(np.sum(verdicts(exact, outcome.thresholds) != verdicts(short, outcome.thresholds)))
    lost = [before - after for before, after in zip(aucs(exact, entries), aucs(short, entries), strict=True)]
    p50, p99, most = 100 * np.quantile(np.abs(exact - short).max(axis=1), [0.5, 0.99, 1])
    print(f"| {number_format} against float32, n = {len(entries):,} out of fold | | allowed |")
    print("| --- | --- | --- |")
    print(f"| verdicts that change | {flips} | under {MOST_FLIPS * len(entries):.1f} |")
    print(f"| AUC lost, type / fractured in FracAtlas | {lost[0]:.4f} / {lost[1]:.4f} | under {MOST_LOST} |")
    print(f"| a probability moves by, p50 / p99 / most | {p50:.2f} / {p99:.2f} / {most:.2f} points | |")
    is_borne = flips < MOST_FLIPS * len(entries) and max(lost) < MOST_LOST
    print("Borne." if is_borne else "Not borne.")


def parse_arguments(description: str) -> argparse.Namespace:
    """Read which run is judged."""
    parser = argparse.ArgumentParser(description=description)
    add_data_argument(parser)
    parser.add_argument("--recipe", choices=RECIPES, default="grid")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--scores", type=Path, default=SCORES)
    return parser.parse_args()


def judge(number_format: str, run_both: RunBoth, chosen: argparse.Namespace) -> None:
    """Compare a run's networks in both formats and print what was found."""
    recipe, entries = RECIPES[chosen.recipe], read_manifest(chosen.data)
    outcome = load_outcome(chosen.scores / recipe.name, entries)
    pair = score_both(recipe, entries, outcome, chosen.runs, chosen.cache, run_both)
    report(number_format, pair, outcome, entries)


def main() -> None:
    """Print what bfloat16 changes, and whether that is allowed."""
    chosen = parse_arguments("Compare a recipe in bfloat16 with itself in float32, out of fold.")
    layer = RECIPES[chosen.recipe].bfloat16_after
    if not layer:
        raise SystemExit(f"{chosen.recipe} names no layer behind which bfloat16 would do")
    judge(f"bfloat16 behind {layer}", lambda network, inputs, _: run_bfloat16(network, inputs, layer), chosen)


if __name__ == "__main__":
    main()
