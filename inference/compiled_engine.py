"""A network that was compiled once and lies in a cache folder: ready in a blink, run by LiteRT, without TensorFlow.

What is missing, out of date or damaged there is compiled anew from the .h5, by `keras_engine.py` in a child process.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from config import LOGGER
from inference.inspection import ModelError

Images = NDArray[np.float32]
Shape = tuple[int | None, ...]
Call = Callable[[Images], list[NDArray[np.float32]]]

FORMAT: Final = 3  # of an entry in the cache: another number, and all are made anew
TIMEOUT_SECONDS: Final = 300
COMPILER: Final = Path(__file__).with_name("keras_engine.py")
KEPT: Final = 4  # entries in the cache; older ones are removed
_UNFIT: Final = 3  # exit codes of the child
_UNFAITHFUL: Final = 4

logger = logging.getLogger(f"{LOGGER}.engine")


@dataclass(frozen=True)
class ModelSource:
    """The file to compile, and what decides its compiled form beside its bytes.

    `side` is the input's side in pixels where the network leaves it open, 0 where that is not known; `high` the
    largest value of a pixel that it expects, 1 or 255.
    """

    path: Path
    sha256: str
    keras_version: str
    side: int
    high: int

    @property
    def key(self) -> str:
        """The name of the cache's entry."""
        facts = (FORMAT, version("ai-edge-litert"), self.sha256, self.side, self.high)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


class Parts(NamedTuple):
    """What an entry of the cache holds: what is known of the network, and the network as LiteRT reads it."""

    facts: dict[str, Any]
    model: bytes


class CompiledNetwork:
    """A compiled network. Shapes are those of the file, None where any size will do; outputs in the order that counts.

    An image that comes alone is spread over all cores; where several are at work, each has one core.
    """

    name = "litert"

    def __init__(self, parts: Parts, cores: int) -> None:
        self.input_shape: Shape = tuple(parts.facts["input_shape"])
        self.output_shapes: tuple[Shape, ...] = tuple(tuple(shape) for shape in parts.facts["output_shapes"])
        self._lock = threading.Lock()
        self._running = 0
        self._alone, self._together = _Pool(parts, cores), _Pool(parts, 1)
        self._alone.add()  # what cannot be run shows here

    def __call__(self, images: Images) -> list[NDArray[np.float32]]:
        """Run (n, height, width, channels), one by one; return the probabilities and, where there is one, the evidence.

        Processors gain nothing from batches with this engine, and an image's answer cannot depend on its neighbours.
        """
        with self._choose() as pool:
            outputs = [pool.run(image[np.newaxis]) for image in images]
        return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]

    @contextmanager
    def _choose(self) -> Iterator["_Pool"]:
        with self._lock:
            self._running += 1
            alone = self._running == 1
        try:
            yield self._alone if alone else self._together
        finally:
            with self._lock:
                self._running -= 1


class _Pool:
    """Interpreters that are free, each for one caller at a time and with memory of its own; more come when wanted."""

    def __init__(self, parts: Parts, threads: int) -> None:
        self._parts, self.threads = parts, threads
        self._free: list[Call] = []

    def add(self) -> None:
        self._free.append(self._open())

    def run(self, image: Images) -> list[NDArray[np.float32]]:
        try:
            call = self._free.pop()
        except IndexError:
            call = self._open()
        outputs = call(image)
        self._free.append(call)
        return outputs

    def _open(self) -> Call:
        interpreter = import_litert().Interpreter(model_content=self._parts.model, num_threads=self.threads)
        interpreter.allocate_tensors()
        details = interpreter.get_output_details()
        given = interpreter.get_input_details()[0]["index"]
        wanted = [details[place]["index"] for place in self._parts.facts["places"]]

        def call(image: Images) -> list[NDArray[np.float32]]:
            interpreter.set_tensor(given, image)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in wanted]

        return call


def import_litert() -> Any:
    """Import LiteRT's interpreter, a tenth of a second."""
    from ai_edge_litert import interpreter  # noqa: PLC0415 only where a network is loaded

    return interpreter


def load_compiled(source: ModelSource, cache: Path, cores: int) -> CompiledNetwork:
    """Take the compiled network from the cache, else compile it and put it there. Raise ModelError."""
    entry = cache / f"network-{source.key}.zip"
    try:
        return CompiledNetwork(_read(entry), cores)
    except FileNotFoundError:
        logger.info("compiling the network, once")
    except Exception as error:  # noqa: BLE001 damaged in whatever way, it is made anew
        logger.warning("The compiled network in the cache cannot be used (%s); it is compiled anew.", error)
    archive = _compile(source)
    try:
        network = CompiledNetwork(unpack(archive), cores)
    except Exception as error:
        raise ModelError(f"what was compiled cannot be run: {error}.", keras_may_serve=True) from error
    _keep(entry, archive)
    return network


def _read(entry: Path) -> Parts:
    parts = unpack(entry.read_bytes())
    outdated = [name for name, made in parts.facts["made_with"].items() if _installed(name) not in (None, made)]
    if outdated:
        raise ValueError(f"another {outdated[0]} is installed")
    with contextlib.suppress(OSError):  # a cache that cannot be written serves all the same
        os.utime(entry)  # the entries used last are kept
    return parts


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def unpack(archive: bytes) -> Parts:
    """Take an entry of the cache apart; a zip file's checksums tell damage."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return Parts(json.loads(file.read("facts.json")), file.read("network.tflite"))


def _compile(source: ModelSource) -> bytes:
    """Let a child process compile the network, so that TensorFlow's memory and seconds are spent elsewhere."""
    if _installed("tensorflow") is None:
        raise ModelError("it was not compiled for this installation; install TensorFlow, which compiles it.")
    arguments = [str(source.path), source.keras_version, str(source.side), str(source.high)]
    command = [sys.executable, "-I", str(COMPILER), *arguments]
    try:
        child = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)  # noqa: S603 ours
    except subprocess.TimeoutExpired:
        raise ModelError(f"compiling it took over {TIMEOUT_SECONDS} s.", keras_may_serve=True) from None
    if child.returncode == _UNFIT:
        raise ModelError(child.stdout.decode().strip())
    if child.returncode != 0:
        said = child.stdout if child.returncode == _UNFAITHFUL else child.stderr
        lines = said.decode(errors="replace").split("\n")
        reason = next((line[:300] for line in reversed(lines) if line.strip()), "the compiler was killed")
        raise ModelError(f"it cannot be compiled ({reason}).", keras_may_serve=True)
    return child.stdout


def _keep(entry: Path, archive: bytes) -> None:
    """Put an entry into the cache and remove the oldest; where that cannot be, the next start compiles again."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        _write(entry, archive)
        entries = sorted(entry.parent.glob("network-*.zip"), key=lambda path: path.stat().st_mtime)
        for old in entries[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("The compiled network cannot be kept (%s); the next start compiles it again.", error)


def _write(entry: Path, archive: bytes) -> None:
    """Write beside the entry and rename, so that nobody ever reads half of it."""
    descriptor, unfinished = tempfile.mkstemp(dir=entry.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(archive)
        Path(unfinished).chmod(0o644)  # an image is built by one user and run by another
        Path(unfinished).replace(entry)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
