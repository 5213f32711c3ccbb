"""Judges 8-bit integers by the rule that bfloat16 is judged by: `python -m benchmarks.int8 --help`.

Each fold's network becomes an ONNX file, is quantised with images that it was trained on, and answers those that it has
not seen; the rule stands in training/precision.py. It wants benchmarks/environments/engines.txt and a finished run.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf2onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.rates import lone
from benchmarks.runtimes import open_session
from training.metrics import Floats
from training.precision import Images, Pair, judge, parse_arguments


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands the quantiser one image at a time."""

    def __init__(self, name: str, images: Images) -> None:
        self._feeds: Iterator[dict[str, Any]] = ({name: image[np.newaxis]} for image in images)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def run_int8(network: Any, inputs: Images, examples: Images) -> Pair:
    """Run the network in float32 and in 8 bits, and print how much quicker 8 bits are on one core."""
    with tempfile.TemporaryDirectory() as folder:
        sessions = [open_session(path, 1) for path in quantise(network, examples, Path(folder))]
    exact, short = (_answer(session, inputs) for session in sessions)
    slow, fast = (_lone(session, inputs[:1]) for session in sessions)
    print(f"8 bits: {slow / fast:.2f} times as quick, one core", flush=True)
    return exact, short


def quantise(network: Any, examples: Images, folder: Path) -> tuple[Path, Path]:
    """Write the network as ONNX in float32 and in 8 bits: a scale per channel, ranges as met with the examples."""
    exact, ready, short = (folder / f"{name}.onnx" for name in ("exact", "ready", "short"))
    run = tf.function(lambda images: network(images, training=False)[0])
    signature = [tf.TensorSpec((1, *network.input_shape[1:]), tf.float32)]
    model, _ = tf2onnx.convert.from_function(run, input_signature=signature, opset=18)
    exact.write_bytes(model.SerializeToString())
    quant_pre_process(exact, ready, skip_symbolic_shape=True)
    quantize_static(
        ready,
        short,
        _Reader(open_session(ready, 1).get_inputs()[0].name, examples),
        per_channel=True,
        reduce_range=True,  # seven bits a weight, else sums overflow on a processor without VNNI
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return exact, short


def _answer(session: Any, images: Images) -> Floats:
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[np.newaxis]})[0] for image in images]).astype(np.float64)


def _lone(session: Any, image: Images) -> float:
    return lone(lambda _: _answer(session, image), seconds=3)


if __name__ == "__main__":
    judge("8 bits throughout", run_int8, parse_arguments("Compare a recipe in 8 bits with itself in float32."))
