"""Every setting: its variable, default, range and unit. Read once, at start-up."""

import difflib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

VERSION: Final = "0.1.0"
LOGGER: Final = "bone"  # the name of the service's logger
MULTIPART_OVERHEAD_BYTES: Final = 64_000
LARGEST_IN_A_BATCH: Final = 5  # of the largest images that a batch may contain; more small ones fit
TENTHS: Final = tuple(tenth / 10 for tenth in range(1, 11))  # the upper edges of histograms of values from 0 to 1
PILLOW_MAX_PIXELS: Final = 89_000_000  # above it Pillow's own decompression-bomb check comes first

# Strict, because flask-cors takes a * within an origin for a pattern and would allow unintended origins.
_ORIGIN: Final = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?")

PREFIX: Final = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")  # a path such as /bones

Scaling = Literal["unit", "none", "tf", "caffe", "torch"]


class PixelScale(NamedTuple):
    """How pixels of 0 to 255 are scaled: (pixel - mean) / deviation for each channel, in BGR or RGB."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    is_bgr: bool
    meaning: str

    @property
    def low(self) -> float:
        """The lowest scaled value."""
        return (0 - max(self.mean)) / self.deviation[0]

    @property
    def high(self) -> float:
        """The highest scaled value, about."""
        return (255 - min(self.mean)) / self.deviation[0]

    def apply(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale RGB or grey pixels of 0 to 255, float32, channels last."""
        ordered = pixels[..., ::-1] if self.is_bgr else pixels
        mean, deviation = (np.array(numbers, np.float32) for numbers in (self.mean, self.deviation))
        return (ordered - mean) / deviation


# `tf`, `caffe` and `torch` are the modes of preprocess_input in keras.applications, with its figures.
SCALINGS: Final[Mapping[Scaling, PixelScale]] = {
    "unit": PixelScale((0.0,), (255.0,), is_bgr=False, meaning="0 to 1"),
    "none": PixelScale((0.0,), (1.0,), is_bgr=False, meaning="0 to 255"),
    "tf": PixelScale((127.5,), (127.5,), is_bgr=False, meaning="-1 to 1"),
    "caffe": PixelScale((103.939, 116.779, 123.68), (1.0,), is_bgr=True, meaning="BGR less the means of ImageNet"),
    "torch": PixelScale(
        (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), is_bgr=False, meaning="normalised as for ImageNet"
    ),
}


class ConfigError(Exception):
    """A setting with an unusable value; the message names the variable and states what it must be."""


@dataclass(frozen=True)
class Config:
    """The settings of one process. Those of the model are None where the model file decides."""

    host: str
    port: int
    model_path: Path
    engine: Literal["auto", "compiled", "tensorflow"]
    cache_path: Path
    class_names: tuple[str, ...] | None
    threshold: float | None
    scaling: Scaling | None
    resize: Literal["letterbox", "stretch"] | None
    input_size: int | None
    prevalence: Mapping[str, float] | None
    max_upload_bytes: int
    max_pixels: int
    max_batch: int
    cors_origins: tuple[str, ...]
    url_prefix: str | None
    language: Literal["es", "en"]
    api_keys: tuple[str, ...] | None
    max_in_flight: int | None
    max_queue: int
    deadline_seconds: float
    drain_seconds: float
    log_level: Literal["debug", "info", "warning", "error"]

    @property
    def slots(self) -> int:
        """Return how many images are processed at the same time: as set, or one per core."""
        return self.max_in_flight or available_cores()

    @property
    def max_body_bytes(self) -> int:
        """Return the size of the largest request body: one image and its multipart overhead."""
        return self.max_upload_bytes + MULTIPART_OVERHEAD_BYTES

    @property
    def max_batch_bytes(self) -> int:
        """Return the size of the largest body of a batch."""
        return min(self.max_batch, LARGEST_IN_A_BATCH) * self.max_upload_bytes + MULTIPART_OVERHEAD_BYTES


@dataclass(frozen=True)
class Setting:
    """One environment variable: the field it sets, its default as text, its parser and its meaning."""

    field: str
    variable: str
    default: str | None
    parse: Callable[[str], Any]
    meaning: str
    is_secret: bool = False


def text(value: str) -> str:
    """Parse any text."""
    return value


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers."""

    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise ValueError(f"a whole number from {low:,} to {high:,}")
        return int(value)

    return parse


def decimal(low: float, high: float, unit: int = 1) -> Callable[[str], float]:
    """Return a parser of numbers, which it multiplies with the unit."""

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return number * unit

    return parse


def megabytes(low: float, high: float) -> Callable[[str], int]:
    """Return a parser of sizes in units of 1,000,000 bytes, which it gives in bytes."""

    def parse(value: str) -> int:
        return round(decimal(low, high)(value) * 1_000_000)

    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser of one of several words."""

    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return value

    return parse


def _names(value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(","))
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise ValueError("two or more different names, separated by commas")
    return names


def _shares(value: str) -> dict[str, float]:
    wanted = "each class with its share, such as fisura=0.02,fractura=0.06: each above 0, together below 1"
    try:
        pairs = [part.split("=") for part in value.split(",")]
        shares = {name.strip(): float(share) for name, share in pairs}
    except ValueError:
        raise ValueError(wanted) from None
    if len(shares) < len(pairs) or not all(share > 0 for share in shares.values()) or not sum(shares.values()) < 1:
        raise ValueError(wanted)
    return shares


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in value.split(","))
    if origins != ("*",) and not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("* or origins such as https://clinic.example, separated by commas")
    return origins


def _prefix(value: str) -> str:
    prefix = value.rstrip("/")
    if prefix != "auto" and not PREFIX.fullmatch(prefix):
        raise ValueError("a path such as /bones, or auto")
    return prefix


