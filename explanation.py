"""Where the network looked -> a heat map over the radiograph, its peak and the box around it."""

import base64
import io
import math
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Method = Literal["evidence", "occlusion", "none"]
Floats = NDArray[np.float32]
Rectangle = tuple[int, int, int, int]  # top, left, height, width, in pixels

MAX_SIDE_PIXELS: Final = 1024
BATCH: Final = 2  # of at most 8: the smaller, the sooner a plain prediction has the processor
LEVELS: Final = (4, 8)  # cells along the longer side; coarse first, so that a stop in time has seen everything once
LIMIT_SECONDS: Final = 3.0
BOX_LEVEL: Final = 0.5  # the box holds what is connected with the peak and at least half as strong
BOX_SIDE_CELLS: Final = 96
FLAT: Final = 1e-4  # a difference in log-odds that says nothing
MAP_STEPS: Final = 64
MAX_ALPHA: Final = 230
# Yellow to red to dark violet: told apart by lightness too, and by readers who do not see red or green.
COLOURS: Final = ((255, 236, 138), (255, 176, 60), (240, 96, 44), (196, 32, 62), (120, 12, 88))


class Outputs(Protocol):
    """What a network says of n images: probabilities (n, outputs), evidence (n, rows, columns, classes) or None."""

    @property
    def probabilities(self) -> Floats: ...  # noqa: D102
    @property
    def evidence(self) -> Floats | None: ...  # noqa: D102


Predict = Callable[[Floats], Outputs]


@dataclass(frozen=True)
class Question:
    """What the network was shown and said, and the class whose places are sought.

    `inputs` is (1, height, width, channels); `content` is the part of it that shows the radiograph; `target` is the
    number of the class.
    """

    inputs: Floats
    outputs: Outputs
    content: Rectangle
    target: int


@dataclass(frozen=True)
class Relevance:
    """How much places speak for a class: values of any scale, rows by columns, over the whole radiograph."""

    grid: Floats
    method: Method


@dataclass(frozen=True)
class Explanation:
    """A radiograph, its heat map, and where that peaks: (x, y) and (x, y, width, height), as shares of the sides."""

    image: Image.Image
    map: Image.Image
    peak: tuple[float, float] | None
    box: tuple[float, float, float, float] | None
    method: Method


NOTHING: Final = Relevance(np.zeros((1, 1), np.float32), "none")


def find_relevance(predict: Predict, question: Question, give_way: Callable[[], None] = lambda: None) -> Relevance:
    """Say which places of one image speak for a class.

    The network's own evidence counts where it gives any; else places are covered up, two at a time, for at most 3 s,
    and `give_way` is called before each two.
    """
    evidence = question.outputs.evidence
    if evidence is None:
        return Relevance(_occlude(predict, question, give_way), "occlusion")
    size = question.inputs.shape[1:3]
    return Relevance(_crop(evidence[0, ..., question.target], size, question.content), "evidence")


def draw(relevance: Relevance, image: Image.Image, channels: int) -> Explanation:
    """Lay the relevance over a decoded image of mode L or RGB, as a network of 1 or 3 channels sees it."""
    shown = image.convert("L") if channels == 1 else image.copy()
    shown.thumbnail((MAX_SIDE_PIXELS, MAX_SIDE_PIXELS), Image.Resampling.LANCZOS)
    strength = _strength(relevance.grid, shown.size)
    return Explanation(shown, _heat_map(strength), _peak(strength), _box(strength), relevance.method)


def answer(explanation: Explanation, caveat: str) -> dict[str, Any]:
    """Return the explanation as JSON: both pictures as data URIs of PNG files of the same size."""
    peak, box = explanation.peak, explanation.box
    return {
        "image": _data_uri(explanation.image),
        "map": _data_uri(explanation.map),
        "peak": peak and dict(zip(("x", "y"), peak, strict=True)),
        "box": box and dict(zip(("x", "y", "width", "height"), box, strict=True)),
        "method": explanation.method,
        "caveat": caveat,
    }


def _crop(evidence: Floats, size: tuple[int, ...], content: Rectangle) -> Floats:
    """Cut evidence (rows, columns) over an input of (height, width) to the part that shows the radiograph.

    The cut may run through cells, so the part is sampled anew, four times as fine; what counts is how far a place
    stands out from the middle one.
    """
    down, across = evidence.shape[0] / size[0], evidence.shape[1] / size[1]
    top, left, height, width = content
    part = (left * across, top * down, (left + width) * across, (top + height) * down)
    fine = (max(1, round(4 * width * across)), max(1, round(4 * height * down)))
    cut = np.asarray(_floats(evidence).resize(fine, Image.Resampling.BICUBIC, box=part))
    above: Floats = cut - np.median(cut)
    return above


