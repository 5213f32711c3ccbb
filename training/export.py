"""Writes the file that the service loads: `python -m training.export --help`.

The network of a split, by default of all films, with calibration, scope and familiarity as layers behind it; and beside
the weights, as attributes of the file's root, everything that belongs to them: class order, operating point, input,
prior, conformal quantiles, the heat map's scale, reference histograms, versions, figures.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.backbone import Tensor
from training.calibration import PRIOR, Calibration
from training.checks import check_training, claim_folder
from training.errors import TrainingError, run_command
from training.learnt import DATASET, hash_films
from training.manifest import CLASS_NAMES, Entry, add_data_argument, digest_manifest, read_manifest, take
from training.network import KNOWN, KNOWN_PLACE, POOLED, TYPE
from training.outcome import Fit, evidence_scale, fit, load_features, load_run
from training.recipe import RECIPES, Recipe
from training.reference import Histograms, fit_reference
from training.scope import Familiarity, Features, Scope, fit_familiarity, fit_scope
from training.splits import find_split
from training.train import RUNS, SCORES, load_network

MODEL: Final = Path("bone_fracture_classifier.h5")
PROBABILITIES: Final = "probabilities"
EVIDENCE: Final = "evidence"
FAMILIARITY: Final = "familiarity"


def finish_network(
    network: keras.Model, calibration: Calibration, scope: Scope, familiarity: Familiarity
) -> keras.Model:
    """Put what was fitted after training behind a network's outputs, as layers.

    Outputs: `probabilities`, (n, 3), of fisura, fractura, none; `evidence`, (n, rows, columns, 2), the same for both
    classes: the score of a fracture in each region; `familiarity`, (n, 1).
    """
    scores = dict(zip(network.output_names, network.outputs, strict=True))
    in_scope = calibration.scope
    lines = {
        KNOWN: ([[calibration.known.scale]], calibration.known.bias),
        TYPE: ([[calibration.type.scale]], calibration.type.bias),
        POOLED: (scope.weights[:, None] * in_scope.scale, scope.bias * in_scope.scale + in_scope.bias),
    }
    shares = {
        name: _dense(scores[name], *line, f"{name}_calibrated", activation="sigmoid") for name, line in lines.items()
    }
    fractured = layers.Multiply(name="fractured")([shares[KNOWN], shares[POOLED]])
    outputs = [
        share_out(fractured, shares[TYPE]),
        layers.Concatenate(name=EVIDENCE)([scores[KNOWN_PLACE]] * len(CLASS_NAMES)),
        _attach_familiarity(scores[POOLED], familiarity),
    ]
    return keras.Model(network.input, outputs, name=network.name)


def golden_inputs(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw noise and three bones with a break: uint8, (4, height, width, 1). Few, since each start waits for them.

    The bones matter most: a network that answers "none" to the noise differs on them when its weights are damaged.
    """
    noise = np.random.default_rng(0).integers(0, 256, size)
    breaks = ((0.0, 0.3, 0.004), (0.12, 0.5, 0.01), (0.15, 0.6, 0.03))
    return np.stack([noise, *(_draw_bone(size, *measures) for measures in breaks)])[..., None].astype(np.uint8)


def write_model(
    network: keras.Model,
    path: Path,
    attributes: Mapping[str, Any],
    films: Sequence[Path] = (),
    learnt: Set[bytes] = frozenset(),
) -> None:
    """Save the network without optimizer and what Keras would drop: golden group, attributes, hashes of its films.

    `learnt` holds the hashes of further films that taught it. The file is written whole or not at all.
    """
    inputs = golden_inputs(network.input_shape[1:3])
    answers = keras.Model(network.input, network.get_layer(PROBABILITIES).output)
    probabilities = answers.predict_on_batch(inputs.astype(np.float32) / np.float32(255))
    unfinished = path.with_name(f"unfinished-{path.name}")
    network.save(unfinished, include_optimizer=False)
    with h5py.File(unfinished, "r+") as file:
        group = file.create_group("bone_golden")
        group.create_dataset("inputs", data=inputs, compression="gzip")
        group.create_dataset("outputs", data=probabilities.astype(np.float32), compression="gzip")
        file.create_dataset(DATASET, data=hash_films(films, learnt))
        for name, value in attributes.items():
            file.attrs[f"bone_{name}"] = value
    unfinished.replace(path)


def describe(
    recipe: Recipe,
    fitted: Fit,
    scale: tuple[float, float],
    reference: Mapping[str, Histograms],
    data_version: str,
) -> dict[str, Any]:
    """List the attributes that state what the weights need and where they come from."""
    return {
        "class_names": ",".join(CLASS_NAMES),
        "threshold": fitted.threshold,
        "scaling": "unit",
        "resize": "letterbox",
        "prior": json.dumps(PRIOR),
        "conformal": json.dumps({name: round(value, 6) for name, value in fitted.quantiles.items()}),
        "evidence": json.dumps(dict(zip(("from", "to"), scale, strict=True))),
        **({"reference": json.dumps(reference)} if reference else {}),
        "data_version": data_version,
        "code_version": code_version(),
        "recipe": json.dumps(dataclasses.asdict(recipe)),
    }


