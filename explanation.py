"""Where the network looked -> a heat map over the radiograph, its peak and a box around each strong spot."""

import base64
import io
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model_loader import Classifier, Images, Outputs
from preprocessing import content_of

Method = Literal["evidence", "occlusion", "none"]
Floats = NDArray[np.float32]
Rectangle = tuple[int, int, int, int]  # top, left, height, width, in pixels

MAX_SIDE_PIXELS: Final = 1024
MAP_SIDE_PIXELS: Final = 512  # in which the map is drawn, before it is enlarged: a cell of evidence is larger still
JPEG_QUALITY: Final = 90
BATCH: Final = 2  # the smaller, the sooner a plain prediction gets the processor
LEVELS: Final = (4, 8)  # cells along the longer side; coarse first: a run cut short has covered every region once
LIMIT_SECONDS: Final = 3.0
BOX_LEVEL: Final = 0.6  # a box surrounds what is connected with a peak and at least this share as strong
BOX_SIDE_CELLS: Final = 96
MAX_BOXES: Final = 5
LEAST_SPOT: Final = 0.5  # of the strongest spot's strength
FLAT: Final = 1e-4  # differences in log-odds up to this mean nothing
FAINT: Final = 0.25 / 1.4  # the strength up to which the map is transparent
MAP_STEPS: Final = 64
MAX_ALPHA: Final = 175
# Dark red to light yellow, readable without telling red from green: lighter is stronger, and bone shows through.
COLOURS: Final = ((140, 16, 60), (208, 44, 48), (245, 108, 36), (255, 176, 64), (255, 232, 140))


Predict = Callable[[Floats], Outputs]


@dataclass(frozen=True)
class Question:
    """The inputs and outputs of one prediction, and the class whose regions are sought.

    `inputs` is (1, height, width, channels); `content` is the part of it that shows the radiograph; `target` is the
    index of the class; `scale` is the evidence of strength 0 and of strength 1, None where the model file states none.
    """

    inputs: Floats
    outputs: Outputs
    content: Rectangle
    target: int
    scale: tuple[float, float] | None = None


@dataclass(frozen=True)
class Relevance:
    """How strongly each region supports a class: (rows, columns) over the whole radiograph.

    Where `is_absolute`, 0 is no evidence and 1 is strong evidence; else the values have no unit.
    """

    grid: Floats
    method: Method
    is_absolute: bool = False


class Box(NamedTuple):
    """The region around one spot, as fractions of the sides, and the strength of its peak, 0 to 1."""

    x: float
    y: float
    width: float
    height: float
    strength: float


@dataclass(frozen=True)
class Explanation:
    """A radiograph, its heat map, where that peaks (x, y, as fractions of the sides), its boxes, strongest first."""

    image: Image.Image
    map: Image.Image
    peak: tuple[float, float] | None
    boxes: tuple[Box, ...]
    method: Method


NOTHING: Final = Relevance(np.zeros((1, 1), np.float32), "none")


def explain(
    classifier: Classifier,
    image: Image.Image,
    inputs: Images | None,
    outputs: Outputs | None,
    target: int,
    give_way: Callable[[], None],
) -> Explanation:
    """Explain the outputs for a decoded image and one class; a blank image (no inputs, no outputs) has no relevance."""
    relevance = NOTHING
    if inputs is not None and outputs is not None:
        content = content_of((image.height, image.width), classifier.input_size, classifier.resize)
        question = Question(inputs, outputs, content, target, classifier.evidence_scale)
        relevance = find_relevance(classifier.predict, question, give_way)
    return draw(relevance, image, classifier.channels)


def find_relevance(predict: Predict, question: Question, give_way: Callable[[], None] = lambda: None) -> Relevance:
    """Return how strongly each region of one image supports a class.

    The network's own evidence is used if it has such an output; else regions are covered, two at a time, for at most
    3 s, and `give_way` is called before each two.
    """
    evidence = question.outputs.evidence
    if evidence is None:
        return Relevance(_occlude(predict, question, give_way), "occlusion")
    cells, size = evidence[0, ..., question.target], question.inputs.shape[1:3]
    if question.scale is None:
        cut = _crop(cells, size, question.content, Image.Resampling.BICUBIC)
        return Relevance(cut - np.median(cut), "evidence")
    low, high = question.scale
    strength = np.clip((cells - low) / (high - low), 0, None)
    cut = _crop(strength, size, question.content, Image.Resampling.BILINEAR)  # which never exceeds the cells
    return Relevance(cut, "evidence", is_absolute=True)


