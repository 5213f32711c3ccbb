"""Settings that belong to the weights: the file's attributes `bone_*`, which the environment overrides."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import config
from config import Config
from inference.inspection import ModelError
from inference.keras_engine import Shape
from inference.scaling import find_scaling

Source = Literal["environment", "file", "labels", "network", "default"]

DEFAULTS: Final[Mapping[str, Any]] = {
    "class_names": ("fisura", "fractura"),
    "threshold": 0.985,  # the value that services with this contract have used
    "scaling": "unit",
    "resize": "stretch",
    "input_size": None,
}
TEACHABLE_MACHINE_NAME: Final = "keras_model.h5"
NONE_LABELS: Final = ("none", "ninguna", "ninguno")
MAX_LABELS_BYTES: Final = 10_000
_BY_FIELD: Final = {setting.field: setting for setting in config.SETTINGS}
VARIABLES: Final[Mapping[str, str]] = {name: _BY_FIELD[name].variable for name in DEFAULTS}


class Setting(NamedTuple):
    """A value that belongs to the weights, and its source."""

    value: Any
    source: Source


def resolve_settings(stated: Mapping[str, Any], config: Config) -> dict[str, Setting]:
    """Take each setting from the environment, else from the file, else from what shows it, else its default.

    `stated` holds the file's attributes without their prefix. Labels beside the file show the class names and the
    scaling, layers at the input the scaling. Raise ModelError.
    """
    settings = {name: _resolve(name, stated, getattr(config, name)) for name in DEFAULTS}
    labels = read_labels(config.model_path)
    if labels is not None:
        shown = {"class_names": Setting(labels, "labels"), "scaling": Setting("tf", "labels")}
        settings |= {name: setting for name, setting in shown.items() if settings[name].source == "default"}
    if settings["scaling"].source == "default" and (scaling := find_scaling(config.model_path)):
        settings["scaling"] = Setting(scaling, "network")
    return settings


def read_labels(path: Path) -> tuple[str, ...] | None:
    """Return the class names of the labels.txt beside a keras_model.h5 of Teachable Machine, None without one.

    Its lines are `0 name`, `1 name`, and so on. A last one that means none of the classes is left out.
    """
    labels = path.with_name("labels.txt")
    if path.name != TEACHABLE_MACHINE_NAME or not labels.is_file() or labels.stat().st_size > MAX_LABELS_BYTES:
        return None
    lines = labels.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    pairs = [line.strip().partition(" ") for line in lines]
    names = tuple(name.strip() for _, _, name in pairs if name.strip())
    if [number for number, _, _ in pairs] != [str(index) for index in range(len(set(names)))] or len(names) < 2:
        return None
    return names[:-1] if len(names) > 2 and names[-1].casefold() in NONE_LABELS else names


def _resolve(name: str, stated: Mapping[str, Any], chosen: Any) -> Setting:
    if chosen is not None:
        return Setting(chosen, "environment")
    if name in stated:
        return Setting(_parse(name, stated[name]), "file")
    return Setting(DEFAULTS[name], "default")


def _parse(name: str, value: str | float) -> Any:
    """Read an attribute as its variable is read. Raise ModelError."""
    whole = isinstance(value, float) and value.is_integer()
    try:
        return _BY_FIELD[name].parse(str(int(value) if whole else value).strip())
    except ValueError as error:
        raise misread(name, value, f"{error}, or set {VARIABLES[name]}") from None


def fit_input_size(setting: Setting, shape: Shape) -> Setting:
    """Return (height, width): the network's own sides, and the setting where it takes any. Raise ModelError.

    `shape` is the network's (n, height, width, channels), None stands for any size.
    """
    own = shape[1:3]
    sides = tuple(side or setting.value for side in own)
    if None in sides:
        raise ModelError(
            "it takes images of any size; set BONE_INPUT_SIZE, or its attribute bone_input_size, to the side in "
            "pixels that it was trained with."
        )
    if setting.value is not None and None not in own and sides != (setting.value, setting.value):
        raise ModelError(
            f"its input is {own[0]} × {own[1]} pixels, but {origin('input_size', setting)} says {setting.value}; "
            "leave it out."
        )
    return Setting(sides, setting.source if None in own else "network")


def read_by_name(
    attribute: str, stated: Mapping[str, Any], class_names: Sequence[str], *, has_none: bool
) -> dict[str, float] | None:
    """Return the number that an attribute states for each class, and for none, by the names in use; None without it.

    The file names its own classes, in the same order. Raise ModelError.
    """
    if attribute not in stated:
        return None
    own, names = stated_names(stated, has_none=has_none), (*class_names, *(("none",) if has_none else ()))
    numbers = _parse_numbers(stated[attribute])
    fits = numbers.keys() == set(own) and len(own) == len(names)
    if not fits or not all(0 <= number <= 1 for number in numbers.values()):
        wanted = f"a JSON object with a number from 0 to 1 for each of {', '.join(own)}"
        raise misread(attribute, stated[attribute], wanted)
    return {name: numbers[known] for name, known in zip(names, own, strict=True)}


def stated_names(stated: Mapping[str, Any], *, has_none: bool) -> tuple[str, ...]:
    """Return the names by which the file itself calls its classes, and none if it has such an output."""
    return (*_resolve("class_names", stated, None).value, *(("none",) if has_none else ()))


def read_evidence_scale(stated: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the evidence at which a heat map starts and is full; None if the file states none. Raise ModelError."""
    if "evidence" not in stated:
        return None
    edges = _parse_numbers(stated["evidence"])
    if edges.keys() != {"from", "to"} or not -math.inf < edges["from"] < edges["to"] < math.inf:
        raise misread("evidence", stated["evidence"], 'a JSON object with two numbers, "from" less than "to"')
    return edges["from"], edges["to"]


def _parse_numbers(value: Any) -> dict[str, float]:
    """Return a JSON object of numbers; an empty one if the value is something else."""
    try:
        numbers = json.loads(value)
        return {name: float(number) for name, number in numbers.items() if not isinstance(number, bool | str)}
    except (TypeError, ValueError, AttributeError, RecursionError, OverflowError):
        return {}


def misread(name: str, value: Any, wanted: str) -> ModelError:
    """Return the error for an attribute that cannot be read."""
    return ModelError(f"its attribute bone_{name} is {value!r}; it must be {wanted}.")


def origin(name: str, setting: Setting) -> str:
    """Return what an error calls a setting: its variable, or its attribute."""
    return VARIABLES[name] if setting.source == "environment" else f"its attribute bone_{name}"
