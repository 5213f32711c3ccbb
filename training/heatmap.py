"""Compares where the heat map that users see peaks with where a radiologist drew boxes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explanation import Question, draw, find_relevance
from model_loader import Outputs
from preprocessing import content_of
from training.manifest import Box, Entry
from training.metrics import Bools

Floats = NDArray[np.floating]
Size = tuple[int, int]  # height, width, in pixels


def peak_hits(entries: Sequence[Entry], evidence: Floats, targets: NDArray[np.integer], size: Size) -> Bools:
    """Say where the drawn map of the target class peaks at a box.

    `evidence` is (n, rows, columns, 2), over inputs of that size; `targets`, (n,), are places among its classes.
    """
    return np.array([_is_peak_at_box(*given, size) for given in zip(entries, evidence, targets, strict=True)])


def centre_hits(entries: Sequence[Entry]) -> Bools:
    """Say where the image's centre lies at a box: what a map that knows nothing would hit."""
    return np.array([bool(entry.boxes) and is_at_box((0.5, 0.5), entry.boxes, size_of(entry)) for entry in entries])


def drawn_peak(places: Floats, target: int, image: Size, size: Size) -> tuple[float, float] | None:
    """Return where the service's map of a letterboxed image peaks, (x, y) in shares of its sides; None for no map."""
    outputs = Outputs(np.zeros((1, 3), np.float32), places[np.newaxis].astype(np.float32))
    question = Question(np.zeros((1, *size, 1), np.float32), outputs, content_of(image, size, "letterbox"), target)
    relevance = find_relevance(lambda _: outputs, question)
    return draw(relevance, Image.new("L", (image[1], image[0])), 1).peak


def is_at_box(point: tuple[float, float], boxes: Sequence[Box], image: Size) -> bool:
    """Say whether a point, (x, y) in shares, is in a box, or nearer to it than half its diagonal."""
    return any(_is_at(point, box, image) for box in boxes)


def _is_at(point: tuple[float, float], box: Box, image: Size) -> bool:
    height, width = image
    beyond_x = max(0.0, abs(point[0] - box.x) - box.width / 2) * width
    beyond_y = max(0.0, abs(point[1] - box.y) - box.height / 2) * height
    return bool(np.hypot(beyond_x, beyond_y) <= np.hypot(box.width * width, box.height * height) / 2)


def _is_peak_at_box(entry: Entry, places: Floats, target: int, size: Size) -> bool:
    if not entry.boxes:
        return False
    image = size_of(entry)
    peak = drawn_peak(places, target, image, size)
    return peak is not None and is_at_box(peak, entry.boxes, image)


def size_of(entry: Entry) -> Size:
    """Read the size of the image's file."""
    with Image.open(entry.path) as image:
        return image.height, image.width
