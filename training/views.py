"""What is done to a decoded radiograph before `preprocessing.prepare` sees it: variety for training, damage for tests.

Nothing here resizes: a view crops, turns, re-codes or regrades, and `prepare` alone brings it to the network's size.
A view first moves pixels and then changes their values, so that a radiograph's boxes can be moved along with it.
"""

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from training.manifest import Box, Entry

View = Callable[[Image.Image, np.random.Generator], Image.Image]

PLAIN: Final = "plain"
MIRRORED: Final = "mirrored"
RANDOM: Final = "random_{}"

_WIDE: Final = (0.75, 1.0)  # share of each side that a random crop keeps
_NARROW: Final = (0.35, 0.75)
_TURN: Final = 20.0  # degrees, each way


def draw_view(image: Image.Image, entry: Entry, view: str, rng: np.random.Generator) -> Image.Image:
    """Draw the view of this name of one image: `plain`, `mirrored`, `random_N`, or one of DAMAGES."""
    if view in DAMAGES:
        return DAMAGES[view](image, rng)
    moved = _move(image, entry, view, rng)
    return _regrade(moved, rng) if view.startswith("random_") else moved


def draw_boxes(size: tuple[int, int], entry: Entry, view: str, rng: np.random.Generator) -> Image.Image:
    """Draw where the boxes of an image of (width, height) lie in a view, white on black; `rng` as for `draw_view`."""
    mask = Image.new("L", size)
    for box in entry.boxes:
        ImageDraw.Draw(mask).rectangle(_corners(box, size), fill=255)
    return _move(mask, entry, view, rng)


def _move(image: Image.Image, entry: Entry, view: str, rng: np.random.Generator) -> Image.Image:
    """Apply what a view does to places: crop, flips, turn."""
    if view == MIRRORED:
        return ImageOps.mirror(image)
    if not view.startswith("random_"):
        return image
    image = _crop(image, entry, rng)
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    if rng.random() < 0.2:
        image = ImageOps.flip(image)
    return turn(image, rng.uniform(-_TURN, _TURN))


def _regrade(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Apply a gamma of 0.6 to 1.6, contrast and brightness within 25 %, sometimes blur or inversion, and a JPEG."""
    gamma = float(np.exp(rng.uniform(np.log(0.6), np.log(1.6))))
    curve = [round(255 * (value / 255) ** gamma) for value in range(256)]
    image = image.point(curve * len(image.getbands()))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.75, 1.25))
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.75, 1.25))
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    if rng.random() < 0.1:
        image = ImageOps.invert(image)
    return recompress(image, int(rng.integers(30, 96)))


def turn(image: Image.Image, degrees: float) -> Image.Image:
    """Turn about the centre; the frame stays, its new corners are black."""
    return image.rotate(degrees, Image.Resampling.BILINEAR)


def recompress(image: Image.Image, quality: int) -> Image.Image:
    """Write and read the image as a JPEG of this quality, 1 to 95."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert(image.mode)


def _crop(image: Image.Image, entry: Entry, rng: np.random.Generator) -> Image.Image:
    """Cut out a window: half the time a narrow one, but never where it could lose a fracture that has no box.

    Windows of boxed fractures hold the middle of a box; those of other bones lie anywhere and are as wide.
    """
    may_zoom = bool(entry.boxes) or not entry.is_fractured
    kept = _NARROW if rng.random() < 0.5 and may_zoom else _WIDE
    width, height = (max(32, round(side * rng.uniform(*kept))) for side in image.size)
    aim = _aim(entry, rng)
    left = _start(image.width, width, aim[0], rng)
    top = _start(image.height, height, aim[1], rng)
    return image.crop((left, top, left + width, top + height))


def _aim(entry: Entry, rng: np.random.Generator) -> tuple[float, float]:
    """Return a point that a window must hold: a box's middle, or any point. Shares of the image, (x, y)."""
    if not entry.boxes:
        return rng.random(), rng.random()
    box = entry.boxes[rng.integers(len(entry.boxes))]
    return box.x, box.y


def _start(whole: int, kept: int, aim: float, rng: np.random.Generator) -> int:
    """Return where a window of `kept` of `whole` pixels starts so that it holds the aim, off its outer tenths."""
    start = round(aim * whole - kept * rng.uniform(0.1, 0.9))
    return min(max(0, start), max(0, whole - kept))


def _corners(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    half_width, half_height = box.width / 2, box.height / 2
    left, top, right, bottom = box.x - half_width, box.y - half_height, box.x + half_width, box.y + half_height
    return left * width, top * height, right * width, bottom * height


DAMAGES: Final[dict[str, View]] = {
    "jpeg_40": lambda image, _: recompress(image, 40),
    "turned_left": lambda image, _: turn(image, 15),
    "turned_right": lambda image, _: turn(image, -15),
    "brighter": lambda image, _: ImageEnhance.Brightness(image).enhance(1.25),
    "darker": lambda image, _: ImageEnhance.Brightness(image).enhance(0.75),
    "more_contrast": lambda image, _: ImageEnhance.Contrast(image).enhance(1.25),
    "less_contrast": lambda image, _: ImageEnhance.Contrast(image).enhance(0.75),
    "half_resolution": lambda image, _: image.reduce(2),
}
