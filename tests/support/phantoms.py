"""Radiograph-like phantoms, drawn by code. They show no patient and prove nothing about accuracy.

`python -m tests.support.phantoms FILE [none|fisura|fractura]` writes one, to try the API with.
"""

import sys
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Crack = Literal["none", "fisura", "fractura"]


def phantom(crack: Crack = "none", size: tuple[int, int] = (480, 360), seed: int = 0) -> Image.Image:
    """Draw a long bone in soft tissue: 8-bit grey (mode L), `size` is (height, width) in pixels.

    fisura adds a dark oblique line through the cortex; fractura also shifts the bone below it to the side.
    """
    height, width = size
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    down = rows / height
    axis = width * (0.5 + 0.06 * (down - 0.5) * random.uniform(-1, 1))
    slope = random.uniform(0.25, 0.5)
    line = height * 0.5 + slope * (columns - axis)
    bone_axis = axis + np.where((crack == "fractura") & (rows > line), 0.1 * width, 0.0)
    bone = _bone(columns, bone_axis, down, width)
    if crack != "none":
        thickness = 0.005 * height if crack == "fisura" else 0.02 * height
        bone = np.where(np.abs(rows - line) < thickness, 0.35 * bone, bone)
    picture = _tissue(columns, axis, width) + bone
    sharp = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    blurred = np.asarray(sharp.filter(ImageFilter.GaussianBlur(width / 400)), dtype=np.float64)
    return Image.fromarray(np.clip(blurred + random.normal(0, 3, size), 0, 255).astype(np.uint8))


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    """Return the bytes of an image file."""
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _tissue(columns: NDArray[np.float64], axis: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Draw soft tissue: brightness grows with the thickness of a round limb along each ray."""
    return 95 * np.sqrt(np.clip(1 - ((columns - axis) / (0.42 * width)) ** 2, 0, 1)) + 8


def _bone(
    columns: NDArray[np.float64], axis: NDArray[np.float64], down: NDArray[np.float64], width: int
) -> NDArray[np.float64]:
    """Draw a tube: bright cortex at both edges, darker marrow in between, wider at its ends."""
    outer = width * (0.11 + 0.05 * (2 * np.abs(down - 0.5)) ** 3)
    inner = 0.7 * outer
    offset = np.abs(columns - axis)
    wall = np.sqrt(np.clip(outer**2 - offset**2, 0, None)) - 0.95 * np.sqrt(np.clip(inner**2 - offset**2, 0, None))
    return 190 * wall / outer


if __name__ == "__main__":
    kind = sys.argv[2] if len(sys.argv) > 2 else "fractura"
    Path(sys.argv[1]).write_bytes(encoded(phantom(kind)))  # type: ignore[arg-type]
