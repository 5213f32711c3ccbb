"""Reads the tensors of a legacy (pre-zip) PyTorch checkpoint without PyTorch, and runs no code of the file.

The layout is that of `torch.save(..., _use_new_zipfile_serialization=False)`: five pickles (a magic number, the
protocol, facts about the machine, the object, the order of the storages), then each storage as a little-endian
count of 8 bytes and its raw values.
"""

import collections
import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from training.errors import TrainingError

Array = NDArray[Any]

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_STORAGES: Final = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_checkpoint(path: Path) -> dict[str, Array]:
    """Return the tensors of a state dictionary by name, as float32 or int64 arrays in PyTorch's axis order.

    Raises TrainingError where the file's name does not end in the first digits of its SHA-256 (torch's own custom),
    or where its pickles ask for anything but tensors.
    """
    _check_digest(path)
    with path.open("rb") as file:
        if _Unpickler(file).load() != _MAGIC:
            raise TrainingError(f"{path.name} is not a legacy PyTorch checkpoint")
        for _ in ("protocol", "machine"):
            _Unpickler(file).load()
        tensors: Mapping[str, _Tensor] = _Unpickler(file).load()
        keys: Sequence[str] = _Unpickler(file).load()
        dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
        values = {key: _read_storage(file, dtypes[key]) for key in keys}
    return {name: tensor.to_array(values[tensor.storage.key]) for name, tensor in tensors.items()}


class _Storage:
    def __init__(self, key: str, dtype: np.dtype[Any]) -> None:
        self.key = key
        self.dtype = dtype


class _Tensor:
    """Where a tensor lies in its storage: offset, shape and strides, all counted in values."""

    def __init__(
        self, storage: _Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_: object
    ) -> None:
        self.storage = storage
        self.offset = offset
        self.shape = tuple(shape)
        self.strides = tuple(strides)

    def to_array(self, values: Array) -> Array:
        reach = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if min((self.offset, *self.strides), default=0) < 0 or reach >= len(values):
            raise TrainingError("a tensor reaches beyond its storage")
        steps = tuple(step * values.itemsize for step in self.strides)
        return np.array(as_strided(values[self.offset :], self.shape, steps))


class _Unpickler(pickle.Unpickler):
    """Knows four names; a file that asks for a fifth is refused before anything of it runs."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise TrainingError(f"the checkpoint asks for {module}.{name}")

    def persistent_load(self, pid: tuple[str, np.dtype[Any], str, *tuple[object, ...]]) -> _Storage:
        kind, dtype, key, *_ = pid
        if kind != "storage":
            raise TrainingError(f"the checkpoint holds a {kind}")
        return _Storage(key, dtype)


def _check_digest(path: Path) -> None:
    stated = path.stem.rpartition("-")[2]
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if not actual.startswith(stated):
        raise TrainingError(f"{path.name} is damaged: its SHA-256 begins with {actual[:8]}")


def _read_storage(file: BinaryIO, dtype: np.dtype[Any]) -> Array:
    count = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(count * dtype.itemsize), dtype)