def _keys(value: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in value.split(","))
    if not all(key.isascii() and key.isprintable() and key and " " not in key for key in keys):
        raise ValueError("keys of visible ASCII characters, separated by commas")
    return keys


SETTINGS: Final = (
    Setting("host", "BONE_HOST", "0.0.0.0", text, "address to listen on"),  # noqa: S104 a service in a container
    Setting("port", "BONE_PORT", "5010", whole(1, 65535), "port to listen on"),
    Setting("model_path", "BONE_MODEL_PATH", "bone_fracture_classifier.h5", Path, "the model file"),
    Setting(
        "engine",
        "BONE_ENGINE",
        "auto",
        one_of("auto", "compiled", "tensorflow"),
        "`compiled` (LiteRT), `tensorflow` (plain Keras), or `auto`: compiled if the model can be compiled",
    ),
    Setting(
        "cache_path",
        "BONE_CACHE_DIR",
        ".compiled_cache",
        Path,
        "folder for compiled models and inspection results; it can be deleted at any time",
    ),
    Setting(
        "class_names",
        "BONE_CLASS_NAMES",
        None,
        _names,
        "comma-separated names of the known classes, in the order of the outputs",
    ),
    Setting("threshold", "BONE_CONFIDENCE_THRESHOLD", None, decimal(0, 1), "lowest `confidence` of a success, 0 to 1"),
    Setting(
        "scaling",
        "BONE_SCALING",
        None,
        one_of(*SCALINGS),
        "pixel values the network expects: `unit` 0 to 1, `none` 0 to 255, or Keras's `tf`, `caffe`, `torch`",
    ),
    Setting(
        "resize",
        "BONE_RESIZE",
        None,
        one_of("letterbox", "stretch"),
        "`letterbox` keeps the aspect ratio and pads with black, `stretch` does not",
    ),
    Setting(
        "input_size",
        "BONE_INPUT_SIZE",
        None,
        whole(16, 4096),
        "side of the input in pixels, for a network without a fixed input size",
    ),
    Setting(
        "prevalence",
        "BONE_PREVALENCE",
        None,
        _shares,
        "how common each class is where the service runs, such as `fisura=0.02,fractura=0.06`",
    ),
    Setting(
        "max_upload_bytes",
        "BONE_MAX_UPLOAD_MB",
        "20",
        megabytes(0.001, 1000),
        "largest image file, in units of 1,000,000 bytes",
    ),
    Setting(
        "max_pixels",
        "BONE_MAX_PIXELS",
        "50000000",
        whole(1024, PILLOW_MAX_PIXELS),
        "largest image in pixels, checked before decoding",
    ),
    Setting("max_batch", "BONE_MAX_BATCH", "16", whole(1, 256), "most images in one `POST /predict/batch`"),
    Setting("cors_origins", "BONE_CORS_ORIGINS", "*", _origins, "comma-separated origins whose pages may call the API"),
    Setting(
        "url_prefix",
        "BONE_URL_PREFIX",
        None,
        _prefix,
        "path under which a proxy serves it, such as `/bones`; `auto` takes it from `X-Forwarded-Prefix`",
    ),
    Setting("language", "BONE_LANGUAGE", "es", one_of("es", "en"), "default language of messages: `es` or `en`"),
    Setting(
        "api_keys",
        "BONE_API_KEYS",
        None,
        _keys,
        "comma-separated keys; if set, clients must send one in `X-API-Key`",
        is_secret=True,
    ),
    Setting("max_in_flight", "BONE_MAX_IN_FLIGHT", None, whole(1, 256), "images processed at the same time"),
    Setting("max_queue", "BONE_MAX_QUEUE", "64", whole(0, 1000), "requests that may wait; beyond it 429"),
    Setting(
        "deadline_seconds",
        "BONE_DEADLINE_SECONDS",
        "10",
        decimal(0.01, 3600),
        "longest wait in seconds; beyond it 504",
    ),
    Setting(
        "drain_seconds",
        "BONE_DRAIN_SECONDS",
        "10",
        decimal(0, 3600),
        "how long a stop waits for requests in flight, in seconds",
    ),
    Setting(
        "log_level",
        "BONE_LOG_LEVEL",
        "info",
        one_of("debug", "info", "warning", "error"),
        "least level that is logged: `debug` (probes too), `info` (every other request), `warning` or `error`",
    ),
)


def read_config(environment: Mapping[str, str]) -> Config:
    """Read the settings from environment variables; an empty one counts as not set. Raise ConfigError."""
    return Config(**read_settings(SETTINGS, environment))


def read_settings(settings: Sequence[Setting], environment: Mapping[str, str]) -> dict[str, Any]:
    """Read settings from environment variables, by field. Raise ConfigError."""
    return {setting.field: _read(setting, environment) for setting in settings}


def unknown_variables(environment: Mapping[str, str], settings: Sequence[Setting] = SETTINGS) -> dict[str, str | None]:
    """Return the variables that begin with BONE_ and are not known, each with the setting it resembles, if any."""
    known = [setting.variable for setting in settings]
    unknown = sorted(name for name in environment if name.startswith("BONE_") and name not in known)
    return {name: next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), None) for name in unknown}


def available_cores() -> int:
    """Return how many processors this process may use, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup of version 2, or no limit («max»)
        return cores


def _read(setting: Setting, environment: Mapping[str, str]) -> Any:
    written = environment.get(setting.variable, "").strip() or setting.default
    if written is None:
        return None
    try:
        return setting.parse(written)
    except ValueError as error:
        shown = "set" if setting.is_secret else repr(written)  # never log a key
        raise ConfigError(f"{setting.variable} is {shown}; it must be {error}.") from None
