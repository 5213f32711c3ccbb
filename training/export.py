"""Writes the file that the service loads: `python -m training.export --help`.

The network trained on all images, its calibration folded into the weights, and beside them, as attributes of the
file's root, everything that belongs to these weights: class order, operating point, input, prior, versions, figures.
"""

import argparse
import dataclasses
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from training.calibration import Calibration, choose_threshold, confidence, fit_calibration, prior
from training.manifest import CLASS_NAMES, Entry, add_data_argument, digest_manifest, read_manifest
from training.network import PROBABILITIES, join
from training.outcome import load_outcome
from training.recipe import RECIPES, Recipe
from training.train import RUNS, SCORES, load_head

MODEL: Final = Path("bone_fracture_classifier.h5")


def build_network(recipe: Recipe, runs: Path, split: str, calibration: Calibration) -> keras.Model:
    """Build the network from the head of one split, calibrated."""
    head = load_head(recipe, runs / recipe.name / f"{split}.weights.h5")
    network = join(recipe, head, calibration)
    if recipe.shows_evidence:
        return network
    return keras.Model(network.input, network.get_layer(PROBABILITIES).output, name=network.name)


def golden_inputs(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw noise and three bones with a break: uint8, (4, height, width, 1). Few, since each start waits for them.

    The bones matter most: a network that answers "none" to the noise differs on them when its weights are damaged.
    """
    noise = np.random.default_rng(0).integers(0, 256, size)
    breaks = ((0.0, 0.3, 0.004), (0.12, 0.5, 0.01), (0.15, 0.6, 0.03))
    return np.stack([noise, *(_draw_bone(size, *measures) for measures in breaks)])[..., None].astype(np.uint8)


def _draw_bone(size: tuple[int, int], shift: float, slope: float, gap: float) -> NDArray[np.float64]:
    """Draw a shaft broken along a slope, its lower part shifted: values 0 to 255; measures are shares of the sides."""
    down, across = (axis / side for axis, side in zip(np.mgrid[0 : size[0], 0 : size[1]], size, strict=True))
    line = 0.5 + slope * (across - 0.5)
    off_axis = abs(across - 0.5 - np.where(down > line, shift, 0))
    image = np.where(abs(across - 0.5) < 0.3, 70.0, 8.0)
    image = np.where(off_axis < 0.09, np.where(off_axis > 0.06, 225.0, 150.0), image)
    image = np.where((abs(down - line) < gap) & (off_axis < 0.1), 75.0, image)
    for axis in (0, 1, 0, 1, 0, 1):
        image = (np.roll(image, 1, axis) + image + np.roll(image, -1, axis)) / 3
    return np.clip(image + np.random.default_rng(0).normal(0, 4, size), 0, 255)


def write_model(network: keras.Model, path: Path, attributes: dict[str, Any]) -> None:
    """Save the network without optimizer, then the golden group and the attributes, which Keras would drop."""
    inputs = golden_inputs(network.input_shape[1:3])
    answers = keras.Model(network.input, network.get_layer(PROBABILITIES).output)
    probabilities = answers.predict_on_batch(inputs.astype(np.float32) / np.float32(255))
    network.save(path, include_optimizer=False)
    with h5py.File(path, "r+") as file:
        group = file.create_group("bone_golden")
        group.create_dataset("inputs", data=inputs, compression="gzip")
        group.create_dataset("outputs", data=probabilities.astype(np.float32), compression="gzip")
        for name, value in attributes.items():
            file.attrs[f"bone_{name}"] = value


def describe(recipe: Recipe, entries: Sequence[Entry], threshold: float, data_version: str) -> dict[str, Any]:
    """List the attributes that state what the weights need and where they come from."""
    return {
        "class_names": ",".join(CLASS_NAMES),
        "threshold": threshold,
        "scaling": "unit",
        "resize": "letterbox",
        "prior": json.dumps({name: round(share, 4) for name, share in prior(entries).items()}),
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


def main() -> None:
    """Export a finished run."""
    parser = argparse.ArgumentParser(description="Write the network of a finished run as the service's .h5.")
    add_data_argument(parser)
    parser.add_argument("--recipe", choices=RECIPES, default="grid")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--scores", type=Path, default=SCORES)
    parser.add_argument("--output", type=Path, default=MODEL)
    parser.add_argument("--split", default="all", help="whose heads to ship: all, or fold_0 and so on")
    parser.add_argument("--version", required=True, help="such as 2026.11.23-1")
    chosen = parser.parse_args()
    recipe, entries = RECIPES[chosen.recipe], read_manifest(chosen.data)
    outcome = load_outcome(chosen.scores / recipe.name, entries)
    calibration = fit_calibration(outcome.raw, entries)
    threshold = choose_threshold(confidence(calibration.apply(outcome.raw)), entries)
    attributes = describe(recipe, entries, threshold, digest_manifest(chosen.data))
    attributes["trained_on"] = chosen.split
    attributes["quality"] = (chosen.scores / f"{recipe.name}.quality.json").read_text()
    network = build_network(recipe, chosen.runs, chosen.split, calibration)
    write_model(network, chosen.output, {"version": chosen.version, **attributes})
    print(f"{chosen.output}: {chosen.output.stat().st_size:,} bytes, threshold {threshold}")


if __name__ == "__main__":
    main()
