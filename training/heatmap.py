"""Compares where the evidence peaks with where a radiologist drew boxes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.manifest import Box, Entry
from training.metrics import Bools


def peak_hits(entries: Sequence[Entry], evidence: NDArray[np.floating], size: tuple[int, int]) -> Bools:
    """Say where the strongest place of either class lies at a box. `evidence` is (n, rows, columns, 2)."""
    return np.array([_is_hit(entry, peak_of(places), size) for entry, places in zip(entries, evidence, strict=True)])


def centre_hits(entries: Sequence[Entry], size: tuple[int, int]) -> Bools:
    """Say where the image's centre lies at a box: what a map that knows nothing would hit."""
    return np.array([_is_hit(entry, (0.5, 0.5), size) for entry in entries])


def peak_of(places: NDArray[np.floating]) -> tuple[float, float]:
    """Return the centre of the strongest place, (x, y), as shares of the network's input."""
    rows, columns, _ = places.shape
    row, column = divmod(int(places.max(axis=2).argmax()), columns)
    return (column + 0.5) / columns, (row + 0.5) / rows


def letterbox_box(box: Box, image: tuple[int, int], size: tuple[int, int]) -> Box:
    """Say where a box of an image of (height, width) lies in the letterboxed input of (height, width), as shares."""
    scale = min(size[0] / image[0], size[1] / image[1])
    tall, wide = image[0] * scale / size[0], image[1] * scale / size[1]
    return Box((1 - wide) / 2 + box.x * wide, (1 - tall) / 2 + box.y * tall, box.width * wide, box.height * tall)


def is_at(point: tuple[float, float], box: Box, size: tuple[int, int]) -> bool:
    """Say whether a point is in the box, or nearer to it than half its diagonal, in pixels of the input."""
    height, width = size
    beyond_x = max(0.0, abs(point[0] - box.x) - box.width / 2) * width
    beyond_y = max(0.0, abs(point[1] - box.y) - box.height / 2) * height
    return bool(np.hypot(beyond_x, beyond_y) <= np.hypot(box.width * width, box.height * height) / 2)


def _is_hit(entry: Entry, point: tuple[float, float], size: tuple[int, int]) -> bool:
    if not entry.boxes:
        return False
    with Image.open(entry.path) as image:
        shape = (image.height, image.width)
    return any(is_at(point, letterbox_box(box, shape, size), size) for box in entry.boxes)
