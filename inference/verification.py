"""Verify that a network computes what it was trained to: its golden outputs, or at least probabilities."""

from pathlib import Path
from typing import Any, Final, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from config import SCALINGS
from inference.classifier import Classifier, as_two
from inference.inspection import ModelError
from inference.keras_engine import Images

GOLDEN_TOLERANCE: Final = 1e-3
SUM_TOLERANCE: Final = 1e-2
NEGLIGIBLE: Final = 1e-6  # below 0: a share of 0 after rounding
MAX_GOLDEN_BYTES: Final = 50_000_000


class Golden(NamedTuple):
    """Images and the network's outputs for them: uint8 (n, height, width, channels), float32 (n, outputs)."""

    inputs: NDArray[np.uint8]
    outputs: NDArray[np.float32]


def read_golden(path: Path) -> Golden | None:
    """Return the file's golden inputs and outputs, None if it has none. Raise ModelError."""
    with h5py.File(path, "r") as file:
        if "bone_golden" not in file:
            return None
        try:
            inputs, outputs = file["bone_golden/inputs"], file["bone_golden/outputs"]
            _check_kind(inputs, outputs)
            return Golden(inputs[()], outputs[()])
        except (KeyError, TypeError, AttributeError):
            raise ModelError("its group bone_golden must hold the data sets inputs and outputs.") from None


def _check_kind(inputs: Any, outputs: Any) -> None:
    is_expected = (inputs.dtype, outputs.dtype, inputs.ndim, outputs.ndim) == (np.uint8, np.float32, 4, 2)
    _require(
        is_expected and inputs.nbytes + outputs.nbytes <= MAX_GOLDEN_BYTES,
        "its golden inputs must be uint8 (n, height, width, channels), the outputs float32 (n, outputs), both "
        f"together at most {MAX_GOLDEN_BYTES:,} bytes.",
    )


def verify(classifier: Classifier, golden: Golden | None) -> None:
    """Run the golden inputs, whose outputs must match within 1e-3, else black, white and noise. Raise ModelError.

    The outputs must be probabilities. The same run warms the network up.
    """
    outputs = classifier.predict(_inputs(classifier, golden))
    _check_probabilities(outputs.probabilities)
    _check_familiarity(outputs.familiarity)
    if golden is not None:
        _check_golden(outputs.probabilities, golden.outputs)


def _inputs(classifier: Classifier, golden: Golden | None) -> Images:
    """Return the images to verify with as the network expects them. Raise ModelError."""
    shape = (*classifier.input_size, classifier.channels)
    inputs = _plain_images(shape) if golden is None else golden.inputs
    _require(
        inputs.shape[1:] == shape and len(inputs) > 0,
        f"its golden inputs have the shape {inputs.shape}; they must be (n, {', '.join(map(str, shape))}).",
    )
    return SCALINGS[classifier.scaling].apply(inputs.astype(np.float32))


def _plain_images(shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a black image, a white one and noise."""
    noise = np.random.default_rng(0).integers(0, 256, shape)
    return np.stack([np.zeros(shape), np.full(shape, 255), noise])


def _check_probabilities(probabilities: NDArray[np.float32]) -> None:
    sums = probabilities.sum(axis=1)
    _require(bool(np.all(np.isfinite(probabilities))), "its outputs are not finite; its weights are damaged.")
    _require(
        bool(np.all(probabilities >= -NEGLIGIBLE) and np.all(np.abs(sums - 1) <= SUM_TOLERANCE)),
        f"its outputs are not probabilities (they add up to {sums[np.argmax(np.abs(sums - 1))]:.3g}); "
        "end it with a softmax over the classes, or a sigmoid for two.",
    )


def _check_familiarity(familiarity: NDArray[np.float32] | None) -> None:
    _require(
        familiarity is None or bool(np.all((familiarity >= -NEGLIGIBLE) & (familiarity <= 1 + NEGLIGIBLE))),
        "its output familiarity is not a share from 0 to 1; end it with a sigmoid or another function of that range.",
    )


def _check_golden(probabilities: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    _require(
        expected.shape in (probabilities.shape, (len(probabilities), 1)),
        f"its golden outputs have the shape {expected.shape}; they must be {probabilities.shape}.",
    )
    if expected.shape[1] == 1:
        expected = as_two(expected)
    difference = float(np.max(np.abs(probabilities - expected)))
    _require(
        difference <= GOLDEN_TOLERANCE,
        f"it misses its golden outputs by {difference:.3g}; its weights are damaged, or BONE_SCALING is not what it "
        "was trained with.",
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ModelError(message)
