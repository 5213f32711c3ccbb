"""Networks as people make them: a backbone with its preprocessing inside or outside, and a head that tells two kinds of
drawn picture apart. The backbone keeps its random weights; its normalisation and the head are fitted to the 40 pictures
that are served then, so that any mistake in scaling shows. Run by `make test-all`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tf_keras
from PIL import Image
from sklearn.linear_model import LogisticRegression

from config import SCALINGS
from preprocessing import prepare
from tests.support.models import load_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SIDE = 72


class Kind(NamedTuple):
    """How a network is built, which pixels its author fed it, and the variable that says so where nothing shows it."""

    k: object
    backbone: str
    inside: object = None
    outside: str = "none"
    variables: Mapping[str, str] = MappingProxyType({})
    head: str = "softmax"


def operators(module):
    return getattr(tf_keras.applications, module).preprocess_input


KINDS = {
    "ResNet50, caffe outside": Kind(keras, "ResNet50", outside="caffe", variables={"BONE_SCALING": "caffe"}),
    "ResNet50, caffe inside, Keras 2": Kind(tf_keras, "ResNet50", operators("resnet50")),
    "VGG16, divided by 255 outside": Kind(keras, "VGG16", outside="unit"),
    "MobileNetV2, Rescaling inside": Kind(keras, "MobileNetV2", keras.layers.Rescaling(1 / 127.5, offset=-1)),
    "MobileNetV2, tf outside, Keras 2": Kind(tf_keras, "MobileNetV2", outside="tf", variables={"BONE_SCALING": "tf"}),
    "EfficientNetB0, which normalises its input": Kind(keras, "EfficientNetB0"),
    "DenseNet121, torch inside, Keras 2": Kind(tf_keras, "DenseNet121", operators("densenet")),
    "Xception, tf inside, Keras 2": Kind(tf_keras, "Xception", operators("xception")),
    "Xception, tf outside": Kind(keras, "Xception", outside="tf", variables={"BONE_SCALING": "tf"}),
    "sigmoid, Rescaling inside": Kind(keras, "MobileNetV2", keras.layers.Rescaling(1 / 255), head="sigmoid"),
}


def drawn(count, seed):
    """Bright lines and bright blocks on grey noise: uint8 (n, SIDE, SIDE, 3), and 0 or 1."""
    random = np.random.default_rng(seed)
    images = random.normal(90, 12, (count, SIDE, SIDE, 1))
    kinds = np.arange(count) % 2
    for image, kind in zip(images, kinds, strict=True):
        row, column = random.integers(4, SIDE - 30, 2)
        if kind:
            image[row : row + 24, column : column + 24] = 230
        else:
            image[row : row + 4, :] = 230
    return np.repeat(images.clip(0, 255), 3, axis=3).astype(np.uint8), kinds


PICTURES = drawn(40, 0)


def fit_normalisation(k, model, pixels):
    """Give every batch normalisation the mean and variance of these pixels, as some epochs of training would."""
    layers = [layer for layer in model.layers if isinstance(layer, k.layers.BatchNormalization)]
    for layer in layers:
        layer.momentum = 0.0
    model(pixels, training=True)
    for layer in layers:
        layer.momentum = 0.99


def head_weights(features, kinds):
    """Return kernel and bias of two softmax outputs that tell the kinds apart."""
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    fitted = LogisticRegression(C=100, max_iter=2000).fit((features - mean) / deviation, kinds)
    kernel = (fitted.coef_[0] / deviation)[:, None]
    bias = fitted.intercept_ - mean @ kernel
    return np.hstack([-kernel / 2, kernel / 2]), np.hstack([-bias / 2, bias / 2])


def trained(kind, path):
    """Build the network, fit it on what its author fed it, and save it."""
    k = kind.k
    k.utils.set_random_seed(1)
    options = {"alpha": 0.35} if kind.backbone == "MobileNetV2" else {}
    build = getattr(k.applications, kind.backbone)
    backbone = build(weights=None, include_top=False, pooling="avg", input_shape=(SIDE, SIDE, 3), **options)
    images, kinds = PICTURES
    pixels = SCALINGS[kind.outside].apply(images.astype(np.float32))
    image = k.Input((SIDE, SIDE, 3))
    features = k.Model(image, backbone(kind.inside(image) if kind.inside else image))
    before = k.Model(image, kind.inside(image)).predict(pixels, verbose=0) if kind.inside else pixels
    fit_normalisation(k, backbone, before)
    kernel, bias = head_weights(features.predict(pixels, verbose=0), kinds)
    if kind.head == "sigmoid":
        outputs, weights = k.layers.Dense(1, activation="sigmoid"), [2 * kernel[:, 1:], 2 * bias[1:]]
    else:
        outputs, weights = k.layers.Dense(2, activation="softmax"), [kernel, bias]
    model = k.Model(image, outputs(features(image)))
    outputs.set_weights(weights)
    model.save(path)


@pytest.mark.parametrize("name", KINDS)
def test_a_trained_network_is_served_right_by_default_or_with_the_variable_that_check_names(name, tmp_path, caplog):
    kind = KINDS[name]
    path = tmp_path / "keras_model.h5"
    trained(kind, path)
    assumed = load_file(path)
    is_shown = assumed.settings["scaling"].source != "default"
    assert is_shown or "BONE_SCALING" in caplog.text
    assert is_shown or kind.outside == "unit" or kind.variables
    classifier = load_file(path, **kind.variables)
    images, kinds = PICTURES
    inputs = [prepare(Image.fromarray(image), (SIDE, SIDE), 3, classifier.scaling, "stretch") for image in images]
    assert np.array_equal(classifier.predict(np.concatenate(inputs)).probabilities.argmax(axis=1), kinds)
