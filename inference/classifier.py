"""A network together with its settings: what a caller needs to feed it and to read its outputs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from config import SCALINGS, Scaling
from inference.inspection import ModelError, ModelFile
from inference.keras_engine import Images, Shape
from inference.prevalence import Prevalence, read_prevalence
from inference.reference import read_reference
from inference.settings import Setting, fit_input_size, origin, read_by_name, read_evidence_scale


class Outputs(NamedTuple):
    """The outputs for n images, the optional ones None where the network lacks them.

    probabilities (n, outputs); evidence (n, rows, columns, classes); familiarity (n, 1), 0 to 1: the share of the
    training images that are at least as unusual.
    """

    probabilities: NDArray[np.float32]
    evidence: NDArray[np.float32] | None = None
    familiarity: NDArray[np.float32] | None = None


class Network(Protocol):
    """A network that some engine runs: float32 (n, height, width, channels) to outputs by name, probabilities first.

    The shapes are those of the file; the first number is n, None stands for any size.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def input_shape(self) -> Shape: ...  # noqa: D102
    @property
    def output_shapes(self) -> Mapping[str, Shape]: ...  # noqa: D102
    def __call__(self, images: Images) -> dict[str, NDArray[np.float32]]: ...  # noqa: D102


@dataclass(frozen=True)
class Classifier:
    """A network that is ready to serve, with all that a caller needs to feed it and to read its outputs.

    `conformal` holds a quantile, 0 to 1, for each class and, where the network has such an output, for none.
    `evidence_scale` holds the evidence at which a heat map starts and the evidence at which it is full.
    `prevalence` is None where the operator states none. `reference` holds the share of films that is expected in each
    tenth of 0 to 1, for the scores `fractured` and `familiarity`.
    """

    settings: Mapping[str, Setting]
    input_size: tuple[int, int]
    channels: int
    outputs: int
    evidence_shape: Shape | None
    sha256: str
    has_golden: bool
    keras_version: str
    engine: str
    stated: Mapping[str, Any]
    predict: Callable[[Images], Outputs]
    has_familiarity: bool = False
    conformal: Mapping[str, float] | None = None
    evidence_scale: tuple[float, float] | None = None
    prevalence: Prevalence | None = None
    reference: Mapping[str, Sequence[float]] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The known classes in the order of the outputs."""
        return cast("tuple[str, ...]", self.settings["class_names"].value)

    @property
    def threshold(self) -> float:
        """The lowest confidence of a success, 0 to 1."""
        return cast("float", self.settings["threshold"].value)

    @property
    def scaling(self) -> Scaling:
        """Which pixel values the network expects."""
        return cast("Scaling", self.settings["scaling"].value)

    @property
    def resize(self) -> Literal["letterbox", "stretch"]:
        """Whether an image keeps its aspect ratio (letterbox) or not (stretch)."""
        return cast("Literal['letterbox', 'stretch']", self.settings["resize"].value)

    @property
    def has_none_output(self) -> bool:
        """Whether the last output is the probability of none of the known classes."""
        return self.outputs > len(self.class_names)

    def with_scaling(self, scaling: Scaling) -> "Classifier":
        """Return this classifier with another scaling, for a comparison."""
        return replace(self, settings=dict(self.settings) | {"scaling": Setting(scaling, "environment")})

    def describe(self) -> dict[str, Any]:
        """Return what GET /model states about the network, as JSON types."""
        return {
            "classNames": list(self.class_names),
            "noneOutput": self.has_none_output,
            "evidenceOutput": self.evidence_shape is not None,
            "familiarityOutput": self.has_familiarity,
            "inputSize": {"height": self.input_size[0], "width": self.input_size[1], "channels": self.channels},
            "threshold": self.threshold,
            "scaling": self.scaling,
            "resize": self.resize,
            "sources": {_camel(name): setting.source for name, setting in self.settings.items()},
            "sha256": self.sha256,
            "version": self.stated.get("version"),
            "dataVersion": self.stated.get("data_version"),
            "codeVersion": self.stated.get("code_version"),
            "prior": _parsed(self.stated.get("prior")),
            "prevalence": None if self.prevalence is None else dict(self.prevalence.shares),
            "conformal": None if self.conformal is None else dict(self.conformal),
            "evidenceScale": self.evidence_scale and dict(zip(("from", "to"), self.evidence_scale, strict=True)),
            **({} if self.reference is None else {"reference": {k: list(v) for k, v in self.reference.items()}}),
            "quality": _parsed(self.stated.get("quality")),
            "kerasVersion": self.keras_version,
            "engine": self.engine,
        }


def build_classifier(
    network: Network,
    file: ModelFile,
    settings: Mapping[str, Setting],
    prevalence: Mapping[str, float] | None,
    *,
    has_golden: bool,
) -> Classifier:
    """Combine a network with its settings and the operator's prevalence. Raise ModelError if they do not fit."""
    size = fit_input_size(settings["input_size"], network.input_shape)
    outputs = cast("int", network.output_shapes["probabilities"][1])
    evidence = network.output_shapes.get("evidence", (None,))[1:] or None
    names = settings["class_names"].value
    classes = len(names)
    has_none = outputs > classes
    _check_channels(settings["scaling"], cast("int", network.input_shape[3]))
    _check_outputs(outputs, names)
    _check_evidence(evidence, classes)
    _check_familiarity(network.output_shapes.get("familiarity"))
    _check_threshold(settings["threshold"], outputs, classes)
    stated_prevalence = read_prevalence(prevalence, file.attributes, names, has_none=has_none)
    return Classifier(
        settings=dict(settings) | {"input_size": size},
        input_size=size.value,
        channels=cast("int", network.input_shape[3]),
        outputs=max(outputs, 2),
        evidence_shape=evidence,
        sha256=file.sha256,
        has_golden=has_golden,
        keras_version=file.keras_version,
        engine=network.name,
        stated=file.attributes,
        predict=make_predict(network, sigmoid=outputs == 1),
        has_familiarity="familiarity" in network.output_shapes,
        conformal=read_by_name("conformal", file.attributes, names, has_none=has_none),
        evidence_scale=read_evidence_scale(file.attributes),
        prevalence=stated_prevalence,
        reference=read_reference(file.attributes, names, stated_prevalence, has_none=has_none),
    )