def draw(relevance: Relevance, image: Image.Image, channels: int) -> Explanation:
    """Lay the relevance over a decoded image of mode L or RGB, as a network of 1 or 3 channels sees it."""
    shown = image.convert("L") if channels == 1 else image.copy()
    shown.thumbnail((MAX_SIDE_PIXELS, MAX_SIDE_PIXELS), Image.Resampling.HAMMING)
    scale = min(1.0, MAP_SIDE_PIXELS / max(shown.size))
    strength = _strength(relevance, (max(1, round(scale * shown.width)), max(1, round(scale * shown.height))))
    heat_map = _heat_map(strength).resize(shown.size, Image.Resampling.NEAREST)
    return Explanation(shown, heat_map, _peak(strength), tuple(_boxes(strength)), relevance.method)


def answer(explanation: Explanation, caveat: str) -> dict[str, Any]:
    """Return the explanation as JSON: two pictures of the same size as data URIs, a JPEG and the map over it, a PNG."""
    peak, boxes = explanation.peak, [box._asdict() for box in explanation.boxes]
    sides = ("x", "y", "width", "height")
    return {
        "image": _data_uri(explanation.image, "JPEG", quality=JPEG_QUALITY, subsampling=0),
        "map": _data_uri(explanation.map, "PNG", compress_level=1),
        "peak": peak and dict(zip(("x", "y"), peak, strict=True)),
        "box": {side: boxes[0][side] for side in sides} if boxes else None,
        "boxes": boxes,
        "method": explanation.method,
        "caveat": caveat,
    }


def _crop(evidence: Floats, size: tuple[int, ...], content: Rectangle, filter_: Image.Resampling) -> Floats:
    """Cut evidence (rows, columns) over an input of (height, width) to the part that shows the radiograph.

    The cut may run through cells, so the part is resampled, four times as fine.
    """
    down, across = evidence.shape[0] / size[0], evidence.shape[1] / size[1]
    top, left, height, width = content
    part = (left * across, top * down, (left + width) * across, (top + height) * down)
    fine = (max(1, round(4 * width * across)), max(1, round(4 * height * down)))
    return np.asarray(_floats(evidence).resize(fine, filter_, box=part))


def _occlude(predict: Predict, question: Question, give_way: Callable[[], None]) -> Floats:
    """Return by how much the log-odds of a class fall when a region is covered with the radiograph's mean.

    Two grids, 4 and 8 cells along the longer side, are added up; a patch covers two cells by two, so that patches
    overlap. The method is Zeiler and Fergus's, arXiv:1311.2901.
    """
    deadline = time.monotonic() + LIMIT_SECONDS
    inputs, content, target = question.inputs, question.content, question.target
    before = _log_odds(question.outputs.probabilities[0, target])
    top, left, height, width = content
    mean = inputs[0, top : top + height, left : left + width].mean(axis=(0, 1))
    total = np.zeros(_cells(content, LEVELS[-1]), np.float32)
    for level in LEVELS:
        cells = _cells(content, level)
        drops = np.zeros(cells, np.float32)
        patches = list(_patches(content, cells))
        for start in range(0, len(patches), BATCH):
            if time.monotonic() > deadline:
                return total + _enlarged(drops, total.shape)
            give_way()
            batch = patches[start : start + BATCH]
            after = predict(_covered(inputs, batch, mean)).probabilities[:, target]
            drops.flat[start : start + len(batch)] = before - _log_odds(after)
        total = total + _enlarged(drops, total.shape)
    return total


def _cells(content: Rectangle, level: int) -> tuple[int, int]:
    """Return (rows, columns) of nearly square cells, `level` of them along the longer side."""
    height, width = content[2:]
    return tuple(max(1, round(level * side / max(height, width))) for side in (height, width))  # type: ignore[return-value]


