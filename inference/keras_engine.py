"""A Keras .h5 on TensorFlow: loaded to be run here, or, in a child process, turned into what LiteRT runs.

The only module that imports TensorFlow, and only where a network is loaded: that takes seconds and 500 MB.
This file, run by its path, is that child; `compiled_engine.py` starts it.
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

TOLERANCE: Final = 1e-4  # of a probability, between Keras and what was compiled
MADE_WITH: Final = ("keras", "tensorflow", "tf_keras")
UNFIT: Final = 3  # exit codes of the child
UNFAITHFUL: Final = 4


@dataclass(frozen=True)
class KerasNetwork:
    """A traced network. Shapes are those of the file, None where any size will do; outputs in the order that counts."""

    input_shape: Shape
    output_shapes: tuple[Shape, ...]
    model: Any
    wanted: tuple[int, ...]  # places of those outputs among the model's
    run: Traced
    name: str = "tensorflow"

    def __call__(self, images: Images) -> list[NDArray[np.float32]]:
        """Run (n, height, width, channels); return the probabilities and, where there is one, the evidence."""
        return [output.numpy() for output in self.run(images)]


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
    return _understand(model)


def _load_keras_2(path: Path, keras_version: str) -> Any:
    import tf_keras  # noqa: PLC0415 the second Keras, wanted by few files

    try:
        return tf_keras.models.load_model(path, compile=False)
    except Exception as error:
        raise _unloadable(keras_version, error) from error


def _unloadable(keras_version: str, error: Exception) -> ValueError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
    return ValueError(f"Keras cannot rebuild it (written by Keras {keras_version}): {reason}")


def _understand(model: Any) -> KerasNetwork:
    """Find the input and the outputs that count, and trace the network once, for any number of images."""
    _require(len(model.inputs or ()) == 1, "it must have one input, an image; give it one Input layer.")
    shape = tuple(model.inputs[0].shape)
    _require(
        len(shape) == 4 and shape[3] in (1, 3),
        f"its input has the shape {shape}; it must be (images, height, width, 1 or 3 channels).",
    )
    names = list(getattr(model, "output_names", ()))  # a Sequential of Keras 3 names none
    main = names.index("probabilities") if "probabilities" in names else 0
    wanted = (main, *(place for place, name in enumerate(names) if name == "evidence" and place != main))
    shapes = tuple(tuple(model.outputs[place].shape) for place in wanted)
    _require(
        len(shapes[0]) == 2 and shapes[0][1] is not None,
        f"its output has the shape {shapes[0]}; it must be (images, classes), as a Dense layer gives it.",
    )
    return KerasNetwork(shape, shapes, model, wanted, _trace(model, wanted, shape))


def _trace(model: Any, wanted: Sequence[int], shape: Shape) -> Traced:
    """Make a function of a batch of this shape that returns these outputs of a model with one input."""
    import tensorflow as tf  # noqa: PLC0415 as above

    given = tf.TensorSpec(shape, tf.float32)

    @tf.function(input_signature=[given], autograph=False)  # type: ignore[untyped-decorator]
    def run(batch: Any) -> Any:
        outputs = tf.nest.flatten(model(batch, training=False))
        return [tf.cast(outputs[place], tf.float32) for place in wanted]

    return cast("Traced", run)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def write_compiled(network: KerasNetwork, checks: Images, archive: Any) -> float:
    """Write the network into a zip file as LiteRT's model for one image; return how far it is from Keras.

    `checks` is (n, height, width, channels), and the distance the largest difference of a probability on them.
    """
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 not needed to run Keras

    model = _convert(_trace(network.model, network.wanted, (1, *checks.shape[1:])))
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    places = _order(interpreter.get_output_details())
    facts = {
        "input_shape": network.input_shape,
        "output_shapes": network.output_shapes,
        "places": places,
        "made_with": {name: version(name) for name in MADE_WITH},
    }
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("facts.json", json.dumps(facts))
        file.writestr("network.tflite", model)
    probabilities = np.concatenate([_run(interpreter, image[np.newaxis], places[0]) for image in checks])
    return float(np.max(np.abs(probabilities - network(checks)[0])))


def _convert(traced: Any) -> bytes:
    """Convert a traced function, its variables frozen to constants."""
    import tensorflow as tf  # noqa: PLC0415 as above
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415
        convert_variables_to_constants_v2,
    )

    frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
    return cast("bytes", tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert())


def _order(outputs: Sequence[Any]) -> list[int]:
    """Return the outputs' places as the function returned them: LiteRT calls them Identity, Identity_1 and so on."""
    return sorted(range(len(outputs)), key=lambda place: str(outputs[place]["name"]))


def _run(interpreter: Any, image: Images, place: int) -> Any:
    """Run one image; return the output at a place."""
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[place]["index"])


def check_images(path: Path, size: tuple[int, int], channels: int, high: float) -> Images:
    """Return images to compare two engines on: black, white, noise, and the file's golden inputs where they fit."""
    import h5py  # noqa: PLC0415 the child alone reads the file itself

    shape = (*size, channels)
    noise = np.random.default_rng(0).random((2, *shape))
    images = [np.zeros((1, *shape)), np.ones((1, *shape)), noise]
    with h5py.File(path, "r") as file:
        golden = file.get("bone_golden/inputs")
        if isinstance(golden, h5py.Dataset) and golden.shape[1:] == shape:
            images.append(golden[()] / 255)
    return (np.concatenate(images) * high).astype(np.float32)


def main(path: Path, keras_version: str, side: int, high: float) -> tuple[int, bytes]:
    """Return 0 and the compiled network, or UNFIT or UNFAITHFUL and a sentence."""
    try:
        network = load_keras(path, keras_version)
    except ValueError as error:
        return UNFIT, str(error).encode()
    height, width, channels = (length or side for length in network.input_shape[1:])
    if not height or not width:
        return UNFAITHFUL, b"the size of its input is not known"
    archive = io.BytesIO()
    distance = write_compiled(network, check_images(path, (height, width), channels, high), archive)
    if not distance <= TOLERANCE:
        return UNFAITHFUL, f"what was compiled differs from Keras by {distance:.2g}".encode()
    return 0, archive.getvalue()


if __name__ == "__main__":
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between
    status, said = main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    answer.write(said)
    answer.close()
    sys.exit(status)
