"""The compiled network in bfloat16 against itself in float32, on every radiograph of a folder.

    BONE_DATA_DIR=… python -m benchmarks.precision

Four minutes for 2,825 images. A faster format is worth having only if it costs fewer than one verdict in 500 and its
golden outputs still come back within 1e-3, as the service promises before it says that it is ready.
"""

import os
import tempfile
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from app import decode, load
from compiled_engine import import_openvino, unpack
from config import read_config
from model_loader import Classifier
from prediction import judge
from preprocessing import prepare
from training.manifest import read_manifest

FORMATS: Final = ("f32", "bf16")
MAX_PIXELS: Final = 50_000_000

Floats = NDArray[np.float32]


def compiled(cache: Path, precision: str) -> Any:
    """Compile the one entry of the cache in this format, for all cores."""
    openvino = import_openvino()
    [entry] = cache.glob("network-*.zip")
    parts = unpack(entry.read_bytes())
    core = openvino.Core()
    return core.compile_model(core.read_model(parts.xml, parts.weights), "CPU", {"INFERENCE_PRECISION_HINT": precision})


def verdicts(classifier: Classifier, outputs: Floats) -> list[str | None]:
    """Return the class that the service would answer for each row, None where it would refuse."""
    judged = [judge(row, classifier.class_names, classifier.threshold) for row in outputs]
    return [verdict.predicted_class for verdict in judged]


def golden_difference(model: Path, network: Any) -> float:
    """Return how far the file's golden outputs are missed."""
    with h5py.File(model, "r") as file:
        inputs, expected = file["bone_golden/inputs"][()], file["bone_golden/outputs"][()]
    outputs = np.concatenate([network(image[np.newaxis].astype(np.float32) / 255)[0] for image in inputs])
    return float(np.max(np.abs(outputs - expected)))


def main() -> None:
    """Score every image in both formats and print what differs."""
    with tempfile.TemporaryDirectory() as cache:
        config = read_config({"BONE_ENGINE": "compiled", "BONE_CACHE_DIR": cache})
        classifier = load(config)
        networks = [compiled(config.cache_path, precision) for precision in FORMATS]
    found: list[list[Floats]] = [[], []]
    for entry in read_manifest(Path(os.environ["BONE_DATA_DIR"])):
        image, _ = decode(entry.path.read_bytes(), MAX_PIXELS)
        inputs = prepare(image, classifier.input_size, classifier.channels, classifier.scaling, classifier.resize)
        for outputs, network in zip(found, networks, strict=True):
            outputs.append(network(inputs)[0])
    exact, short = (np.concatenate(outputs) for outputs in found)
    flips = sum(one != other for one, other in zip(*(verdicts(classifier, out) for out in (exact, short)), strict=True))
    largest = np.abs(exact - short).max(axis=1)
    print("| bfloat16 against float32 | |\n| --- | --- |")
    print(f"| verdicts that change | {flips} of {len(exact):,} (allowed: 1 in 500) |")
    print(f"| largest difference of a probability: p50, p99, most | {_points(np.quantile(largest, [0.5, 0.99, 1]))} |")
    print(f"| golden outputs missed by | {golden_difference(config.model_path, networks[1]):.1e} (allowed: 1e-3) |")


def _points(shares: NDArray[np.float64]) -> str:
    return ", ".join(f"{100 * share:.2f}" for share in shares) + " points"


if __name__ == "__main__":
    main()
