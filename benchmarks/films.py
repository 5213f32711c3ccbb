"""The images for every contender: several different ones of each kind, drawn or from BONE_DATA_DIR."""

import csv
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, ImageFilter

DRAWN_SIZE: Final = (3000, 2667)  # (height, width), 8 megapixels; the others, 2 and 0.36, are scaled from it


class Kind(NamedTuple):
    """A kind of file: its name, its longer side in pixels, the bits of a sample."""

    name: str
    side: int
    bits: int = 8


SMALL: Final = Kind("640 px", 640)
LARGE: Final = Kind("3000 px", 3000)
KINDS: Final = (SMALL, Kind("2 MP", 1500), LARGE, Kind("16-bit PNG", 1500, bits=16))


def films(count: int, folder: Path | None) -> dict[str, list[bytes]]:
    """Return `count` files of each kind, by its name: radiographs of the folder, else drawn ones."""
    pictures = [draw(DRAWN_SIZE, seed) for seed in range(count)] if folder is None else _sample(folder, count)
    return {kind.name: [_file(picture, kind) for picture in pictures] for kind in KINDS}


def write(kinds: dict[str, list[bytes]], folder: Path) -> None:
    """Write the files as FOLDER/KIND/NUMBER."""
    for name, files in kinds.items():
        (folder / name).mkdir()
        for number, data in enumerate(files):
            (folder / name / f"{number:03}").write_bytes(data)


def read(folder: Path) -> dict[str, list[bytes]]:
    """Read the files that `write` wrote."""
    return {kind.name: [file.read_bytes() for file in sorted(kind.iterdir())] for kind in folder.iterdir()}


def draw(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Draw a broken bone in soft tissue with a detector's noise: 8-bit grey (mode L), `size` is (height, width)."""
    random = np.random.default_rng(seed)
    down, across = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    line = down - random.uniform(0.3, 0.6) * across
    bone = across + np.where(line > 0, 0.1, -0.1)
    cortex = np.sqrt(np.clip(0.06 - bone**2, 0, None)) - np.sqrt(np.clip(0.03 - bone**2, 0, None))
    tissue = 95 * np.sqrt(np.clip(1 - (across / 0.85) ** 2, 0, None))
    sharp = Image.fromarray((tissue + 700 * cortex * (np.abs(line) > 0.03)).clip(0, 255).astype(np.uint8))
    blurred = np.asarray(sharp.filter(ImageFilter.GaussianBlur(size[1] / 400)), np.float64)
    return Image.fromarray((blurred + random.normal(0, 3, size)).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """Return the bytes of an image file."""
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _sample(folder: Path, count: int) -> list[Image.Image]:
    """Open `count` radiographs of the folder, spread evenly over the labels of its manifest.csv, as grey."""
    with (folder / "manifest.csv").open(encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["label"])
    return [Image.open(folder / row["path"]).convert("L") for row in rows[:: len(rows) // count][:count]]


def _file(picture: Image.Image, kind: Kind) -> bytes:
    scale = kind.side / max(picture.size)
    scaled = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    if kind.bits == 8:
        return encoded(scaled, "JPEG", quality=90)
    noise = np.random.default_rng(0).integers(0, 256, (scaled.height, scaled.width))  # as in a detector's lowest bits
    return encoded(Image.fromarray((np.asarray(scaled, np.uint16) * 256 + noise).astype(np.uint16)), "PNG")
