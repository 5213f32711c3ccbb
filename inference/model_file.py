"""The inspection of a model file, run in a child process, so that a file made to break HDF5 breaks that alone."""

import contextlib
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, cast

import h5py

from inference import cache, inspection
from inference.inspection import ModelError, ModelFile, check_name_and_size, sha256_of

TIMEOUT_SECONDS: Final = 60
INSPECTION: Final = Path(inspection.__file__)


def inspect_model(path: Path, cache_path: Path) -> ModelFile:
    """Return what the file is and states. Raise ModelError where it is refused.

    A file that passed under the same rules before is not read again if the cache remembers it, which saves a third of
    a second at each start.
    """
    entry = _entry(path, cache_path)
    if entry is None:
        return _to_model_file(_inspect_in_child(path))
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # absent or damaged: inspect again
        return _to_model_file(json.loads(entry.read_bytes()))
    found = _inspect_in_child(path)
    with contextlib.suppress(OSError):  # if it cannot be written, the next start inspects again
        cache.write(entry, json.dumps(found).encode())
    return _to_model_file(found)


def _entry(path: Path, cache_path: Path) -> Path | None:
    """Return the cache's entry for these bytes and these rules; None for a file that will be refused."""
    try:
        check_name_and_size(path)
        facts = (sha256_of(path), INSPECTION.read_bytes(), h5py.__version__)
    except (ModelError, OSError):
        return None
    return cache_path / f"inspected-{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}.json"


def _inspect_in_child(path: Path) -> dict[str, Any]:
    command = [sys.executable, "-I", str(INSPECTION), str(path)]
    try:
        child = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)  # noqa: S603 a module of this room
    except subprocess.TimeoutExpired:
        raise ModelError(f"inspecting it took over {TIMEOUT_SECONDS} s.") from None
    if child.returncode == inspection.REFUSED:
        raise ModelError(child.stdout.decode())
    if child.returncode != 0:
        raise ModelError("it is not an HDF5 file that can be read; save the model as .h5 again.")
    return cast("dict[str, Any]", json.loads(child.stdout))


def _to_model_file(found: dict[str, Any]) -> ModelFile:
    return ModelFile(found["sha256"], found["keras_version"], tuple(found["layers"]), dict(found["attributes"]))
