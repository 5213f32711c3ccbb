"""A Keras .h5 on TensorFlow: loaded to run here, or, in a child process, compiled into what LiteRT runs.

The only module that imports TensorFlow, and only to load a network: that takes seconds and 500 MB.
`compiled_engine.py` runs this file by its path, under `python -I`, so it imports nothing of the project.
"""

import io
import json
import os
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Shape = tuple[int | None, ...]
Traced = Callable[[Any], list[Any]]  # TensorFlow's function of a batch

PROBABILITIES: Final = "probabilities"
OPTIONAL_OUTPUTS: Final = ("evidence", "familiarity")
TOLERANCES: Final = {"probabilities": 1e-4, "familiarity": 1e-3}  # between Keras and the compiled network
MADE_WITH: Final = ("keras", "tensorflow", "tf_keras")
UNFIT: Final = 3  # exit codes of the child
UNFAITHFUL: Final = 4


@dataclass(frozen=True)
class KerasNetwork:
    """A traced network. Shapes are those of the file; None stands for any size."""

    input_shape: Shape
    output_shapes: dict[str, Shape]
    model: Any
    indexes: tuple[int, ...]  # of those outputs among the model's
    run: Traced
    name: str = "tensorflow"

    def __call__(self, images: Images) -> dict[str, NDArray[np.float32]]:
        """Run (n, height, width, channels); return the outputs by name."""
        return {name: output.numpy() for name, output in zip(self.output_shapes, self.run(images), strict=True)}


def load_keras(path: Path, keras_version: str) -> KerasNetwork:
    """Load with Keras 3, or with Keras 2 what Keras 3 cannot read. Raise ValueError: what does not fit."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras  # noqa: PLC0415 takes seconds and 500 MB: only where a network is loaded

    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        if not keras_version.startswith("2."):
            raise _unloadable(keras_version, error) from error
        model = _load_keras_2(path, keras_version)
    return _to_network(model)


def _load_keras_2(path: Path, keras_version: str) -> Any:
    import tf_keras  # noqa: PLC0415 needed by few files

    try:
        return tf_keras.models.load_model(path, compile=False)
    except Exception as error:
        raise _unloadable(keras_version, error) from error


def _unloadable(keras_version: str, error: Exception) -> ValueError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
    return ValueError(f"Keras cannot rebuild it (written by Keras {keras_version}): {reason}")


def _to_network(model: Any) -> KerasNetwork:
    """Find the input and the outputs, and trace the network once, for any number of images. Raise ValueError."""
    _require(len(model.inputs or ()) == 1, "it must have one input, an image; give it one Input layer.")
    shape = tuple(model.inputs[0].shape)
    _require(
        len(shape) == 4 and shape[3] in (1, 3),
        f"its input has the shape {shape}; it must be (images, height, width, 1 or 3 channels).",
    )
    indexes = _output_indexes(list(getattr(model, "output_names", ())))  # a Sequential of Keras 3 has no names
    shapes = {name: tuple(model.outputs[index].shape) for name, index in indexes.items()}
    main = shapes[PROBABILITIES]
    _require(
        len(main) == 2 and main[1] is not None,
        f"its output has the shape {main}; it must be (images, classes), as a Dense layer gives it.",
    )
    wanted = tuple(indexes.values())
    return KerasNetwork(shape, shapes, model, wanted, _trace(model, wanted, shape))


def _output_indexes(names: list[str]) -> dict[str, int]:
    """Return the index of the probabilities, the first output unless one is named so, and those of the others."""
    main = names.index(PROBABILITIES) if PROBABILITIES in names else 0
    optional = {name: names.index(name) for name in OPTIONAL_OUTPUTS if name in names and names.index(name) != main}
    return {PROBABILITIES: main} | optional


def _trace(model: Any, indexes: Sequence[int], shape: Shape) -> Traced:
    """Return a function of a batch of this shape that gives these outputs of a model with one input."""
    import tensorflow as tf  # noqa: PLC0415 as above

    signature = [tf.TensorSpec(shape, tf.float32)]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def run(batch: Any) -> Any:
        outputs = tf.nest.flatten(model(batch, training=False))
        return [tf.cast(outputs[index], tf.float32) for index in indexes]

    return cast("Traced", run)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def write_compiled(network: KerasNetwork, checks: Images, archive: Any) -> dict[str, float]:
    """Write the network into a zip file as a LiteRT model for one image; return its distance from Keras.

    `checks` is (n, height, width, channels); the distance is the largest difference on them, by output.
    """
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 not needed to run Keras

    model = _convert(_trace(network.model, network.indexes, (1, *checks.shape[1:])))
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    indexes = dict(zip(network.output_shapes, _order(interpreter.get_output_details()), strict=True))
    facts = {
        "input_shape": network.input_shape,
        "outputs": {name: {"shape": network.output_shapes[name], "index": index} for name, index in indexes.items()},
        "made_with": {name: version(name) for name in MADE_WITH},
    }
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("facts.json", json.dumps(facts))
        file.writestr("network.tflite", model)
    expected = network(checks)
    found = {name: _run(interpreter, checks, indexes[name]) for name in TOLERANCES if name in indexes}
    return {name: float(np.max(np.abs(output - expected[name]))) for name, output in found.items()}


def _convert(traced: Any) -> bytes:
    """Convert a traced function, its variables frozen to constants."""
    import tensorflow as tf  # noqa: PLC0415 as above
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415
        convert_variables_to_constants_v2,
    )

    frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
    return cast("bytes", tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert())


def _order(outputs: Sequence[Any]) -> list[int]:
    """Return LiteRT's indexes in the order of the traced function, whose outputs it names Identity, Identity_1, …."""
    return sorted(range(len(outputs)), key=lambda index: str(outputs[index]["name"]))


