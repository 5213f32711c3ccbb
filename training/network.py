"""The network in two parts, the frozen trunk and the trained head, and the two joined into what the file holds.

A head ends in two numbers: `known`, the log-odds that the image shows a fracture at all, and `type`, the log-odds of
fisura among the fractured. So an untyped fracture teaches the first alone, and each is calibrated by itself.
"""

from typing import Any, Final

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.backbone import Tensor, load_backbone
from training.recipe import Recipe

PROBABILITIES: Final = "probabilities"
EVIDENCE: Final = "evidence"


def load_trunk(recipe: Recipe) -> keras.Model:
    """Build the frozen part with its ImageNet weights: pixels, 0 to 1, to (n, rows, columns, channels)."""
    backbone = load_backbone(recipe.variant, recipe.size)
    output = backbone.get_layer(recipe.trunk_end).output
    if recipe.pooled:
        output = layers.GlobalAveragePooling2D(keepdims=True)(output)
    return keras.Model(backbone.input, output, name="trunk")


def build_head(shape: tuple[int, int, int]) -> keras.Model:
    """Build a head with new weights on features of (rows, columns, channels); see `attach_head`."""
    features = keras.Input(shape, name="features")
    return keras.Model(features, attach_head(features), name="head")


def attach_head(features: Tensor) -> list[Tensor]:
    """Attach the linear head to a map of features; a pooled map has one row and one column.

    Returns `probabilities`, (n, 3) for fisura, fractura, none, and `evidence`, (n, rows, columns, 2): log-odds of a
    fracture at each place, plus and minus those of its type, so that each class has a map; unbounded, more is more.
    The image's log-odds are the mean of the places', so a head trained on pooled features is the same on the map.
    """
    x = layers.BatchNormalization(center=False, scale=False, trainable=False, name="standardise")(features)
    known, kind = (layers.Conv2D(1, 1, name=name)(x) for name in ("known", "type"))
    maps = [layers.Add(name="fisura_map")([known, kind]), layers.Subtract(name="fractura_map")([known, kind])]
    evidence = layers.Concatenate(name=EVIDENCE)(maps)
    known, kind = (layers.GlobalAveragePooling2D()(logit) for logit in (known, kind))
    return [share_out(known, kind), evidence]


def share_out(known: Tensor, kind: Tensor) -> Tensor:
    """Turn the two log-odds of an image, (n, 1) each, into the probabilities of fisura, fractura, none: (n, 3)."""
    fractured, fisura = (layers.Activation("sigmoid")(logit) for logit in (known, kind))
    fractura, none = (layers.Rescaling(-1, offset=1)(share) for share in (fisura, fractured))
    shares = [layers.Multiply()([fractured, share]) for share in (fisura, fractura)]
    return layers.Concatenate(name=PROBABILITIES)([*shares, none])


def standardise(head: keras.Model, features: NDArray[Any]) -> None:
    """Give the head the mean and variance of each channel over these features, (n, rows, columns, channels)."""
    values = np.asarray(features, np.float32)
    mean, variance = values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2))
    head.get_layer("standardise").set_weights([mean, variance])


def calibrate(network: keras.Model, layer: str, scale: float, bias: float) -> None:
    """Fold `scale * log-odds + bias` into the weights of the layer, `known` or `type`, that makes the log-odds."""
    kernel, offset = network.get_layer(layer).get_weights()
    network.get_layer(layer).set_weights([kernel * scale, offset * scale + bias])


def join(recipe: Recipe, head: keras.Model) -> keras.Model:
    """Join the trunk and a trained head into the network that serves: pixels, 0 to 1, to probabilities and evidence."""
    backbone = load_backbone(recipe.variant, recipe.size)
    outputs = attach_head(backbone.get_layer(recipe.trunk_end).output)
    network = keras.Model(backbone.input, outputs, name="bone_fracture_classifier")
    for layer in head.layers:
        if layer.weights:
            network.get_layer(layer.name).set_weights(layer.get_weights())
    return network
