"""Find out whether a network rescales or normalises its own input, from its description and weights, with h5py alone.

The layers are followed from the input. Those that only move pixels are skipped, those that compute
factor * x + offset are combined, and the first other layer ends the walk. The product shows which pixels
the network expects: 0 to 255 where it subtracts 110 or divides by 50, 0 to 1 where it subtracts 0.5.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import h5py
import numpy as np

MODELS: Final = frozenset({"Functional", "Model", "Sequential"})
PASSED: Final = frozenset(
    """
    InputLayer CenterCrop Resizing ZeroPadding2D Cropping2D UpSampling2D Reshape Permute Concatenate SlicingOpLambda
    Dropout SpatialDropout2D GaussianNoise GaussianDropout RandomFlip RandomRotation RandomZoom RandomTranslation
    RandomContrast RandomBrightness RandomCrop RandomHeight RandomWidth MaxPooling2D AveragePooling2D
    """.split()
)
MAX_UNIT_MEAN: Final = 1.5  # of pixels from 0 to 1, with a margin
MAX_UNIT_DEVIATION: Final = 4

Shown = Literal["unit", "none"]


class Affine(NamedTuple):
    """What the layers so far make of a pixel: factor * pixel + offset; `ended` if the walk has ended."""

    factor: float = 1.0
    offset: float = 0.0
    ended: bool = False

    def then(self, factor: float, offset: float) -> "Affine":
        """Return this, followed by another such function."""
        return Affine(factor * self.factor, factor * self.offset + offset)

    @property
    def shows(self) -> Shown | None:
        """Return the scaling that this function expects, None if it leaves pixels unchanged."""
        if (self.factor, self.offset) == (1, 0) or not self.factor or not np.isfinite(self.factor + self.offset):
            return None
        mean, deviation = -self.offset / self.factor, 1 / abs(self.factor)
        return "none" if mean > MAX_UNIT_MEAN or deviation > MAX_UNIT_DEVIATION else "unit"


def find_scaling(path: Path) -> Shown | None:
    """Return `none` if the layers at the input take 0 to 255, `unit` if 0 to 1, None if they show neither."""
    with h5py.File(path, "r") as file:
        try:
            description = json.loads(file.attrs["model_config"])
            return _Walk(file["model_weights"]).through(description, Affine()).shows
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError, ArithmeticError):
            return None  # an unusual description; Keras decides whether it can load it


class _Walk:
    """A walk through the layers of a model file, whose weights it reads where a layer keeps its numbers there."""

    def __init__(self, weights: h5py.Group) -> None:
        self._weights = weights

    def through(self, model: Mapping[str, Any], affine: Affine) -> Affine:
        """Follow a model from its input to the first layer that ends the walk, or to its output."""
        layers = model["config"]["layers"]
        if model["class_name"] != "Sequential":
            return self._through_graph(layers, affine)
        for layer in layers:
            affine = self._through_layer(layer, affine)
            if affine.ended:
                break
        return affine

    def _through_graph(self, layers: list[Any], affine: Affine) -> Affine:
        """Follow every branch from the input; where they disagree, nothing is shown."""
        pending = [(layer, affine) for layer in layers if not layer["inbound_nodes"]]
        visited: set[str] = set()
        ends: list[Affine] = []
        while pending:
            layer, before = pending.pop()
            after = self._through_layer(layer, before)
            followers = [] if after.ended else [each for each in layers if layer["name"] in _sources(each)]
            if not followers:
                ends.append(after)
            pending += [(each, after) for each in followers if each["name"] not in visited]
            visited.update(each["name"] for each in followers)
        return ends[0] if len({end.shows for end in ends}) == 1 else Affine(ended=True)

    def _through_layer(self, layer: Mapping[str, Any], affine: Affine) -> Affine:
        kind, config = layer["class_name"], layer["config"]
        if kind in PASSED:
            return affine
        if kind in MODELS:
            return self.through(layer, affine)
        if kind == "Rescaling":
            return affine.then(_mean(config["scale"]), _mean(config["offset"]))
        if kind in ("Normalization", "BatchNormalization"):
            return self._through_normalization(kind, config, affine)
        if kind == "TFOpLambda":
            return _through_operation(config["function"], layer["inbound_nodes"][0], affine)
        return affine._replace(ended=True)

    def _through_normalization(self, kind: str, config: Mapping[str, Any], affine: Affine) -> Affine:
        mean, variance = config.get("mean"), config.get("variance")
        if mean is None:
            names = ("mean", "variance") if kind == "Normalization" else ("moving_mean", "moving_variance")
            mean, variance = (self._weight(config["name"], name) for name in names)
        deviation = float(np.mean(np.sqrt(np.asarray(variance, float))))
        return affine.then(1 / deviation, -_mean(mean) / deviation)

    def _weight(self, layer: str, name: str) -> Any:
        """Return a layer's weight; Keras 2 leaves the layer's name out of the path where the model is nested."""
        paths: list[str] = []
        self._weights.visit(paths.append)
        found = [path for path in paths if path.rpartition("/")[2].partition(":")[0] == name]
        own = [path for path in found if layer in path.split("/")]
        return self._weights[(own or found)[0]][()]


def _through_operation(function: str, node: list[Any], affine: Affine) -> Affine:
    """Follow an operator of Keras 2 between a tensor and a number: [tensor, 0, 0, {"y": number}], or the other way."""
    source, _, first, named = node
    number = _mean(first) if source == "_CONSTANT_VALUE" else _mean(named.get("y", named.get("bias")))
    operator = function.rpartition(".")[2]
    if operator in ("add", "bias_add"):
        return affine.then(1, number)
    if operator in ("subtract", "sub"):
        return affine.then(-1, number) if source == "_CONSTANT_VALUE" else affine.then(1, -number)
    if operator in ("multiply", "mul"):
        return affine.then(number, 0)
    if operator in ("divide", "truediv") and source != "_CONSTANT_VALUE":
        return affine.then(1 / number, 0)
    return affine._replace(ended=True)


def _sources(value: Any) -> Iterator[str]:
    """Yield the layers whose outputs a layer takes: [name, node, output] somewhere in its inbound nodes."""
    if isinstance(value, dict):
        value = value["inbound_nodes"] if "inbound_nodes" in value else list(value.values())
    if isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and all(isinstance(index, int) for index in value[1:3]):
            yield value[0]
        for inner in value:
            yield from _sources(inner)


def _mean(value: Any) -> float:
    """Return the mean of a number or of a list of them. Raise ValueError or TypeError for anything else."""
    return float(np.mean(np.asarray(value, float)))
