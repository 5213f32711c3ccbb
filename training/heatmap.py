"""Compares what the heat map that users see shows with where a radiologist drew boxes.

Evidence is (n, rows, columns), one map per film, over a square input of `side` pixels that the film was letterboxed to.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explanation import FAINT, Explanation, Question, draw, find_relevance
from model_loader import Outputs
from preprocessing import content_of
from training.manifest import Box, Entry
from training.metrics import Bools, Floats

MAP_SIDE: Final = 256  # pixels: ample for boxes, and quick to draw

Evidence = NDArray[np.floating]
Size = tuple[int, int]  # height, width, in pixels
Point = tuple[float, float]  # x, y, as fractions of the sides


def peak_hits(entries: Sequence[Entry], evidence: Evidence, side: int) -> Bools:
    """Return where the drawn map peaks at a box, however weak the peak is. (n,)."""
    drawn = (explain(film, size, side).peak for film, size in _films(entries, evidence))
    return _are_at_box(entries, drawn)


def centre_hits(entries: Sequence[Entry]) -> Bools:
    """Return where the film's centre lies at a box: what a map that knows nothing would hit. (n,)."""
    return _are_at_box(entries, [(0.5, 0.5)] * len(entries))


def hit_boxes(entries: Sequence[Entry], evidence: Evidence, side: int, scale: tuple[float, float]) -> Floats:
    """Return the share of each film's boxes at which a spot is drawn. (n,).

    `scale` is the evidence that is drawn as strength 0 and as strength 1.
    """
    shares = []
    for entry, (film, size) in zip(entries, _films(entries, evidence), strict=True):
        spots = [(spot.x + spot.width / 2, spot.y + spot.height / 2) for spot in explain(film, size, side, scale).boxes]
        shares.append(np.mean([any(is_at_box(spot, [box], size) for spot in spots) for box in entry.boxes]))
    return np.array(shares, np.float64)


def drawn_share(strongest: Floats, scale: tuple[float, float]) -> Bools:
    """Return on which films anything is drawn, by their strongest evidence. (n,)."""
    low, high = scale
    return np.asarray((strongest - low) / (high - low) > FAINT)


def choose_scale(strongest: Floats, normal: Bools, boxed: Bools) -> tuple[float, float]:
    """Choose the evidence to draw as strength 0 and as strength 1: rounded to tenths.

    From the strongest evidence of films out of fold, (n,): one normal film in ten shows anything, and the middle one of
    the films with boxes that show anything has full strength.
    """
    visible = float(np.quantile(strongest[normal], 0.9))
    clear = strongest[boxed & (strongest > visible)]
    full = max(float(np.median(clear)) if len(clear) else visible, visible + 0.5)
    return round((visible - FAINT * full) / (1 - FAINT), 1), round(full, 1)


def explain(evidence: NDArray[Any], image: Size, side: int, scale: tuple[float, float] | None = None) -> Explanation:
    """Draw one film's evidence, (rows, columns), as the service does, over a black film."""
    places = evidence[np.newaxis, ..., np.newaxis].astype(np.float32)
    outputs = Outputs(np.zeros((1, 3), np.float32), places)
    content = content_of(image, (side, side), "letterbox")
    question = Question(np.zeros((1, side, side, 1), np.float32), outputs, content, 0, scale)
    height, width = (max(1, round(pixels * MAP_SIDE / max(image))) for pixels in image)
    return draw(find_relevance(lambda _: outputs, question), Image.new("L", (width, height)), 1)


def is_at_box(point: Point, boxes: Sequence[Box], image: Size) -> bool:
    """Return whether a point is in a box, or nearer to it than half its diagonal."""
    return any(_is_at(point, box, image) for box in boxes)


def size_of(entry: Entry) -> Size:
    """Read the size of the film's file."""
    with Image.open(entry.path) as image:
        return image.height, image.width


def _is_at(point: Point, box: Box, image: Size) -> bool:
    height, width = image
    beyond_x = max(0.0, abs(point[0] - box.x) - box.width / 2) * width
    beyond_y = max(0.0, abs(point[1] - box.y) - box.height / 2) * height
    return bool(np.hypot(beyond_x, beyond_y) <= np.hypot(box.width * width, box.height * height) / 2)


def _are_at_box(entries: Sequence[Entry], points: Iterable[Point | None]) -> Bools:
    return np.array(
        [
            point is not None and is_at_box(point, entry.boxes, size_of(entry))
            for entry, point in zip(entries, points, strict=True)
        ],
        bool,
    )


def _films(entries: Sequence[Entry], evidence: Evidence) -> Iterator[tuple[Evidence, Size]]:
    for entry, one in zip(entries, evidence, strict=True):
        yield one, size_of(entry)