def _occlude(predict: Predict, question: Question, give_way: Callable[[], None]) -> Floats:
    """Return by how much the log-odds of a class fall when a place is covered with the radiograph's mean.

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
    """Yield, row by row, the part of the input that is covered to ask about a cell."""
    top, left, height, width = content
    for row in range(cells[0]):
        for column in range(cells[1]):
            yield _span(top, height, row, cells[0]), _span(left, width, column, cells[1])


def _span(start: int, length: int, place: int, places: int) -> slice:
    """Return two cells' length around the middle of a cell, cut at the ends."""
    step = length / places
    low, high = (place - 0.5) * step, (place + 1.5) * step
    return slice(start + max(0, round(low)), start + min(length, max(round(high), 1)))


def _covered(inputs: Floats, patches: list[tuple[slice, slice]], mean: Floats) -> Floats:
    batch = np.repeat(inputs, len(patches), axis=0)
    for image, (rows, columns) in zip(batch, patches, strict=True):
        image[rows, columns] = mean
    return batch


def _log_odds(probability: Any) -> Any:
    share = np.clip(np.asarray(probability, np.float64), 1e-6, 1 - 1e-6)
    return np.log(share / (1 - share))


def _strength(grid: Floats, size: tuple[int, int]) -> Floats:
    """Scale relevance to 0 to 1 and to (width, height) in pixels; all 0 where nothing speaks for the class."""
    if float(grid.max()) <= FLAT:
        return np.zeros((size[1], size[0]), np.float32)
    smooth = np.asarray(_floats(grid / grid.max()).resize(size, Image.Resampling.BICUBIC))
    positive = np.clip(smooth, 0, None)
    scaled: Floats = positive / max(float(positive.max()), FLAT)
    return scaled


def _peak(strength: Floats) -> tuple[float, float] | None:
    """Return the middle of the strongest pixel as (x, y) in shares of width and height; None where all are 0."""
    if not strength.any():
        return None
    row, column = np.unravel_index(int(np.argmax(strength)), strength.shape)
    return _share(column + 0.5, strength.shape[1]), _share(row + 0.5, strength.shape[0])


def _box(strength: Floats) -> tuple[float, float, float, float] | None:
    """Return (x, y, width, height) of what hangs together with the peak at half its strength, in shares."""
    if not strength.any():
        return None
    scale = min(1.0, BOX_SIDE_CELLS / max(strength.shape))
    rows, columns = (max(1, math.ceil(side * scale)) for side in strength.shape)
    small = _enlarged(strength, (rows, columns))
    inside = _connected(small >= BOX_LEVEL * small.max(), int(np.argmax(small)))
    down, across = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return (
        _share(across[0], columns),
        _share(down[0], rows),
        _share(across[-1] + 1 - across[0], columns),
        _share(down[-1] + 1 - down[0], rows),
    )


def _connected(mask: NDArray[np.bool_], start: int) -> NDArray[np.bool_]:
    """Return the part of a mask that can be reached from a place, side by side."""
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
    """Colour strength of 0 to 1: a palette image that grows more opaque as it grows stronger."""
    picture = Image.fromarray(np.rint(strength * (MAP_STEPS - 1)).astype(np.uint8), "P")
    steps = np.linspace(0, 1, MAP_STEPS)
    stops = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(steps, stops, [colour[channel] for colour in COLOURS]) for channel in range(3)]
    picture.putpalette(np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes())
    picture.info["transparency"] = np.rint(MAX_ALPHA * np.clip(steps * 1.4 - 0.15, 0, 1)).astype(np.uint8).tobytes()
    return picture


def _enlarged(grid: Floats, shape: tuple[int, ...]) -> Floats:
    return np.asarray(_floats(grid).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _floats(grid: Floats) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(grid, np.float32))


def _share(part: Any, whole: int) -> float:
    return round(float(part) / whole, 4)


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    strategy = zlib.Z_DEFAULT_STRATEGY if image.mode == "P" else zlib.Z_RLE  # half the time for a radiograph's noise
    image.save(buffer, "PNG", compress_level=3, compress_type=strategy)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
