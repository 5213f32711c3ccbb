"""A loaded network and what its .h5 states -> a Classifier: settings resolved, outputs verified, warmed."""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from config import LOGGER, Config, available_cores
from inference.compiled_engine import ModelSource, import_litert, load_compiled
from inference.inspection import ModelError, ModelFile, inspect_model
from inference.keras_engine import load_keras

Images = NDArray[np.float32]
Shape = tuple[int | None, ...]
Source = Literal["environment", "file", "network", "default"]

GOLDEN_TOLERANCE: Final = 1e-3
SUM_TOLERANCE: Final = 1e-2
NEGLIGIBLE: Final = 1e-6  # below 0: what rounding leaves of a share of 0
MAX_INPUT_SIDE: Final = 4096
MAX_GOLDEN_BYTES: Final = 50_000_000
DEFAULTS: Final[Mapping[str, Any]] = {
    "class_names": ("fisura", "fractura"),
    "threshold": 0.985,  # the value that services with this contract have used
    "scaling": "unit",
    "resize": "stretch",
}
VARIABLES: Final[Mapping[str, str]] = {
    "class_names": "BONE_CLASS_NAMES",
    "threshold": "BONE_CONFIDENCE_THRESHOLD",
    "scaling": "BONE_SCALING",
    "resize": "BONE_RESIZE",
    "input_size": "BONE_INPUT_SIZE",
}
__all__ = ["VARIABLES", "Classifier", "Images", "ModelError", "ModelFile", "Outputs", "Setting", "inspect", "load"]

logger = logging.getLogger(f"{LOGGER}.model")


class Setting(NamedTuple):
    """A value that belongs to the weights, and where it came from."""

    value: Any
    source: Source


class Outputs(NamedTuple):
    """What the network says of n images: probabilities (n, outputs); evidence (n, rows, columns, classes) or None."""

    probabilities: NDArray[np.float32]
    evidence: NDArray[np.float32] | None


@dataclass(frozen=True)
class Classifier:
    """A network that is ready to serve, with all that a caller must know to feed it and to read its outputs."""

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

    @property
    def class_names(self) -> tuple[str, ...]:
        """The known classes in the order of the outputs."""
        return cast("tuple[str, ...]", self.settings["class_names"].value)

    @property
    def threshold(self) -> float:
        """The least confidence of a success, 0 to 1."""
        return cast("float", self.settings["threshold"].value)

    @property
    def scaling(self) -> Literal["unit", "none"]:
        """Whether the network expects 0 to 1 (unit) or 0 to 255 (none)."""
        return cast("Literal['unit', 'none']", self.settings["scaling"].value)

    @property
    def resize(self) -> Literal["letterbox", "stretch"]:
        """Whether an image keeps its aspect ratio (letterbox) or not (stretch)."""
        return cast("Literal['letterbox', 'stretch']", self.settings["resize"].value)

    @property
    def has_none_output(self) -> bool:
        """Whether the last output says that the image is of no known class."""
        return self.outputs > len(self.class_names)

    def describe(self) -> dict[str, Any]:
        """Return what GET /model says of the network, as JSON types."""
        return {
            "classNames": list(self.class_names),
            "noneOutput": self.has_none_output,
            "evidenceOutput": self.evidence_shape is not None,
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
            "quality": _parsed(self.stated.get("quality")),
            "kerasVersion": self.keras_version,
            "engine": self.engine,
        }


class Network(Protocol):
    """A network that some engine runs: (n, height, width, channels) to probabilities and, if it gives any, evidence.

    The shapes are those of the file, the first number standing for n, None where any size will do.
    """

    @property
    def name(self) -> str: ...
    @property
    def input_shape(self) -> Shape: ...
    @property
    def output_shapes(self) -> tuple[Shape, ...]: ...
    def __call__(self, images: Images) -> list[NDArray[np.float32]]: ...


def inspect(config: Config) -> ModelFile:
    """Return what the model file is and states, without loading it. Raise ModelError."""
    try:
        return inspect_model(config.model_path, config.cache_path)
    except ModelError as error:
        raise _named(config.model_path, error) from error


def load(config: Config, cores: int | None = None) -> Classifier:
    """Return the model that the settings name, verified and warmed up, for that many cores or all. Raise ModelError."""
    if config.engine != "tensorflow":
        threading.Thread(target=import_litert, daemon=True).start()  # while the file is inspected
    file = inspect(config)
    chosen = {name: getattr(config, name) for name in VARIABLES}
    try:
        network = _open_network(config, file, chosen, cores or available_cores())
        classifier = load_classifier(
            config.model_path, network, file.attributes, chosen, keras_version=file.keras_version, sha256=file.sha256
        )
    except ModelError as error:
        raise _named(config.model_path, error) from error
    if classifier.settings["threshold"].source == "default":
        logger.warning("The threshold %g is the default and was not chosen for this model.", classifier.threshold)
    return classifier


def _named(path: Path, error: ModelError) -> ModelError:
    return ModelError(f"{path} cannot be used: {error}")


