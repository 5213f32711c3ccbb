"""What belongs to the weights and travels with them: the file's attributes `bone_*`, overruled by the environment."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import config
from config import Config
from inference.inspection import ModelError
from inference.keras_engine import Shape

Source = Literal["environment", "file", "network", "default"]

DEFAULTS: Final[Mapping[str, Any]] = {
    "class_names": ("fisura", "fractura"),
    "threshold": 0.985,  # the value that services with this contract have used
    "scaling": "unit",
    "resize": "stretch",
    "input_size": None,
}
_BY_FIELD: Final = {setting.field: setting for setting in config.SETTINGS}
VARIABLES: Final[Mapping[str, str]] = {name: _BY_FIELD[name].variable for name in DEFAULTS}


class Setting(NamedTuple):
    """A value that belongs to the weights, and where it came from."""

    value: Any
    source: Source


def resolve_settings(stated: Mapping[str, Any], config: Config) -> dict[str, Setting]:
    """Take each setting from the environment, else from the file, else its default. Raise ModelError.

    `stated` holds the file's attributes without their prefix.
    """
    return {name: _resolve(name, stated, getattr(config, name)) for name in DEFAULTS}


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
        raise _misread(name, value, str(error)) from None


def fit_input_size(setting: Setting, shape: Shape) -> Setting:
    """Return (height, width): the network's own sides, and the setting where it takes any. Raise ModelError.

    `shape` is the network's (n, height, width, channels), None where any size will do.
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
            "leave that out."
        )
    return Setting(sides, setting.source if None in own else "network")


def read_conformal(stated: Mapping[str, Any], class_names: Sequence[str], *, has_none: bool) -> dict[str, float] | None:
    """Return the quantile of each class, and of none, by the names in use; None where the file has none.

    The file names its own classes, in the same order. Raise ModelError.
    """
    if "conformal" not in stated:
        return None
    none = ("none",) if has_none else ()
    own, names = (*_resolve("class_names", stated, None).value, *none), (*class_names, *none)
    quantiles = _parse_numbers(stated["conformal"])
    fits = quantiles.keys() == set(own) and len(own) == len(names)
    if not fits or not all(0 <= quantile <= 1 for quantile in quantiles.values()):
        wanted = f"a JSON object with a number from 0 to 1 for each of {', '.join(own)}"
        raise _misread("conformal", stated["conformal"], wanted)
    return {name: quantiles[known] for name, known in zip(names, own, strict=True)}


def read_evidence_scale(stated: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the evidence at which a heat map starts and is full; None where the file states none. Raise ModelError."""
    if "evidence" not in stated:
        return None
    edges = _parse_numbers(stated["evidence"])
    if edges.keys() != {"from", "to"} or not -math.inf < edges["from"] < edges["to"] < math.inf:
        raise _misread("evidence", stated["evidence"], 'a JSON object with two numbers, "from" less than "to"')
    return edges["from"], edges["to"]


def _parse_numbers(value: Any) -> dict[str, float]:
    """Return a JSON object of numbers; an empty one where the value is something else."""
    try:
        numbers = json.loads(value)
        return {name: float(number) for name, number in numbers.items() if not isinstance(number, bool | str)}
    except (TypeError, ValueError, AttributeError, RecursionError, OverflowError):
        return {}


def _misread(name: str, value: Any, wanted: str) -> ModelError:
    return ModelError(f"its attribute bone_{name} is {value!r}; it must be {wanted}.")


def origin(name: str, setting: Setting) -> str:
    """Return what an error calls a setting: its variable, or its attribute."""
    return VARIABLES[name] if setting.source == "environment" else f"its attribute bone_{name}"