def _run(interpreter: Any, images: Images, index: int) -> NDArray[np.float32]:
    """Run the images one by one; return one of the outputs."""
    outputs = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[np.newaxis])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[index]["index"]))
    return np.concatenate(outputs)


def check_images(path: Path, shape: tuple[int, ...], low: float, high: float) -> Images:
    """Return images to compare two engines on: black, white, noise, and the file's golden inputs if they fit.

    `shape` is (height, width, channels); black is `low`, white is `high`.
    """
    import h5py  # noqa: PLC0415 the child alone reads the file itself

    noise = np.random.default_rng(0).random((2, *shape))
    images = [np.zeros((1, *shape)), np.ones((1, *shape)), noise]
    with h5py.File(path, "r") as file:
        golden = file.get("bone_golden/inputs")
        if isinstance(golden, h5py.Dataset) and golden.shape[1:] == shape:
            images.append(golden[()] / 255)
    return (np.concatenate(images) * (high - low) + low).astype(np.float32)


def is_faithful(distances: dict[str, float]) -> bool:
    """Tell whether every output of the compiled network is within its tolerance of Keras."""
    return all(distance <= TOLERANCES[name] for name, distance in distances.items())


def main(path: Path, keras_version: str, side: int, low: float, high: float) -> tuple[int, bytes]:
    """Return 0 and the compiled network, or UNFIT or UNFAITHFUL and a sentence."""
    try:
        network = load_keras(path, keras_version)
    except ValueError as error:
        return UNFIT, str(error).encode()
    height, width, channels = (length or side for length in network.input_shape[1:])
    if not height or not width:
        return UNFAITHFUL, b"the size of its input is not known"
    archive = io.BytesIO()
    distances = write_compiled(network, check_images(path, (height, width, channels), low, high), archive)
    if not is_faithful(distances):
        return UNFAITHFUL, f"the compiled network differs from Keras by {max(distances.values()):.2g}".encode()
    return 0, archive.getvalue()


if __name__ == "__main__":
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with the result
    status, output = main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
    answer.write(output)
    answer.close()
    sys.exit(status)