def _patches(content: Rectangle, cells: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Yield, row by row, the part of the input that is covered for a cell."""
    top, left, height, width = content
    for row in range(cells[0]):
        for column in range(cells[1]):
            yield _span(top, height, row, cells[0]), _span(left, width, column, cells[1])


def _span(start: int, length: int, index: int, cells: int) -> slice:
    """Return two cells' length around the middle of a cell, cut at the ends."""
    step = length / cells
    low, high = (index - 0.5) * step, (index + 1.5) * step
    return slice(start + max(0, round(low)), start + min(length, max(round(high), 1)))


def _covered(inputs: Floats, patches: list[tuple[slice, slice]], mean: Floats) -> Floats:
    batch = np.repeat(inputs, len(patches), axis=0)
    for image, (rows, columns) in zip(batch, patches, strict=True):
        image[rows, columns] = mean
    return batch


def _log_odds(probability: Any) -> Any:
    share = np.clip(np.asarray(probability, np.float64), 1e-6, 1 - 1e-6)
    return np.log(share / (1 - share))


def _strength(relevance: Relevance, size: tuple[int, int]) -> Floats:
    """Return strength (height, width) for a size of (width, height); all 0 where nothing is to be drawn.

    Absolute relevance is kept, and may exceed 1; any other is scaled so that the strongest pixel is 1.
    """
    grid = relevance.grid
    nothing = np.zeros((size[1], size[0]), np.float32)
    if not relevance.is_absolute:
        if float(grid.max()) <= FLAT:
            return nothing
        grid = grid / grid.max()
    if not grid.any():
        return nothing
    smooth = np.asarray(_floats(grid).resize(size, Image.Resampling.BICUBIC))
    positive: Floats = np.clip(smooth, 0, None)
    if relevance.is_absolute:
        return positive if float(positive.max()) > FAINT else nothing
    return positive / max(float(positive.max()), FLAT)


def _peak(strength: Floats) -> tuple[float, float] | None:
    """Return the middle of the strongest pixel as (x, y) in fractions of width and height; None where all are 0."""
    if not strength.any():
        return None
    row, column = np.unravel_index(int(np.argmax(strength)), strength.shape)
    return _share(column + 0.5, strength.shape[1]), _share(row + 0.5, strength.shape[0])


def _boxes(strength: Floats) -> Iterator[Box]:
    """Yield a box for each spot, strongest first: at most 5, each at least half as strong as the first."""
    if not strength.any():
        return
    scale = min(1.0, BOX_SIDE_CELLS / max(strength.shape))
    rows, columns = (max(1, math.ceil(side * scale)) for side in strength.shape)
    cells = _enlarged(strength, (rows, columns))
    strongest = float(cells.max())
    least = min(strongest, max(FAINT, LEAST_SPOT * min(strongest, 1.0)))
    lost = float(strength.max()) / strongest  # by averaging pixels into cells
    for spot in itertools.islice(_spots(cells, least), MAX_BOXES):
        yield _box(spot, min(lost * float(cells[spot].max()), 1.0))


def _spots(cells: Floats, least: float) -> Iterator[NDArray[np.bool_]]:
    """Yield the mask of each spot, strongest first: what is connected with a peak at 0.6 of the peak's strength.

    A peak that is connected with a stronger one at that level belongs to the stronger one's spot.
    """
    left = cells.copy()
    while float(left.max()) >= least:
        peak = int(np.argmax(left))
        spot = _connected(cells >= BOX_LEVEL * cells.flat[peak], peak)
        if left[spot].all():
            yield spot
        left[spot] = 0


def _box(spot: NDArray[np.bool_], strength: float) -> Box:
    """Return the box around a mask (rows, columns)."""
    rows, columns = spot.shape
    down, across = np.flatnonzero(spot.any(axis=1)), np.flatnonzero(spot.any(axis=0))
    return Box(
        _share(across[0], columns),
        _share(down[0], rows),
        _share(across[-1] + 1 - across[0], columns),
        _share(down[-1] + 1 - down[0], rows),
        round(strength, 4),
    )


def _connected(mask: NDArray[np.bool_], start: int) -> NDArray[np.bool_]:
    """Return the part of a mask that is connected with the cell of flat index `start`, side by side."""
    found = np.zeros_like(mask)
    found.flat[start] = True
    while True:
        grown = found.copy()
        grown[1:] |= found[:-1]
        grown[:-1] |= found[1:]
        grown[:, 1:] |= found[:, :-1]
        grown[:, :-1] |= found[:, 1:]
        grown &= mask
        if np.array_equal(grown, found):
            return found
        found = grown


def _heat_map(strength: Floats) -> Image.Image:
    """Colour strength, capped at 1: a palette image that grows more opaque as it grows stronger."""
    picture = Image.fromarray(np.rint(np.minimum(strength, 1) * (MAP_STEPS - 1)).astype(np.uint8), "P")
    steps = np.linspace(0, 1, MAP_STEPS)
    stops = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(steps, stops, [colour[channel] for colour in COLOURS]) for channel in range(3)]
    picture.putpalette(np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes())
    picture.info["transparency"] = np.rint(MAX_ALPHA * np.clip(1.4 * (steps - FAINT), 0, 1)).astype(np.uint8).tobytes()
    return picture


def _enlarged(grid: Floats, shape: tuple[int, ...]) -> Floats:
    return np.asarray(_floats(grid).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _floats(grid: Floats) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(grid, np.float32))


def _share(part: Any, whole: int) -> float:
    return round(float(part) / whole, 4)


def _data_uri(image: Image.Image, image_format: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return f"data:image/{image_format.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
