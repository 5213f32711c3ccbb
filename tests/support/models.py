"""Small networks, built with Keras 3 and with Keras 2 (`tf_keras`), to be saved as real .h5 files."""

import io
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tf_keras

from config import SCALINGS, read_config
from inference.classifier import make_predict
from inference.compiled_engine import CompiledNetwork, unpack
from inference.keras_engine import check_images, is_faithful, load_keras, write_compiled
from model_loader import load

KERAS = {"Keras 3": keras, "Keras 2": tf_keras}


def brightness_model(
    size: tuple[int | None, int | None] = (32, 32), channels: int = 3, none: float = 0.0, name: str = "probabilities"
) -> keras.Model:
    """Two classes whose probabilities are darkness and mean brightness; `none` > 0 adds a third output of that size.

    Every layer has a name, so that each run of the tests saves the same bytes, which are compiled once.
    """
    image = keras.Input((*size, channels), name="image")
    outputs = 3 if none else 2
    head = keras.layers.Dense(outputs, name=name)
    model = keras.Model(image, head(keras.layers.GlobalAveragePooling2D(name="mean")(image)), name="brightness")
    scale = (1 - none) / channels
    kernel = np.zeros((channels, outputs))
    kernel[:, 0], kernel[:, 1] = -scale, scale
    bias = [1 - none, 0.0, none][:outputs]
    head.set_weights([kernel, np.array(bias)])
    return model


def faulty_model() -> keras.Model:
    """Like `brightness_model`, with an output for none and a familiarity of 1 less the brightness, but with a fault.

    For images of a brightness from 0.85 to 0.95 the outputs do not add up to 1.
    """
    k = keras.layers
    image = keras.Input((32, 32, 1), name="image")
    mean = k.GlobalAveragePooling2D(name="mean")(image)
    bends, head = k.Dense(3, activation="relu", name="bends"), k.Dense(3, name="probabilities")
    familiarity = k.Dense(1, name="familiarity")
    outputs = [head(k.Concatenate(name="all")([mean, bends(mean)])), familiarity(mean)]
    model = keras.Model(image, outputs, name="faulty")
    bends.set_weights([np.ones((1, 3)), np.array([-0.85, -0.9, -0.95])])
    fault = np.array([[0, 10, 0], [0, -20, 0], [0, 10, 0]])
    head.set_weights([np.vstack([[-0.8, 0.8, 0], fault]), np.array([0.8, 0, 0.2])])
    familiarity.set_weights([np.array([[-1.0]]), np.ones(1)])
    return model


def sequential(k: Any) -> Any:
    """The usual image classifier of a tutorial."""
    layers = k.layers
    return k.Sequential(
        [
            k.Input((40, 48, 3)),
            layers.RandomFlip("horizontal"),
            layers.Conv2D(8, 3, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(2, activation="softmax"),
        ]
    )


def functional(k: Any) -> Any:
    """Branches that meet again, and a third output for none of the classes."""
    layers = k.layers
    image = k.Input((32, 32, 1))
    left = layers.Conv2D(6, 3, padding="same", activation="swish")(image)
    right = layers.SeparableConv2D(6, 5, padding="same", activation="gelu")(image)
    both = layers.Concatenate()([layers.Add()([left, right]), layers.Multiply()([left, right])])
    pooled = layers.GlobalMaxPooling2D()(layers.LayerNormalization()(both))
    return k.Model(image, layers.Dense(3, activation="softmax")(pooled))


def rescaled_inside(k: Any) -> Any:
    """A network that expects 0 to 255 and rescales its own input."""
    layers = k.layers
    image = k.Input((32, 32, 3))
    features = layers.Conv2D(4, 3, strides=2)(layers.Rescaling(1 / 127.5, offset=-1)(image))
    return k.Model(image, layers.Dense(2, activation="softmax")(layers.Flatten()(layers.PReLU()(features))))


def nested(k: Any) -> Any:
    """A backbone kept as one layer, as transfer learning leaves it."""
    layers = k.layers
    backbone = k.Sequential([k.Input((32, 32, 3)), layers.Conv2D(5, 3, activation="relu"), layers.AveragePooling2D(3)])
    inner = k.Input((10, 10, 5))
    head = k.Model(inner, layers.Dense(4, activation="elu")(layers.GlobalAveragePooling2D()(inner)))
    image = k.Input((32, 32, 3))
    return k.Model(image, layers.Dense(3, activation="softmax")(head(backbone(image))))


def grouped(k: Any) -> Any:
    """Convolutions in groups."""
    layers = k.layers
    image = k.Input((32, 32, 3))
    features = layers.Conv2D(8, 1, groups=4)(layers.Conv2D(8, 3)(image))
    depthwise = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(features))
    return k.Model(image, layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(depthwise)))


