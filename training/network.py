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

_KNOWN: Final = "known_of_all"
_TYPE: Final = "type_of_all"
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

    Outputs as those of `join`, for one member that nothing has calibrated.
    """
    backbone = load_backbone(recipe.variant, recipe.size)
    shape = tuple(backbone.get_layer(recipe.trunk_end).output.shape[1:])
    features = keras.Input((1, 1, shape[2]) if recipe.pooled else shape, name="features")
    known, kind, places = attach_head(recipe, features)
    head = keras.Model(features, [share_out(known, kind), show_places(places)], name="head")
    copy_weights(backbone, head)
    return head


def join(heads: Sequence[tuple[Recipe, keras.Model]], calibration: Calibration | None = None) -> keras.Model:
    """Join trained heads of one variant and size into one network on the trunk that they share.

    Input: pixels, 0 to 1. Outputs: `probabilities`, (n, 3) for fisura, fractura, none; `evidence` of the first head,
    (n, rows, columns, 2). Without a calibration the heads' log-odds are added up as they are.
    """
    first = heads[0][0]
    backbone = load_backbone(first.variant, first.size)
    attached = [_attach_to(backbone, recipe, first, _prefix(number)) for number, (recipe, _) in enumerate(heads)]
    known, kind = (weigh([logits[which] for logits in attached], name) for which, name in enumerate((_KNOWN, _TYPE)))
    outputs = [share_out(known, kind), show_places(attached[0][2])]
    network = keras.Model(backbone.input, outputs, name="bone_fracture_classifier")
    for number, (_, head) in enumerate(heads):
        copy_weights(backbone, network, _prefix(number))
        copy_weights(head, network, _prefix(number))
    if calibration:
        calibrate(network, calibration)
    return network


def copy_weights(source: keras.Model, target: keras.Model, prefix: str = "") -> None:
    """Copy the weights of every layer that the target knows by the same name behind the prefix."""
    names = {f"{prefix}{layer.name}": layer for layer in source.layers}
    for layer in target.layers:
        if layer.weights and layer.name in names:
            layer.set_weights(names[layer.name].get_weights())


def attach_head(recipe: Recipe, features: Tensor, prefix: str = "") -> _Logits:
    """Attach the recipe's head to a map of features.

    Returns the image's log-odds of a fracture and of its being a fisura, (n, 1) each, and both again for each place,
    (n, rows, columns, 1).
    """
    return _attach_linear(features, prefix) if recipe.head == "linear" else _attach_grid(recipe, features)


def weigh(logits: Sequence[Tensor], name: str) -> Tensor:
    """Attach a weighed sum of log-odds, (n, 1) each: (n, 1)."""
    together = layers.Concatenate()(logits) if len(logits) > 1 else logits[0]
    return layers.Dense(1, kernel_initializer="ones", name=name)(together)


def calibrate(network: keras.Model, calibration: Calibration) -> None:
    """Put the calibration's lines into the two layers that weigh."""
    for name, line in ((_KNOWN, calibration.known), (_TYPE, calibration.type)):
        network.get_layer(name).set_weights([np.reshape(line.scales, (-1, 1)), np.array([line.bias])])


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


def _prefix(number: int) -> str:
    return f"member_{number}_" if number else ""


def _attach_to(backbone: keras.Model, recipe: Recipe, first: Recipe, prefix: str) -> _Logits:
    """Attach a head to the backbone: the first to its own layers, a further one to copies of those it may not share."""
    if not prefix:
        return attach_head(recipe, backbone.get_layer(recipe.trunk_end).output)
    blocks = range(_first_trained(first), len(blocks_of(recipe.variant)))
    deep = add_blocks(backbone.get_layer(first.trunk_end).output, recipe.variant, blocks, prefix)
    return attach_head(recipe, add_top(deep, prefix), prefix)


def _first_trained(recipe: Recipe) -> int:
    return int(recipe.trunk_end.removeprefix("block_")) + 1


def _attach_linear(features: Tensor, prefix: str) -> _Logits:
    """Attach a linear layer; a head trained on pooled features, one row and one column, is the same on the map."""
    places = [layers.Conv2D(1, 1, name=f"{prefix}{name}")(features) for name in ("known", "type")]
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
