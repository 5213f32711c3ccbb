"""A network that was compiled once and lies in a cache folder: ready in a blink, run by OpenVINO, without TensorFlow.

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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Shape = tuple[int | None, ...]

FORMAT: Final = 2  # of an entry in the cache: another number, and all are made anew
TIMEOUT_SECONDS: Final = 300
COMPILER: Final = Path(__file__).with_name("keras_engine.py")
KEPT: Final = 4  # entries in the cache; older ones are removed
_UNFIT: Final = 3  # exit codes of the child
_UNFAITHFUL: Final = 4

logger = logging.getLogger("bone.engine")


class CompileError(Exception):
    """A network that cannot be had in compiled form; the message is a sentence that says why."""


class UnfitError(Exception):
    """A model that cannot be served here in any form; the message is one sentence."""


@dataclass(frozen=True)
class ModelSource:
    """The file to compile, and what decides its compiled form beside its bytes.

    `side` is the input's side in pixels where the network leaves it open, 0 where that is not known; `high` the
    largest value of a pixel that it expects, 1 or 255; `bfloat16_after` the layer behind which bfloat16 does, empty
    where float32 is wanted throughout.
    """

    path: Path
    sha256: str
    keras_version: str
    side: int
    high: int
    bfloat16_after: str = ""

    @property
    def key(self) -> str:
        """The name of the cache's entry."""
        facts = (FORMAT, version("openvino"), self.sha256, self.side, self.high, self.bfloat16_after)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


class Stage(NamedTuple):
    """A part of the network as OpenVINO describes it, and its weights."""

    xml: bytes
    weights: bytes


class Parts(NamedTuple):
    """What an entry of the cache holds: what is known of the network, and its stages, run one after another."""

    facts: dict[str, Any]
    stages: list[Stage]


class CompiledNetwork:
    """A compiled network. Shapes are those of the file, None where any size will do; outputs in the order that counts.

    An image that comes alone is spread over all cores; where several are at work, each has one core. A second stage
    runs in bfloat16 where the processor has it.
    """

    def __init__(self, parts: Parts, cores: int) -> None:
        self.input_shape: Shape = tuple(parts.facts["input_shape"])
        self.output_shapes: tuple[Shape, ...] = tuple(tuple(shape) for shape in parts.facts["output_shapes"])
        core = import_openvino().Core()
        later = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        precisions = ["f32", *(later for _ in parts.stages[1:])]
        self.is_exact = "bf16" not in precisions
        self.name = "openvino" if self.is_exact else "openvino, bfloat16"
        self._core, self._cores = core, cores
        self._models = [core.read_model(stage.xml, stage.weights) for stage in parts.stages]
        streams = (1, cores) if cores > 1 else (1,)
        with ThreadPoolExecutor(len(streams)) as pool:  # side by side they take two thirds of the time
            compiled = list(pool.map(lambda count: self._compile(precisions, streams=count), streams))
        self._alone, self._together = compiled[0], compiled[-1]
        self._lock = threading.Lock()
        self._running = 0

    def __call__(self, images: Images) -> list[NDArray[np.float32]]:
        """Run (n, height, width, channels), one by one; return the probabilities and, where there is one, the evidence.

        Processors gain nothing from batches with this engine, and an image's answer cannot depend on its neighbours.
        """
        with self._choose() as requests:
            return _run_each(requests, images)

    def exactly(self, images: Images) -> list[NDArray[np.float32]]:
        """Run all stages in float32."""
        return (
            self(images)
            if self.is_exact
            else _run_each(self._compile(["f32" for _ in self._models], streams=1), images)
        )

    def _compile(self, precisions: Sequence[str], *, streams: int) -> "_Requests":
        settings = {
            "INFERENCE_NUM_THREADS": self._cores,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # pinned, the streams of two compiled models share cores
            "SNIPPETS_MODE": "DISABLE",  # 2026.4 fails on a sum of a few log-odds with it, and gains nothing by it
        }
        pairs = zip(self._models, precisions, strict=True)
        return _Requests(
            [
                self._core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision, **settings})
                for model, precision in pairs
            ]
        )

    @contextmanager
    def _choose(self) -> Iterator["_Requests"]:
        with self._lock:
            self._running += 1
            alone = self._running == 1
        try:
            yield self._alone if alone else self._together
        finally:
            with self._lock:
                self._running -= 1


class _Requests:
    """Stages compiled for this processor, and the inference requests that are free; each holds memory of its own."""

    def __init__(self, stages: Sequence[Any]) -> None:
        self._stages = stages
        self._free: list[list[Any]] = []

    def run(self, image: Images) -> list[NDArray[np.float32]]:
        try:
            requests = self._free.pop()
        except IndexError:
            requests = [stage.create_infer_request() for stage in self._stages]
        values = image
        for request in requests:
            request.infer({0: values}, share_inputs=True)
            values = request.get_output_tensor(0).data
        last = requests[-1]
        outputs = [last.get_output_tensor(place).data.copy() for place in range(len(self._stages[-1].outputs))]
        self._free.append(requests)
        return outputs


def _run_each(requests: _Requests, images: Images) -> list[NDArray[np.float32]]:
    outputs = [requests.run(image[np.newaxis]) for image in images]
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def import_openvino() -> Any:
    """Import OpenVINO, a quarter of a second, without its converter and what that would report to its makers."""
    sys.modules.setdefault("openvino.tools.ovc", cast("Any", None))
    import openvino  # noqa: PLC0415 only where a network is loaded

    return openvino


def load_compiled(source: ModelSource, cache: Path, cores: int) -> CompiledNetwork:
    """Take the compiled network from the cache, else compile it and put it there. Raise CompileError or UnfitError."""
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
        raise CompileError(f"what was compiled cannot be run: {error}") from error
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
        facts = json.loads(file.read("facts.json"))
        names = [f"stage-{number}" for number in range(facts["stages"])]
        return Parts(facts, [Stage(file.read(f"{name}.xml"), file.read(f"{name}.bin")) for name in names])


def _compile(source: ModelSource) -> bytes:
    """Let a child process compile the network, so that TensorFlow's memory and seconds are spent elsewhere."""
    if _installed("tensorflow") is None:
        raise UnfitError("it was not compiled for this installation, and TensorFlow, which could, is not installed")
    arguments = [str(source.path), source.keras_version, str(source.side), str(source.high), source.bfloat16_after]
    command = [sys.executable, "-I", str(COMPILER), *arguments]
    try:
        child = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)  # noqa: S603 ours
    except subprocess.TimeoutExpired:
        raise CompileError(f"compiling it took over {TIMEOUT_SECONDS} s") from None
    if child.returncode == _UNFIT:
        raise UnfitError(child.stdout.decode().strip())
    if child.returncode != 0:
        said = child.stdout if child.returncode == _UNFAITHFUL else child.stderr
        lines = said.decode(errors="replace").split("\n")
        raise CompileError(next((line[:300] for line in reversed(lines) if line.strip()), "the compiler was killed"))
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
