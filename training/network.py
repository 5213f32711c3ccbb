"""The network in two parts, the frozen trunk and the trained head, and the two joined into what the file holds.

A head ends in two numbers: `known`, the log-odds that the image shows a fracture at all, and `type`, the log-odds of
fisura among the fractured. So an untyped fracture teaches the first alone, and each is calibrated by itself.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import keras
import numpy as np
from keras import layers

from training.backbone import Tensor, add_blocks, add_top, blocks_of, convolve, load_backbone
from training.calibration import Calibration
from training.recipe import Recipe

PROBABILITIES: Final = "probabilities"
EVIDENCE: Final = "evidence"

_Logits: TypeAlias = tuple[Tensor, Tensor, list[Tensor]]

_KNOWN: Final = "known_calibrated"
_TYPE: Final = "type_calibrated"
_PLACE_CHANNELS: Final = 96


def load_trunk(recipe: Recipe) -> keras.Model:
    """Build the frozen part with its ImageNet weights: pixels, 0 to 1, to (n, rows, columns, channels)."""
    backbone = load_backbone(recipe.variant, recipe.size)
    output = backbone.get_layer(recipe.trunk_end).output
    if recipe.pooled:
        output = layers.GlobalAveragePooling2D(keepdims=True)(output)
    return keras.Model(backbone.input, output, name="trunk")


def build_head(recipe: Recipe) -> keras.Model:
    """Build the recipe's head on the trunk's features: ImageNet weights where it goes on with the backbone's layers.

    Outputs as those of `join` without a calibration.
    """
    backbone = load_backbone(recipe.variant, recipe.size)
    shape = tuple(backbone.get_layer(recipe.trunk_end).output.shape[1:])
    features = keras.Input((1, 1, shape[2]) if recipe.pooled else shape, name="features")
    known, kind, places = attach_head(recipe, features)
    head = keras.Model(features, [share_out(known, kind), show_places(places)], name="head")
    copy_weights(backbone, head)
    return head


def join(recipe: Recipe, head: keras.Model, calibration: Calibration | None = None) -> keras.Model:
    """Join a trained head with the trunk that it was trained on, and calibrate it.

    Input: pixels, 0 to 1. Outputs: `probabilities`, (n, 3), for fisura, fractura, none, and `evidence`, (n, rows,
    columns, 2).
    """
    backbone = load_backbone(recipe.variant, recipe.size)
    known, kind, places = attach_head(recipe, backbone.get_layer(recipe.trunk_end).output)
    known, kind = (
        layers.Dense(1, kernel_initializer="ones", name=name)(x) for name, x in ((_KNOWN, known), (_TYPE, kind))
    )
    outputs = [share_out(known, kind), show_places(places)]
    network = keras.Model(backbone.input, outputs, name="bone_fracture_classifier")
    copy_weights(backbone, network)
    copy_weights(head, network)
    if calibration:
        calibrate(network, calibration)
    return network


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy the weights of every layer that the target knows by the same name."""
    names = {layer.name: layer for layer in source.layers}
    for layer in target.layers:
        if layer.weights and layer.name in names:
            layer.set_weights(names[layer.name].get_weights())


def attach_head(recipe: Recipe, features: Tensor) -> _Logits:
    """Attach the recipe's head to a map of features.

    Returns the image's log-odds of a fracture and of its being a fisura, (n, 1) each, and both again for each place,
    (n, rows, columns, 1).
    """
    return _attach_linear(features) if recipe.head == "linear" else _attach_grid(recipe, features)


def calibrate(network: keras.Model, calibration: Calibration) -> None:
    """Put the calibration's lines into the network's last two layers with weights."""
    for name, line in ((_KNOWN, calibration.known), (_TYPE, calibration.type)):
        network.get_layer(name).set_weights([np.array([[line.scale]]), np.array([line.bias])])


def share_out(known: Tensor, kind: Tensor) -> Tensor:
    """Turn the two log-odds of an image, (n, 1) each, into the probabilities of fisura, fractura, none: (n, 3)."""
    fractured, fisura = (layers.Activation("sigmoid")(logit) for logit in (known, kind))
    fractura, none = (layers.Rescaling(-1, offset=1)(share) for share in (fisura, fractured))
    shares = [layers.Multiply()([fractured, share]) for share in (fisura, fractura)]
    return layers.Concatenate(name=PROBABILITIES)([*shares, none])


def show_places(places: Sequence[Tensor]) -> Tensor:
    """Turn the places' two log-odds into evidence for each class, (n, rows, columns, 2): unbounded, more is more.

    It is the log-odds of a fracture plus, or minus, those of its being a fisura; their mean is the log-odds themselves.
    """
    maps = [layers.Add(name="fisura_map")(places), layers.Subtract(name="fractura_map")(places)]
    return layers.Concatenate(name=EVIDENCE)(maps)


def _first_trained(recipe: Recipe) -> int:
    return int(recipe.trunk_end.removeprefix("block_")) + 1


def _attach_linear(features: Tensor) -> _Logits:
    """Attach a linear layer; a head trained on pooled features, one row and one column, is the same on the map."""
    places = [layers.Conv2D(1, 1, name=name)(features) for name in ("known", "type")]
    known, kind = (layers.GlobalAveragePooling2D()(logits) for logits in places)
    return known, kind, places


def _attach_grid(recipe: Recipe, features: Tensor) -> _Logits:
    """Go on with the backbone, look at places of 16 x 16 pixels, and weigh them with a look at the whole.

    Pooling: each place counts by the softmax of its own log-odds of a fracture, so that the strongest few decide, and
    the type is judged where the fracture is (attention for multiple instances: Ilse et al. 2018, arXiv 1802.04712).
    """
    blocks = blocks_of(recipe.variant)
    stride_32 = max(number for number, block in enumerate(blocks) if block.stride == 2)
    middle = add_blocks(features, recipe.variant, range(_first_trained(recipe), stride_32))
    deep = add_blocks(middle, recipe.variant, range(stride_32, len(blocks)))
    places = _look_at_places(middle, deep)
    weights = layers.Softmax(axis=1, name="attention")(layers.Reshape((-1, 1))(places[0]))
    pooled = [layers.Dot(axes=1)([weights, layers.Reshape((-1, 1))(logits)]) for logits in places]
    whole = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(add_top(deep)))
    known, kind = (_weigh(name, logits, whole) for name, logits in zip(("known", "type"), pooled, strict=True))
    return known, kind, places


def _look_at_places(middle: Tensor, deep: Tensor) -> list[Tensor]:
    """Return the log-odds of a fracture, and of its being a fisura, at each place: (n, rows, columns, 1) each."""
    context = layers.UpSampling2D(2, name="context")(layers.Conv2D(_PLACE_CHANNELS, 1, name="from_deep")(deep))
    x = layers.Add(name="places")([layers.Conv2D(_PLACE_CHANNELS, 1, name="from_middle")(middle), context])
    x = convolve(layers.ReLU(max_value=6)(x), _PLACE_CHANNELS, 3, 1, "place")
    return [layers.Conv2D(1, 1, name=f"{name}_place")(x) for name in ("known", "type")]


def _weigh(name: str, pooled: Tensor, whole: Tensor) -> Tensor:
    """Add what the places and the whole say, with a scale and a bias. (n, 1)."""
    both = layers.Add()([layers.Flatten()(pooled), layers.Dense(1, name=f"{name}_whole")(whole)])
    return layers.Dense(1, kernel_initializer="ones", name=name)(both)
