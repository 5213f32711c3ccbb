"""The films of a manifest, decoded once by the service's own code, and where in them there is something to look at."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from preprocessing import decode, prepare
from training.manifest import Entry
from training.recipe import CELL_PIXELS

MAX_PIXELS = 50_000_000
MAX_DEVIATION = 25  # of 255: what varies more, such as a marker or the edge of a plate, is not more interesting


def read_film(entry: Entry) -> Image.Image:
    """Decode a film as the service does, to mode L. Raise OSError or ImageError."""
    image, _ = decode(entry.path.read_bytes(), MAX_PIXELS)
    return image.convert("L")


def read_films(entries: Sequence[Entry]) -> list[Image.Image]:
    """Decode all films, some 200 kB of memory each."""
    return [read_film(entry) for entry in tqdm(entries, "decode", unit="film")]


def to_pixels(film: Image.Image, side: int) -> Image.Image:
    """Bring a square part of a film to the network's size, values 0 to 255, mode L."""
    return Image.fromarray(prepare(film, (side, side), 1, "none", "letterbox")[0, ..., 0].astype(np.uint8))


def find_interest(film: Image.Image) -> NDArray[np.float64]:
    """Return how likely a window should lie at each 16 x 16 cell of a film: (rows, columns), sums to 1."""
    values = np.asarray(film, np.float32)
    rows, columns = (max(1, side // CELL_PIXELS) for side in values.shape)
    cells = values[: rows * CELL_PIXELS, : columns * CELL_PIXELS]
    if not cells.size or cells.size != rows * columns * CELL_PIXELS**2:
        return np.ones((1, 1))
    cells = cells.reshape(rows, CELL_PIXELS, columns, CELL_PIXELS)
    interest = np.clip(cells.std(axis=(1, 3)), 0, MAX_DEVIATION).astype(np.float64) + 1e-3
    return np.asarray(interest / interest.sum())