def make_predict(network: Network, *, sigmoid: bool) -> Callable[[Images], Outputs]:
    """Return a function from images to outputs; a single sigmoid output becomes two probabilities."""

    def predict(images: Images) -> Outputs:
        outputs = Outputs(**network(images))
        return outputs._replace(probabilities=as_two(outputs.probabilities)) if sigmoid else outputs

    return predict


def as_two(second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, 2) from the probability of the second class, (n, 1)."""
    return np.concatenate([1 - second, second], axis=1)


def _check_channels(scaling: Setting, channels: int) -> None:
    if channels < len(SCALINGS[scaling.value].mean):
        raise ModelError(
            f"{origin('scaling', scaling)} is {scaling.value}, which needs 3 channels, but its input has {channels}; "
            "set BONE_SCALING to unit, none or tf."
        )


def _check_outputs(outputs: int, class_names: tuple[str, ...]) -> None:
    classes = len(class_names)
    if outputs not in (classes, classes + 1) and not (outputs == 1 and classes == 2):
        raise ModelError(
            f"it has {outputs} outputs, but the {classes} class names ({', '.join(class_names)}) need {classes}, or "
            f"{classes + 1} with a last one for none of them; name its classes in BONE_CLASS_NAMES."
        )


def _check_evidence(shape: Shape | None, classes: int) -> None:
    if shape is not None and (len(shape) != 3 or shape[2] is None or shape[2] < classes):
        raise ModelError(
            f"its output evidence has the shape {shape} for each image; it must be (rows, columns, {classes} classes)."
        )


def _check_familiarity(shape: Shape | None) -> None:
    if shape is not None and shape[1:] != (1,):
        raise ModelError(f"its output familiarity has the shape {shape}; it must be (images, 1).")


def _check_threshold(threshold: Setting, outputs: int, classes: int) -> None:
    """Refuse a threshold that could never reject an image."""
    lowest = 0.0 if outputs == classes + 1 else 1 / classes
    if not threshold.value > lowest:
        raise ModelError(
            f"the threshold {threshold.value:g} of {origin('threshold', threshold)} could never reject an image; "
            f"set BONE_CONFIDENCE_THRESHOLD above {lowest:.4g}."
        )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _parsed(text: Any) -> Any:
    """Return the value of a JSON attribute; None if it is absent or not JSON."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None