def code_version() -> str:
    """Return the commit that trained, with a plus where files differ from it, or "unknown" outside a repository."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def share_out(fractured: Tensor, fisura: Tensor) -> Tensor:
    """Turn P(fractured) and P(fisura | fractured), (n, 1) each, into fisura, fractura, none: (n, 3).

    Every layer has a name: an automatic one could be that of a layer in a network that was loaded.
    """
    fractura = layers.Rescaling(-1, offset=1, name="fractura_if_fractured")(fisura)
    none = layers.Rescaling(-1, offset=1, name="none")(fractured)
    shares = {"fisura": fisura, "fractura": fractura}
    known = [layers.Multiply(name=name)([fractured, share]) for name, share in shares.items()]
    return layers.Concatenate(name=PROBABILITIES)([*known, none])


def _attach_familiarity(pooled: Tensor, familiarity: Familiarity) -> Tensor:
    """Attach the share as layers: the distance as |x|^2 - 2 m x + |m|^2 - |A(x - m)|^2, then a piecewise linear map."""
    mean, axes = familiarity.mean, familiarity.axes
    projected = _dense(pooled, axes, -mean @ axes, "projected")
    linear = _dense(pooled, -2 * mean[:, None], mean @ mean, "linear_part")
    whole = layers.Add()([layers.Dot(axes=1)([pooled, pooled]), linear])
    distance = layers.Subtract(name="distance")([whole, layers.Dot(axes=1)([projected, projected])])
    knots, shares = familiarity.distances, familiarity.shares
    slopes = np.diff(shares) / np.diff(knots)
    bends = np.diff(slopes, prepend=0.0)
    past = _dense(distance, np.ones((1, len(bends))), -knots[:-1], "past_knots", activation="relu")
    return layers.ReLU(max_value=1, name=FAMILIARITY)(_dense(past, bends[:, None], shares[0], "share"))


def _dense(x: Tensor, weights: Any, bias: Any, name: str, activation: str | None = None) -> Tensor:
    kernel = np.asarray(weights, np.float32)
    layer = layers.Dense(kernel.shape[1], activation=activation, name=name)
    output = layer(x)
    layer.set_weights([kernel, np.broadcast_to(np.asarray(bias, np.float32), kernel.shape[1:])])
    return output


def _draw_bone(size: tuple[int, int], shift: float, slope: float, gap: float) -> NDArray[np.float64]:
    """Draw a shaft broken along a slope, its lower part shifted: values 0 to 255; measures in fractions of a side."""
    down, across = (axis / side for axis, side in zip(np.mgrid[0 : size[0], 0 : size[1]], size, strict=True))
    line = 0.5 + slope * (across - 0.5)
    off_axis = abs(across - 0.5 - np.where(down > line, shift, 0))
    image = np.where(abs(across - 0.5) < 0.3, 70.0, 8.0)
    image = np.where(off_axis < 0.09, np.where(off_axis > 0.06, 225.0, 150.0), image)
    image = np.where((abs(down - line) < gap) & (off_axis < 0.1), 75.0, image)
    for axis in (0, 1, 0, 1, 0, 1):
        image = (np.roll(image, 1, axis) + image + np.roll(image, -1, axis)) / 3
    return np.clip(image + np.random.default_rng(0).normal(0, 4, size), 0, 255)


def fit_and_finish(network: keras.Model, features: Features, learnt: Sequence[Entry], fitted: Fit) -> keras.Model:
    """Fit scope and familiarity on the films that a network learnt from, and put all that was fitted behind it."""
    bone = np.array([entry.label != "other" for entry in learnt])
    familiarity = fit_familiarity(features[bone], [entry.fold for entry in learnt if entry.label != "other"])
    return finish_network(network, fitted.calibration, fit_scope(features, bone), familiarity)


def export(chosen: argparse.Namespace) -> None:
    """Write the file, whole or not at all. Raise TrainingError."""
    recipe, entries = RECIPES[chosen.recipe], read_manifest(chosen.data)
    check_training(entries)
    rows = find_split(entries, chosen.split).train
    if chosen.output.exists() and not chosen.overwrite:
        raise TrainingError(f"{chosen.output} exists already; name another file with --output, or say --overwrite.")
    scores, digest = chosen.scores / recipe.name, digest_manifest(chosen.data)
    claim_folder(scores, digest)
    run = load_run(scores, entries)
    everything = np.ones(len(entries), bool)
    fitted = fit(run, entries, everything)
    reference = fit_reference(fitted.calibration, run.left_out, entries, everything)
    attributes = describe(recipe, fitted, evidence_scale(run, entries), reference, digest)
    attributes |= {"version": chosen.version, "trained_on": chosen.split}
    attributes["quality"] = read_text(chosen.scores / f"{recipe.name}.quality.json")
    learnt, trained = take(entries, rows), load_network(recipe, chosen.runs / recipe.name, chosen.split)
    network = fit_and_finish(trained, load_features(scores)[rows], learnt, fitted)
    write_model(network, chosen.output, attributes, [entry.path for entry in learnt])
    print(f"{chosen.output}: {chosen.output.stat().st_size:,} bytes, threshold {fitted.threshold}")


def read_text(quality: Path) -> str:
    """Return the figures that travel in the file. Raise TrainingError where they were not computed."""
    try:
        return quality.read_text()
    except OSError:
        raise TrainingError(f"there is no {quality}: run `python -m training.evaluate` first") from None


def main() -> int:
    """Export a finished run; return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m training.export", description="Write the network of a finished run as the service's .h5."
    )
    add_data_argument(parser)
    parser.add_argument("--recipe", choices=RECIPES, default="places")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--scores", type=Path, default=SCORES)
    parser.add_argument("--output", type=Path, default=MODEL, help=f"the file to write (default: {MODEL})")
    parser.add_argument("--overwrite", action="store_true", help="replace that file where it exists")
    parser.add_argument("--split", default="all", help="whose network to ship: all, or fold_0 and so on")
    parser.add_argument("--version", required=True, help="such as 2026.11.27-1")
    chosen = parser.parse_args()
    if chosen.output.suffix not in (".h5", ".hdf5"):
        parser.error("--output must end in .h5")
    return run_command(lambda: export(chosen))


if __name__ == "__main__":
    sys.exit(main())
