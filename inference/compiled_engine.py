"""A network that was compiled once and is cached: quick to load, run by LiteRT, without TensorFlow.

Where the entry is missing, outdated or damaged, `keras_engine.py` compiles the .h5 again, in a child process.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import subprocess
import sys
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
from inference import cache, keras_engine
from inference.inspection import ModelError
from inference.keras_engine import Images, Shape

Call = Callable[[Images], list[NDArray[np.float32]]]

FORMAT: Final = 4  # of an entry in the cache; a change compiles every network again
TIMEOUT_SECONDS: Final = 300
COMPILER: Final = Path(keras_engine.__file__)

logger = logging.getLogger(f"{LOGGER}.engine")


@dataclass(frozen=True)
class ModelSource:
    """The file to compile, and what its compiled form depends on besides its bytes.

    `side` is the input's side in pixels where the network leaves it open, 0 where it is not known; the network expects
    pixel values from `low` to `high`.
    """

    path: Path
    sha256: str
    keras_version: str
    side: int
    low: float
    high: float

    @property
    def key(self) -> str:
        """The name of the cache's entry."""
        facts = (FORMAT, version("ai-edge-litert"), self.sha256, self.side, self.low, self.high)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


class Parts(NamedTuple):
    """A cache entry: facts about the network, and the network as LiteRT reads it."""

    facts: dict[str, Any]
    model: bytes


class CompiledNetwork:
    """A compiled network. Shapes are those of the file; None stands for any size.

    A single image uses all cores; of several at the same time each uses one.
    """

    name = "litert"

    def __init__(self, parts: Parts, cores: int) -> None:
        self.input_shape: Shape = tuple(parts.facts["input_shape"])
        self.output_shapes: dict[str, Shape] = {
            name: tuple(output["shape"]) for name, output in parts.facts["outputs"].items()
        }
        self._lock = threading.Lock()
        self._running = 0
        self._alone, self._together = _Pool(parts, cores), _Pool(parts, 1)
        self._alone.add()  # fails here where the network cannot be run

    def __call__(self, images: Images) -> dict[str, NDArray[np.float32]]:
        """Run (n, height, width, channels), one by one; return the outputs by name.

        Batches gain nothing on a CPU with this engine, and one by one no answer can depend on another image.
        """
        with self._choose() as pool:
            outputs = [pool.run(image[np.newaxis]) for image in images]
        return dict(zip(self.output_shapes, map(np.concatenate, zip(*outputs, strict=True)), strict=True))

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
    """Interpreters, each for one caller at a time and with memory of its own; it grows when none is idle."""

    def __init__(self, parts: Parts, threads: int) -> None:
        self._parts, self.threads = parts, threads
        self._idle: list[Call] = []

    def add(self) -> None:
        self._idle.append(self._open())

    def run(self, image: Images) -> list[NDArray[np.float32]]:
        try:
            call = self._idle.pop()
        except IndexError:
            call = self._open()
        outputs = call(image)
        self._idle.append(call)
        return outputs

    def _open(self) -> Call:
        interpreter = import_litert().Interpreter(model_content=self._parts.model, num_threads=self.threads)
        interpreter.allocate_tensors()
        details = interpreter.get_output_details()
        input_index = interpreter.get_input_details()[0]["index"]
        output_indexes = [details[output["index"]]["index"] for output in self._parts.facts["outputs"].values()]

        def call(image: Images) -> list[NDArray[np.float32]]:
            interpreter.set_tensor(input_index, image)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in output_indexes]

        return call


def import_litert() -> Any:
    """Import LiteRT's interpreter, which takes a tenth of a second."""
    from ai_edge_litert import interpreter  # noqa: PLC0415 only where a network is loaded

    return interpreter


def load_compiled(source: ModelSource, cache_path: Path, cores: int) -> CompiledNetwork:
    """Read the compiled network from the cache, or compile it and write it there. Raise ModelError."""
    entry = cache_path / f"network-{source.key}.zip"
    try:
        return CompiledNetwork(_read(entry), cores)
    except FileNotFoundError:
        logger.info("compiling the network, once")
    except Exception as error:  # noqa: BLE001 whatever the damage, it is compiled again
        logger.warning("The compiled network in the cache cannot be used (%s); it is compiled again.", error)
    archive = _compile(source)
    try:
        network = CompiledNetwork(unpack(archive), cores)
    except Exception as error:
        raise ModelError(f"the compiled network cannot be run ({error}).", keras_may_serve=True) from error
    _remember(entry, archive)
    return network


def _read(entry: Path) -> Parts:
    parts = unpack(entry.read_bytes())
    outdated = [name for name, made in parts.facts["made_with"].items() if _installed(name) not in (None, made)]
    if outdated:
        raise ValueError(f"another {outdated[0]} is installed")
    with contextlib.suppress(OSError):  # a read-only cache works as well
        os.utime(entry)  # the entries used last stay in the cache
    return parts


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def unpack(archive: bytes) -> Parts:
    """Unpack a cache entry; the checksums of a zip file reveal damage."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return Parts(json.loads(file.read("facts.json")), file.read("network.tflite"))


def _compile(source: ModelSource) -> bytes:
    """Compile the network in a child process, since TensorFlow takes seconds and 500 MB. Raise ModelError."""
    if _installed("tensorflow") is None:
        raise ModelError("it was not compiled for this installation; install TensorFlow, which compiles it.")
    arguments = [str(source.path), source.keras_version, str(source.side), str(source.low), str(source.high)]
    command = [sys.executable, "-I", str(COMPILER), *arguments]
    try:
        child = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)  # noqa: S603 a module of this room
    except subprocess.TimeoutExpired:
        raise ModelError(f"compiling it took over {TIMEOUT_SECONDS} s.", keras_may_serve=True) from None
    if child.returncode == keras_engine.UNFIT:
        raise ModelError(child.stdout.decode().strip())
    if child.returncode != 0:
        raise ModelError(f"it cannot be compiled ({_last_line(child)}).", keras_may_serve=True)
    return child.stdout


def _last_line(child: subprocess.CompletedProcess[bytes]) -> str:
    """Return why the compiler failed: its own sentence, or the last line of a traceback."""
    output = child.stdout if child.returncode == keras_engine.UNFAITHFUL else child.stderr
    lines = output.decode(errors="replace").split("\n")
    return next((line[:300] for line in reversed(lines) if line.strip()), "the compiler was killed")


def _remember(entry: Path, archive: bytes) -> None:
    try:
        cache.write(entry, archive)
    except OSError as error:
        logger.warning("The compiled network cannot be cached (%s); the next start compiles it again.", error)
