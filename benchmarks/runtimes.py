"""The shipped network in the form of each runtime, and how each runtime opens it: `BUILDERS`, `OPENERS`.

An opener takes (threads of a call, calls at once) and returns that many functions from images to probabilities, each
for one caller at a time.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import ROOT

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

Images = NDArray[np.float32]
Call = Callable[[Images], NDArray[np.float32]]
Opener = Callable[[int, int], list[Call]]

MODEL: Final = ROOT / "bone_fracture_classifier.h5"
FILES: Final = ROOT / "benchmarks" / ".cache" / "network"


def build(folder: Path = FILES) -> None:
    """Write the network as OpenVINO, ONNX and LiteRT files, its variables frozen into constants, all in float32."""
    import openvino  # noqa: PLC0415 each runtime is imported where it is wanted alone
    import tensorflow as tf  # noqa: PLC0415
    import tf2onnx  # noqa: PLC0415
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415
        convert_variables_to_constants_v2,
    )

    folder.mkdir(parents=True, exist_ok=True)
    run = _traced()
    concrete = run.get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete)
    openvino.save_model(openvino.convert_model(concrete), folder / "network.xml", compress_to_fp16=False)
    onnx, _ = tf2onnx.convert.from_function(run, input_signature=run.input_signature, opset=18)
    (folder / "network.onnx").write_bytes(onnx.SerializeToString())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    (folder / "network.tflite").write_bytes(converter.convert())


def _keras() -> Any:
    import keras  # noqa: PLC0415

    return keras.models.load_model(MODEL, compile=False)


def _traced() -> Any:
    """Return the network as a function of TensorFlow from images to probabilities, for any number of images."""
    import tensorflow as tf  # noqa: PLC0415

    network = _keras()

    @tf.function(input_signature=[tf.TensorSpec(network.input_shape, tf.float32)], autograph=False)  # type: ignore[untyped-decorator]
    def run(images: Any) -> Any:
        return network(images, training=False)[0]

    return run


def open_openvino(precision: str) -> Opener:
    """Return the opener for a number format, `f32` or `bf16`; pinned threads of several streams would collide."""

    def opener(threads: int, calls: int) -> list[Call]:
        import openvino  # noqa: PLC0415

        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads * calls,
            "NUM_STREAMS": calls,
            "ENABLE_CPU_PINNING": False,
        }
        compiled = openvino.Core().compile_model(FILES / "network.xml", "CPU", settings)

        def call() -> Call:
            request = compiled.create_infer_request()

            def run(images: Images) -> NDArray[np.float32]:
                request.infer({0: images}, share_inputs=True)
                return np.array(request.get_output_tensor(0).data)

            return run

        return [call() for _ in range(calls)]

    return opener


def open_session(path: Path, threads: int) -> Any:
    """Open an ONNX file for calls of so many threads."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def open_onnxruntime(threads: int, calls: int) -> list[Call]:
    """Open a session for each caller."""

    def call() -> Call:
        session = open_session(FILES / "network.onnx", threads)
        name = session.get_inputs()[0].name
        return lambda images: np.asarray(session.run(None, {name: images})[0])

    return [call() for _ in range(calls)]


def open_litert(threads: int, calls: int) -> list[Call]:
    """Open an interpreter for each caller; it has to be told when the number of images changes."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    def call() -> Call:
        interpreter = Interpreter(str(FILES / "network.tflite"), num_threads=threads)
        place, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]["index"]
        shape: tuple[int, ...] = ()

        def run(images: Images) -> NDArray[np.float32]:
            nonlocal shape
            if images.shape != shape:
                shape = images.shape
                interpreter.resize_tensor_input(place["index"], shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(place["index"], images)
            interpreter.invoke()
            return np.asarray(interpreter.get_tensor(result))

        return run

    return [call() for _ in range(calls)]


def _threads_of_tensorflow(threads: int, calls: int) -> None:
    import tensorflow as tf  # noqa: PLC0415

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(calls)


def open_function(threads: int, calls: int) -> list[Call]:
    """Open a traced function, which all callers share."""
    _threads_of_tensorflow(threads, calls)
    run = _traced()
    return [lambda images: np.asarray(run(images))] * calls


def open_on_batch(threads: int, calls: int) -> list[Call]:
    """Open `predict_on_batch`, which all callers share."""
    _threads_of_tensorflow(threads, calls)
    network = _keras()
    return [lambda images: np.asarray(network.predict_on_batch(images)[0])] * calls


def open_predict(threads: int, calls: int) -> list[Call]:
    """Open `model.predict`, which all callers share."""
    _threads_of_tensorflow(threads, calls)
    network = _keras()
    return [lambda images: np.asarray(network.predict(images, verbose=0)[0])] * calls


OURS: Final = "LiteRT, float32"
REFERENCE: Final = "Keras, `predict_on_batch`"
CLASSIC: Final = "Keras, `model.predict`"
OPENERS: Final[dict[str, Opener]] = {
    OURS: open_litert,
    "OpenVINO, float32": open_openvino("f32"),
    "OpenVINO, bfloat16": open_openvino("bf16"),
    "ONNX Runtime, float32": open_onnxruntime,
    "TensorFlow, warmed `tf.function`": open_function,
    REFERENCE: open_on_batch,
    CLASSIC: open_predict,
}
