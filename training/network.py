"""The network: what a film's places score, what they add up to, and a thumbnail that tells what kind of image it is.

A place has two scores: `known`, the log-odds that a fracture is there, and `type`, the log-odds of fisura if one is.
Whether a film shows a fracture is read off its strongest places; nothing else of the film reaches that score, because
the look of the whole tells one hospital from another better than it tells broken from whole. Which type it is follows
from the backbone's features at those places, and a little from a thumbnail of the whole. The thumbnail's features, by
the frozen backbone, also tell limb bones from other images, and familiar films from others (`training.scope`).
"""

from collections.abc import Sequence
from typing import Final

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.backbone import Tensor, add_blocks, convolve, load_backbone
from training.recipe import Recipe

FOCUS: Final = 2.0  # how much more the strongest places count; 0 would be their mean, infinity their maximum
KNOWN: Final = "known"
TYPE: Final = "type"
KNOWN_PLACE: Final = "known_place"
TYPE_PLACE: Final = "type_place"
POOLED: Final = "pooled"
FOCUSED: Final = "focused"
FOCUSED_BLOCKS: Final = (7, 10)  # whose features at the strongest places tell the type

Weights = Sequence[NDArray[np.float32]]


def build_places(recipe: Recipe) -> keras.Model:
    """Build the part that is trained, with ImageNet weights where the backbone has some.

    Input: float32, (n, height, width, 1), 0 to 1, of any size that 16 divides. Outputs: the places' two scores,
    (n, height / 16, width / 16, 1) each.
    """
    pixels = keras.Input((None, None, 1), name="pixels")
    model = keras.Model(pixels, _score_places(recipe, pixels), name="places")
    _copy_weights(load_backbone(recipe.variant, (recipe.side, recipe.side)), model)
    return model


def set_trainable(places: keras.Model, frozen_block: int) -> None:
    """Freeze the stem and the blocks up to this one, and let the rest be trained."""
    for layer in places.layers:
        layer.trainable = not _is_frozen(layer.name, frozen_block)


def join_scores(places: keras.Model) -> keras.Model:
    """Join both scores of the places into one output, (n, r, c, 2)."""
    return keras.Model(places.input, layers.Concatenate(name="scores")(places.output))


def build_trainee(recipe: Recipe, places: keras.Model) -> keras.Model:
    """Let one part score patches and whole films: two inputs, and for each both scores of its places, (n, r, c, 2)."""
    joined = join_scores(places)
    patches, films = (keras.Input((side, side, 1)) for side in (recipe.patch_side, recipe.side))
    outputs = [layers.Identity(name=name)(joined(x)) for name, x in (("patches", patches), ("films", films))]
    return keras.Model([patches, films], outputs, name="trainee")


def build_network(
    recipe: Recipe, places: keras.Model | None = None, type_weights: Weights | None = None
) -> keras.Model:
    """Build the network that judges a film, with the weights of a trained part, and a kernel and bias for the type.

    Input: float32, (n, side, side, 1), 0 to 1. Outputs by name: `known` and `type`, (n, 1), the film's two scores;
    `known_place` and `type_place`, (n, side / 16, side / 16, 1); `focused`, (n, features), those of the backbone at the
    strongest places; `pooled`, (n, 1280), the thumbnail's features.
    """
    pixels = keras.Input((recipe.side, recipe.side, 1), name="pixels")
    known_place, type_place = _score_places(recipe, pixels)
    scores = layers.Reshape((-1, 1))(known_place)
    attention = layers.Softmax(axis=1, name="attention")(layers.Rescaling(FOCUS)(scores))
    body = keras.Model(pixels, known_place)
    focused = [_focus(attention, body.get_layer(f"block_{number}").output) for number in FOCUSED_BLOCKS]
    outputs = {KNOWN_PLACE: known_place, TYPE_PLACE: type_place}
    outputs[KNOWN] = layers.Flatten(name=KNOWN)(layers.Dot(axes=1)([attention, scores]))
    outputs[FOCUSED] = layers.Concatenate(name=FOCUSED)(focused)
    outputs[POOLED] = _look_at_thumbnail(recipe, pixels)
    evidence = layers.Concatenate()([outputs[FOCUSED], outputs[POOLED]])
    outputs[TYPE] = layers.Dense(1, name=TYPE)(evidence)
    network = keras.Model(pixels, outputs, name="bone_fracture_classifier")
    _copy_weights(places or build_places(recipe), network)
    if type_weights is not None:
        network.get_layer(TYPE).set_weights(type_weights)
    return network


def _focus(attention: Tensor, features: Tensor) -> Tensor:
    """Return the mean of a block's features, (n, channels), each place weighing as its attention."""
    flat = layers.Reshape((-1, features.shape[-1]))(features)
    return layers.Flatten()(layers.Dot(axes=1)([attention, flat]))


def _score_places(recipe: Recipe, pixels: Tensor) -> list[Tensor]:
    x = layers.Rescaling(255 / 128, offset=-127 / 128, name="rescale")(pixels)
    x = convolve(x, 32, 3, 2, "stem")
    x = add_blocks(x, recipe.variant, range(recipe.last_block + 1))
    x = layers.ReLU(max_value=6)(layers.Conv2D(recipe.channels, 1, name="from_block")(x))
    x = layers.SpatialDropout2D(0.1)(x)
    x = layers.Dropout(0.1)(convolve(x, recipe.channels, 3, 1, "place"))
    rare = keras.initializers.Constant(-2.0)
    return [
        layers.Conv2D(1, 1, bias_initializer=rare, name=KNOWN_PLACE)(x),
        layers.Conv2D(1, 1, name=TYPE_PLACE)(x),
    ]


def _look_at_thumbnail(recipe: Recipe, pixels: Tensor) -> Tensor:
    """Attach the frozen backbone to a thumbnail of the film; its last features' mean, (n, 1280)."""
    small = layers.AveragePooling2D(recipe.thumbnail_step, name="thumbnail")(pixels)
    backbone = load_backbone(recipe.variant, tuple(small.shape[1:3]))
    backbone.trainable = False
    return layers.GlobalAveragePooling2D(name=POOLED)(backbone(small))


def _is_frozen(name: str, last: int) -> bool:
    if name == "stem":
        return True
    number = name.split("_")[1] if name.startswith("block_") else ""
    return number.isdigit() and int(number) <= last


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy the weights of every layer that both know by the same name."""
    names = {layer.name: layer for layer in source.layers}
    for layer in target.layers:
        if layer.weights and layer.name in names:
            layer.set_weights(names[layer.name].get_weights())
