"""What the network is shown of a decoded film: windows with random grading for training, damage for tests.

A window is cut at the film's own resolution; `preprocessing.prepare` alone brings it to the network's size. All films
are graded over the same wide range of sharpness, contrast, noise and compression, so that these betray no source.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

from training.manifest import Box

View = Callable[[Image.Image], Image.Image]
Floats = NDArray[np.floating]
Point = tuple[float, float]

PLAIN: Final = "plain"
_TURN: Final = 20.0  # degrees, each way
_QUARTER_TURNS: Final = 0.2  # share of windows that are turned by 90, 180 or 270 degrees too


@dataclass(frozen=True)
class Window:
    """A square part of a film: its centre, (x, y), and side in pixels of the film; then turned and maybe mirrored."""

    centre: Point
    side: float
    degrees: float
    is_mirrored: bool

    def to_film(self, points: Floats) -> Floats:
        """Map points, (n, 2), from the window, where each side runs from 0 to 1, to pixels of the film."""
        return (np.asarray(points) - 0.5) @ self._axes().T + self.centre

    def from_film(self, points: Floats) -> Floats:
        """Map points, (n, 2), from pixels of the film to the window, where each side runs from 0 to 1."""
        return (np.asarray(points) - self.centre) @ np.linalg.inv(self._axes()).T + 0.5

    def _axes(self) -> Floats:
        angle = np.deg2rad(self.degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return np.asarray(turn * self.side @ np.diag([-1.0 if self.is_mirrored else 1.0, 1.0]))


def draw_window(centre: Point, side: float, rng: np.random.Generator) -> Window:
    """Draw the turn and the mirroring of a window."""
    degrees = rng.uniform(-_TURN, _TURN)
    if rng.random() < _QUARTER_TURNS:
        degrees += 90 * rng.integers(1, 4)
    return Window(centre, side, degrees, bool(rng.random() < 0.5))


def cut(film: Image.Image, window: Window) -> Image.Image:
    """Cut a window out of a film, a pixel for a pixel; what lies outside the film is black."""
    side = max(32, round(window.side))
    origin, right, down = window.to_film(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    a, d = (right - origin) / side
    b, e = (down - origin) / side
    matrix = (a, b, origin[0], d, e, origin[1])
    return film.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def share_in_boxes(boxes: Sequence[Box], film: tuple[int, int], window: Window, cells: int) -> NDArray[np.float32]:
    """Return the share of each of a window's cells that lies in a box: (cells, cells), 0 to 1.

    `film` is (width, height) of the film that the boxes belong to.
    """
    fine = 4 * cells
    mask = Image.new("L", (fine, fine))
    for box in boxes:
        corners = window.from_film(_corners(box) * film) * fine
        ImageDraw.Draw(mask).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    shares = np.asarray(mask, np.float32).reshape(cells, 4, cells, 4).mean(axis=(1, 3)) / 255
    return np.asarray(shares, np.float32)


def regrade(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Draw sharpness, local contrast, range, gamma, contrast, polarity, noise and compression anew; mode L."""
    image = _flatten(_resharpen(image, rng), rng)
    image = image.point(_draw_curve(image.histogram(), rng))
    if rng.random() < 0.4:
        noise = rng.standard_normal((image.height, image.width), np.float32) * rng.uniform(0, 10)
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    return recompress(image, int(rng.integers(30, 95))) if rng.random() < 0.5 else image


def turn(image: Image.Image, degrees: float) -> Image.Image:
    """Turn about the centre; the frame stays, its new corners are black."""
    return image.rotate(degrees, Image.Resampling.BILINEAR)


def recompress(image: Image.Image, quality: int) -> Image.Image:
    """Write and read the image as a JPEG of this quality, 1 to 95."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert(image.mode)


def _resharpen(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lower the resolution, blur or sharpen, each sometimes."""
    if rng.random() < 0.3:
        small = [max(8, round(side * rng.uniform(0.4, 0.9))) for side in image.size]
        shrunk = image.resize((small[0], small[1]), Image.Resampling.BILINEAR)
        image = shrunk.resize(image.size, Image.Resampling.BICUBIC)
    if rng.random() < 0.3:
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3)))
    if rng.random() < 0.3:
        return image.filter(ImageFilter.UnsharpMask(rng.uniform(1, 4), int(rng.uniform(50, 200)), 0))
    return image


def _flatten(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Sometimes take a part of the local mean away, which gives the look of local contrast enhancement."""
    if rng.random() >= 0.3:
        return image
    share = rng.uniform(0.2, 0.8)
    local = image.filter(ImageFilter.GaussianBlur(rng.uniform(10, 30)))
    return ImageChops.subtract(image, local.point([round(share * value) for value in range(256)]))


def _draw_curve(histogram: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Draw a grey value, 0 to 255, for each: range stretched more often than not, gamma, contrast, seldom inverted."""
    values = np.arange(256) / 255
    count = np.cumsum(histogram)
    low, high = np.searchsorted(count, [0.005 * count[-1], 0.995 * count[-1]]) / 255
    if high - low > 0.05 and rng.random() < 0.6:
        values = np.clip((values - low) / (high - low), 0, 1)
    values = values ** np.exp(rng.uniform(-0.7, 0.7))
    middle = rng.uniform(0.2, 0.6)
    values = (values - middle) * np.exp(rng.uniform(-0.5, 0.3)) + middle + rng.uniform(-0.12, 0.12)
    values = 1 - values if rng.random() < 0.1 else values
    return [int(value) for value in np.clip(255 * values, 0, 255).round()]


def _corners(box: Box) -> Floats:
    """Return the corners of a box in order, (4, 2), as shares of width and height."""
    half = np.array([box.width, box.height]) / 2
    return np.array([box.x, box.y]) + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half


DAMAGES: Final[dict[str, View]] = {
    "jpeg_40": lambda image: recompress(image, 40),
    "turned_left": lambda image: turn(image, 15),
    "turned_right": lambda image: turn(image, -15),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.75),
    "more_contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.25),
    "less_contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.75),
    "half_resolution": lambda image: image.reduce(2),
}
VIEWS: Final[dict[str, View]] = {PLAIN: lambda image: image, **DAMAGES}