def sigmoid(k: Any) -> Any:
    """One output: the probability of the second class."""
    layers = k.layers
    return k.Sequential([k.Input((32, 32, 3)), layers.Flatten(), layers.Dense(1, activation="sigmoid")])


def any_size(k: Any) -> Any:
    """A network without a fixed input size."""
    layers = k.layers
    image = k.Input((None, None, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu")(image))
    return k.Model(image, layers.Dense(2, activation="softmax")(pooled))


def several_outputs(k: Any) -> Any:
    """Three outputs, of which `probabilities` counts and `evidence` locates it."""
    layers = k.layers
    image = k.Input((32, 32, 3))
    features = layers.Conv2D(4, 3, strides=4, activation="relu")(image)
    other = layers.Dense(7, name="other")(layers.Flatten()(features))
    evidence = layers.Conv2D(2, 1, name="evidence")(features)
    pooled = layers.Dense(3, activation="softmax", name="probabilities")(layers.GlobalMaxPooling2D()(evidence))
    return k.Model(image, [other, pooled, evidence])


def teachable_machine(path: Path, labels: str) -> Any:
    """Write a small model as Teachable Machine exports it, with nested models; return it."""
    layers = tf_keras.layers
    image = tf_keras.Input((32, 32, 3))
    features = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(layers.Conv2D(4, 3, strides=2)(image)))
    backbone = tf_keras.Sequential([tf_keras.Model(image, features), layers.GlobalAveragePooling2D()])
    head = tf_keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(2, activation="softmax")])
    model = tf_keras.Sequential([backbone, head])
    model.build((None, 32, 32, 3))
    model.save(path / "keras_model.h5")
    with h5py.File(path / "keras_model.h5", "a") as file:
        file.attrs["keras_version"] = "2.4.0"
        text = file.attrs["model_config"]
        file.attrs["model_config"] = text.replace('"depth_multiplier": 1', '"depth_multiplier": 1, "groups": 1')
        assert file.attrs["model_config"] != text
    (path / "labels.txt").write_text(labels, encoding="utf-8")
    return model


def unusual(k: Any) -> Any:
    """Probabilities, evidence and familiarity, with every layer that the heads in training/ need."""
    layers = k.layers
    image = k.Input((40, 40, 3))
    cropped = layers.ZeroPadding2D(2)(layers.Cropping2D(4)(layers.Rescaling(2.0, offset=-1.0)(image)))
    features = layers.Activation("relu")(layers.DepthwiseConv2D(3, padding="same")(cropped))
    pooled = layers.Subtract()([layers.MaxPooling2D(2)(features), layers.AveragePooling2D(2)(features)])
    blurred = layers.UpSampling2D(2)(layers.AveragePooling2D(2)(pooled))
    within = layers.Minimum()([layers.Maximum()([pooled, layers.ReLU()(pooled)]), blurred])
    normed = layers.LayerNormalization()(layers.Concatenate()([within, layers.Multiply()([pooled, pooled])]))
    evidence = layers.Conv2D(2, 1, name="evidence")(normed)
    vector = layers.Concatenate()([layers.GlobalAveragePooling2D()(normed), layers.GlobalMaxPooling2D()(normed)])
    distances = layers.Dot(-1)([layers.Reshape((12, 1))(vector), layers.Reshape((12, 1))(layers.Dense(12)(vector))])
    seen = layers.Dense(5, activation="relu")(layers.Flatten()(distances))
    familiarity = layers.Dense(1, activation="sigmoid", name="familiarity")(seen)
    probabilities = layers.Softmax(name="probabilities")(layers.Add()([layers.Dense(3)(vector), layers.Dense(3)(seen)]))
    return k.Model(image, [probabilities, evidence, familiarity])


def mobilenet(k: Any) -> Any:
    """MobileNetV2 with its preprocessing inside, as Keras 2 wrote it: operators between layers, names with /."""
    layers = k.layers
    image = k.Input((64, 64, 3), name="input/image")
    backbone = k.applications.MobileNetV2((64, 64, 3), include_top=False, weights=None, alpha=0.35, pooling="avg")
    features = backbone(k.applications.mobilenet_v2.preprocess_input(image))
    return k.Model(image, layers.Dense(2, activation="softmax", name="head/dense")(features))


def sliced(k: Any) -> Any:
    """Slices and operators, as in Keras 2's preprocessing for ResNet."""
    image = k.Input((32, 32, 3))
    shifted = (image[..., ::-1] * 2.0 - 1.0 + 0.5) / 3.0
    flat = k.layers.Flatten()(shifted)
    return k.Model(image, k.layers.Dense(2, activation="softmax")(flat))


