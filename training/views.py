"""What is done to a decoded radiograph before `preprocessing.prepare` sees it: variety for training, damage for tests.

Nothing here resizes: a view crops, turns, re-codes or regrades, and `prepare` alone brings it to the network's size.
"""

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

View = Callable[[Image.Image, np.random.Generator], Image.Image]

_KEPT: Final = (0.75, 1.0)  # share of each side that a random crop keeps
_TURN: Final = 20.0  # degrees, each way


def vary(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Draw a strong random view: crop, flips, turn, gamma, contrast, blur, noise, inversion, JPEG."""
    image = _crop(image, rng)
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    if rng.random() < 0.2:
        image = ImageOps.flip(image)
    image = turn(image, rng.uniform(-_TURN, _TURN))
    image = _regrade(image, rng)
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


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = (max(32, round(side * rng.uniform(*_KEPT))) for side in image.size)
    left = int(rng.integers(0, max(0, image.width - width) + 1))
    top = int(rng.integers(0, max(0, image.height - height) + 1))
    return image.crop((left, top, left + width, top + height))


def _regrade(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Apply a gamma of 0.6 to 1.6, then contrast and brightness within 25 %."""
    gamma = float(np.exp(rng.uniform(np.log(0.6), np.log(1.6))))
    curve = [round(255 * (value / 255) ** gamma) for value in range(256)]
    image = image.point(curve * len(image.getbands()))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.75, 1.25))
    return ImageEnhance.Brightness(image).enhance(rng.uniform(0.75, 1.25))


PLAIN: Final = "plain"
MIRRORED: Final = "mirrored"
RANDOM: Final = "random_{}"

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


def find_view(name: str) -> View:
    """Return the view of this name: `plain`, `mirrored`, `random_N`, or one of DAMAGES."""
    if name == PLAIN:
        return lambda image, _: image
    if name == MIRRORED:
        return lambda image, _: ImageOps.mirror(image)
    return vary if name.startswith("random_") else DAMAGES[name]
