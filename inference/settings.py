"""What belongs to the weights and travels with them: the file's attributes `bone_*`, overruled by the environment."""

from collections.abc import Mapping
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
        raise ModelError(f"its attribute bone_{name} is {value!r}; it must be {error}.") from None


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


def origin(name: str, setting: Setting) -> str:
    """Return what an error calls a setting: its variable, or its attribute."""
    return VARIABLES[name] if setting.source == "environment" else f"its attribute bone_{name}"