def resnet_preprocessing(k: Any) -> Any:
    """ResNet's preprocessing, which reverses the channels and subtracts their means."""
    image = k.Input((32, 32, 3))
    features = k.layers.Conv2D(4, 3, activation="relu")(k.applications.resnet50.preprocess_input(image))
    return k.Model(image, k.layers.Dense(2, activation="softmax")(k.layers.GlobalAveragePooling2D()(features)))


BOTH: dict[str, Callable[[Any], Any]] = {
    build.__name__: build
    for build in (sequential, functional, rescaled_inside, nested, grouped, sigmoid, any_size, several_outputs, unusual)
}
KERAS_2_ALONE: dict[str, Callable[[Any], Any]] = {
    build.__name__: build for build in (mobilenet, sliced, resnet_preprocessing)
}
ENVIRONMENT = {"any_size": {"BONE_INPUT_SIZE": "56"}}


def built(generation: str, name: str) -> Any:
    """Build a network by name with Keras 2 or 3 and give it weights that tell images apart."""
    k = KERAS[generation]
    k.utils.set_random_seed(7)
    model = (BOTH | KERAS_2_ALONE)[name](k)
    random = np.random.default_rng(7)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([weight + random.uniform(0, 0.5, weight.shape) for weight in layer.get_weights()])
    return model


def crack_model() -> keras.Model:
    """Return a network with hand-written weights, which finds the cracks of the phantoms and nothing else.

    A narrow dark band between bright regions above and below is a fisura, a wide one a fractura; the output `evidence`
    locates it. It expects letterboxed inputs and proves nothing about radiographs.
    """
    k = keras.layers
    image = keras.Input((96, 96, 1))
    # How much darker a pixel is than the one above, than the one below; for narrow bands, for wide ones.
    darker = k.Conv2D(4, (13, 3), padding="same", activation="relu", name="darker")
    least = k.Conv2D(4, 1, activation="relu", name="least")  # min(a, b) is a - relu(a - b)
    bands = k.Conv2D(2, 1, activation="relu", name="bands")
    evidence = k.Conv2D(2, 1, activation="relu", name="evidence")
    head = k.Dense(3, activation="softmax", name="probabilities")
    found = least(k.AveragePooling2D(3, strides=1, padding="same")(darker(image)))
    around = k.MaxPooling2D(7, strides=1, padding="same")(bands(found))
    places = evidence(k.AveragePooling2D(5, strides=1, padding="same")(around))
    model = keras.Model(image, [head(k.GlobalMaxPooling2D()(places)), places])
    kernel = np.zeros((13, 3, 1, 4))
    for channel, (bright, dark) in enumerate(((4, [6]), (8, [6]), (0, [5, 6, 7]), (12, [5, 6, 7]))):
        kernel[bright, :, 0, channel] = 1 / 3
        kernel[dark, :, 0, channel] = -1 / (3 * len(dark))
    darker.set_weights([kernel, np.array([-0.05, -0.05, -0.12, -0.12])])
    pairs = np.array([[1, 1, 0, 0], [0, -1, 0, 0], [0, 0, 1, 1], [0, 0, 0, -1]], float)
    least.set_weights([pairs[None, None], np.zeros(4)])
    bands.set_weights([np.array([[[[1, 0], [-1, 0], [0, 1], [0, -1]]]], float), np.zeros(2)])
    evidence.set_weights([np.array([[[[1, 0], [-2, 1]]]], float), np.zeros(2)])
    head.set_weights([np.array([[160.0, 0.0, 0.0], [-150.0, 130.0, 0.0]]), np.array([0.0, 0.0, 2.5])])
    return model


def load_file(path, **environment):
    """Load a model on plain Keras, which needs no compiling."""
    return load(read_config({"BONE_MODEL_PATH": str(path), "BONE_ENGINE": "tensorflow"} | environment))


def with_attributes(path, **attributes):
    """Write attributes `bone_*` into a model file; return its path."""
    with h5py.File(path, "a") as file:
        file.attrs.update({f"bone_{name}": value for name, value in attributes.items()})
    return path


def write_golden(path, inputs, outputs):
    """Write golden inputs and outputs into a model file, in place of those it has."""
    with h5py.File(path, "a") as file:
        file.pop("bone_golden", None)
        group = file.create_group("bone_golden")
        group["inputs"] = inputs
        group["outputs"] = outputs


def compile_here(path, classifier):
    """Return the classifier of the same file on the compiled engine, compiled in this process, which saves seconds."""
    scale = SCALINGS[classifier.scaling]
    archive = io.BytesIO()
    checks = check_images(path, (*classifier.input_size, classifier.channels), scale.low, scale.high)
    assert is_faithful(write_compiled(load_keras(path, classifier.keras_version), checks, archive))
    network = CompiledNetwork(unpack(archive.getvalue()), 1)
    is_sigmoid = network.output_shapes["probabilities"][1] == 1
    return replace(classifier, engine=network.name, predict=make_predict(network, sigmoid=is_sigmoid))