def _open_network(config: Config, file: ModelFile, chosen: Mapping[str, Any], cores: int) -> Network:
    """Open the engine that the settings name; for `auto` the compiled one, and Keras where that one cannot serve."""
    if config.engine == "tensorflow":
        return _open_keras(config.model_path, file.keras_version)
    side = resolve("input_size", file.attributes, chosen).value or 0
    high = 255 if resolve("scaling", file.attributes, chosen).value == "none" else 1
    source = ModelSource(config.model_path, file.sha256, file.keras_version, side, high)
    try:
        return load_compiled(source, config.cache_path, cores)
    except ModelError as error:
        if config.engine == "compiled" or not error.keras_may_serve:
            raise
        logger.warning("The network runs on TensorFlow: %s", error)
    return _open_keras(config.model_path, file.keras_version)


def _open_keras(path: Path, keras_version: str) -> Network:
    try:
        return load_keras(path, keras_version)
    except ValueError as error:
        raise ModelError(str(error)) from error


def load_classifier(
    path: Path,
    network: Network,
    stated: Mapping[str, Any],
    chosen: Mapping[str, Any],
    *,
    keras_version: str,
    sha256: str,
) -> Classifier:
    """Join a network with the settings of its file, and verify it. Raise ModelError.

    `stated` holds the file's attributes without their prefix, `chosen` what the environment sets, by the same names
    (None: not set). The network must give its golden outputs within 1e-3; without golden ones, zeros, ones
    and noise must give finite probabilities. The same run warms it up.
    """
    golden = _read_golden(path)
    settings = {name: resolve(name, stated, chosen) for name in VARIABLES}
    settings["input_size"] = _input_size(network.input_shape, settings["input_size"])
    outputs = cast("int", network.output_shapes[0][1])
    evidence = network.output_shapes[1][1:] if len(network.output_shapes) > 1 else None
    _check_outputs(outputs, settings["class_names"].value)
    _check_evidence(evidence, len(settings["class_names"].value))
    _check_threshold(settings["threshold"], outputs, len(settings["class_names"].value))
    classifier = Classifier(
        settings=settings,
        input_size=settings["input_size"].value,
        channels=cast("int", network.input_shape[3]),
        outputs=max(outputs, 2),
        evidence_shape=evidence,
        sha256=sha256,
        has_golden=golden is not None,
        keras_version=keras_version,
        engine=network.name,
        stated=stated,
        predict=_predictor(network, sigmoid=outputs == 1),
    )
    probabilities = classifier.predict(_inputs_to_verify(classifier, golden)).probabilities
    _check_probabilities(probabilities)
    if golden is not None:
        _check_golden(probabilities, golden[1])
    return classifier


def _predictor(run: Callable[[Images], list[NDArray[np.float32]]], *, sigmoid: bool) -> Callable[[Images], Outputs]:
    """Return a function from images to outputs; a single sigmoid output becomes two probabilities."""

    def predict(images: Images) -> Outputs:
        probabilities, *evidence = run(images)
        if sigmoid:
            probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
        return Outputs(probabilities, evidence[0] if evidence else None)

    return predict


def resolve(name: str, stated: Mapping[str, Any], chosen: Mapping[str, Any]) -> Setting:
    """Take a setting from the environment, else from the file, else its default. Raise ModelError."""
    if chosen.get(name) is not None:
        return Setting(chosen[name], "environment")
    if name in stated:
        return Setting(_parse(name, stated[name]), "file")
    return Setting(DEFAULTS.get(name), "default")


def _parse(name: str, value: Any) -> Any:
    """Read an attribute of the file. Raise ModelError."""
    parsers: dict[str, tuple[Callable[[Any], Any], str]] = {
        "class_names": (_parse_names, "two or more different names with commas between them"),
        "threshold": (_parse_share, "a number from 0 to 1"),
        "scaling": (_parse_choice("unit", "none"), "unit or none"),
        "resize": (_parse_choice("letterbox", "stretch"), "letterbox or stretch"),
        "input_size": (_parse_side, f"a whole number of pixels up to {MAX_INPUT_SIDE}"),
    }
    parse, wanted = parsers[name]
    try:
        return parse(value)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise ModelError(f"its attribute bone_{name} is {value!r}; it must be {wanted}.") from None


def _parse_names(value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(","))
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise ValueError
    return names


def _parse_share(value: float | str) -> float:
    if not 0 <= float(value) <= 1:
        raise ValueError
    return float(value)


def _parse_choice(*choices: str) -> Callable[[str], str]:
    return lambda value: choices[choices.index(value)]


def _parse_side(value: float | str) -> int:
    if int(value) != float(value) or not 1 <= int(value) <= MAX_INPUT_SIDE:
        raise ValueError
    return int(value)


