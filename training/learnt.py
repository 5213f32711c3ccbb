"""Which films a network learnt from: the beginnings of their SHA-256, in the model file."""

import hashlib
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Final

import h5py
import numpy as np
from numpy.typing import NDArray

DATASET: Final = "bone_trained_on_images"
HASH_BYTES: Final = 8  # of 32: two of a million different films are alike with a chance of 3 in 100 million


def hash_film(data: bytes) -> bytes:
    """Return the first eight bytes of a file's SHA-256."""
    return hashlib.sha256(data).digest()[:HASH_BYTES]


def hash_films(films: Sequence[Path], learnt: Set[bytes] = frozenset()) -> NDArray[np.uint8]:
    """Return the beginnings of the files' SHA-256 and those already `learnt`, sorted, each once: uint8, (n, 8)."""
    prefixes = sorted({*learnt, *(hash_film(film.read_bytes()) for film in films)})
    return np.frombuffer(b"".join(prefixes), np.uint8).reshape(-1, HASH_BYTES)


def read_learnt_films(model: Path) -> frozenset[bytes]:
    """Return the hashes that a model file holds; none where it does not say what it learnt from."""
    with h5py.File(model) as file:
        hashes = np.asarray(file[DATASET], np.uint8) if DATASET in file else np.empty((0, HASH_BYTES), np.uint8)
    return frozenset(row.tobytes() for row in hashes)