def _input_size(shape: Shape, setting: Setting) -> Setting:
    """Return (height, width): the network's own sides, and the setting where the network takes any."""
    own = shape[1:3]
    if setting.value is None:
        _require(
            None not in own,
            "it takes images of any size; set BONE_INPUT_SIZE, or its attribute bone_input_size, to the side in "
            "pixels that it was trained with.",
        )
        return Setting(own, "network")
    sides = tuple(side or setting.value for side in own)
    _require(
        None in own or sides == (setting.value, setting.value),
        f"its input is {own[0]} × {own[1]} pixels, but {_name_of('input_size', setting)} says {setting.value}; "
        "leave that out.",
    )
    return Setting(sides, setting.source if None in own else "network")


def _check_outputs(outputs: int, class_names: tuple[str, ...]) -> None:
    classes = len(class_names)
    _require(
        outputs in (classes, classes + 1) or (outputs == 1 and classes == 2),
        f"it has {outputs} outputs, but the {classes} class names ({', '.join(class_names)}) want {classes}, or "
        f"{classes + 1} with a last one for none of them; name its classes in BONE_CLASS_NAMES.",
    )


def _check_evidence(shape: Shape | None, classes: int) -> None:
    _require(
        shape is None or (len(shape) == 3 and shape[2] is not None and shape[2] >= classes),
        f"its output evidence has the shape {shape} an image; it must be (rows, columns, {classes} classes).",
    )


def _check_threshold(threshold: Setting, outputs: int, classes: int) -> None:
    """Refuse a threshold that could never reject an image."""
    lowest = 0.0 if outputs == classes + 1 else 1 / classes
    _require(
        threshold.value > lowest,
        f"the threshold {threshold.value:g} of {_name_of('threshold', threshold)} could never reject an image; "
        f"it must be above {lowest:.4g}.",
    )


def _name_of(name: str, setting: Setting) -> str:
    return VARIABLES[name] if setting.source == "environment" else f"its attribute bone_{name}"


def _read_golden(path: Path) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return the golden inputs (n, height, width, channels), uint8, and outputs (n, outputs), float32, if any."""
    with h5py.File(path, "r") as file:
        if "bone_golden" not in file:
            return None
        try:
            inputs, outputs = file["bone_golden/inputs"], file["bone_golden/outputs"]
            plain = inputs.dtype == np.uint8 and outputs.dtype == np.float32
            small = inputs.nbytes + outputs.nbytes <= MAX_GOLDEN_BYTES
            _require(
                plain and small and inputs.ndim == 4 and outputs.ndim == 2,
                "its golden inputs must be uint8 (n, height, width, channels), the outputs float32 (n, outputs), both "
                f"together at most {MAX_GOLDEN_BYTES:,} bytes.",
            )
            return inputs[()], outputs[()]
        except (KeyError, TypeError, AttributeError):
            raise ModelError("its group bone_golden must hold the data sets inputs and outputs.") from None


def _inputs_to_verify(classifier: Classifier, golden: tuple[NDArray[Any], NDArray[Any]] | None) -> Images:
    """Return the golden inputs, or else zeros, ones and noise, as the network expects them. Raise ModelError."""
    shape = (*classifier.input_size, classifier.channels)
    if golden is None:
        noise = np.random.default_rng(0).integers(0, 256, shape)
        inputs = np.stack([np.zeros(shape), np.full(shape, 255), noise])
    else:
        inputs = golden[0]
        _require(
            inputs.shape[1:] == shape and len(inputs) > 0,
            f"its golden inputs have the shape {inputs.shape}; they must be (n, {', '.join(map(str, shape))}).",
        )
    scale = np.float32(255 if classifier.scaling == "unit" else 1)
    return cast("Images", inputs.astype(np.float32) / scale)


def _check_probabilities(probabilities: NDArray[np.float32]) -> None:
    sums = probabilities.sum(axis=1)
    _require(bool(np.all(np.isfinite(probabilities))), "its outputs are not finite; its weights are damaged.")
    _require(
        bool(np.all(probabilities >= -NEGLIGIBLE) and np.all(np.abs(sums - 1) <= SUM_TOLERANCE)),
        f"its outputs are not probabilities (they add up to {sums[np.argmax(np.abs(sums - 1))]:.3g}); "
        "end it with a softmax over the classes, or a sigmoid for two.",
    )


def _check_golden(probabilities: NDArray[np.float32], expected: NDArray[Any]) -> None:
    _require(
        expected.shape in (probabilities.shape, (len(probabilities), 1)),
        f"its golden outputs have the shape {expected.shape}; they must be {probabilities.shape}.",
    )
    if expected.shape[1] == 1:
        expected = np.concatenate([1 - expected, expected], axis=1)
    difference = float(np.max(np.abs(probabilities - expected)))
    _require(
        difference <= GOLDEN_TOLERANCE,
        f"it misses its golden outputs by {difference:.3g}; its weights are damaged, or BONE_SCALING is not what it "
        "was trained with.",
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ModelError(message)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _parsed(text: Any) -> Any:
    """Return what a JSON attribute holds; None where the file has none, or something else."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None
