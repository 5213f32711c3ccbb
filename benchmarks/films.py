"""The images that every contender gets: several different ones of each kind, drawn or from BONE_DATA_DIR."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.radiographs import sample
from tests.support.phantoms import Crack, encoded, phantom

DRAWN_SIZE: Final = (3000, 2667)  # (height, width), 8 megapixels; the others, 2 and 0.36, are scaled from it
CRACKS: Final[Sequence[Crack]] = ("none", "fisura", "fractura")


class Kind(NamedTuple):
    """A kind of file: its name, its longer side in pixels, the bits of a sample."""

    name: str
    side: int
    bits: int = 8


SMALL: Final = Kind("640 px", 640)
LARGE: Final = Kind("3000 px", 3000)
KINDS: Final = (SMALL, Kind("2 MP", 1500), LARGE, Kind("16-bit PNG", 1500, bits=16))


def films(count: int, folder: Path | None) -> dict[str, list[bytes]]:
    """Return `count` files of each kind, by its name: radiographs of the folder, else phantoms."""
    pictures = [_drawn(seed) for seed in range(count)] if folder is None else _taken(folder, count)
    return {kind.name: [_file(picture, kind) for picture in pictures] for kind in KINDS}


def write(kinds: dict[str, list[bytes]], folder: Path) -> None:
    """Write the files as FOLDER/KIND/NUMBER."""
    for name, files in kinds.items():
        (folder / name).mkdir()
        for number, data in enumerate(files):
            (folder / name / str(number)).write_bytes(data)


def read(folder: Path) -> dict[str, list[bytes]]:
    """Read what `write` wrote."""
    return {
        kind.name: [file.read_bytes() for file in sorted((folder / kind.name).iterdir())]
        for kind in KINDS
        if (folder / kind.name).is_dir()
    }


def _drawn(seed: int) -> Image.Image:
    return phantom(CRACKS[seed % len(CRACKS)], DRAWN_SIZE, seed)


def _taken(folder: Path, count: int) -> list[Image.Image]:
    """Open `count` radiographs of the folder, of every label as far as they go, as grey."""
    paths = [path for path, _ in sample(folder, count)]
    step = max(1, len(paths) // count)
    return [Image.open(path).convert("L") for path in paths[::step][:count]]


def _file(picture: Image.Image, kind: Kind) -> bytes:
    scale = kind.side / max(picture.size)
    scaled = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    if kind.bits == 8:
        return encoded(scaled, "JPEG", quality=90)
    noise = np.random.default_rng(0).integers(0, 256, (scaled.height, scaled.width))  # as a detector's last bits are
    return encoded(Image.fromarray((np.asarray(scaled, np.uint16) * 256 + noise).astype(np.uint16)), "PNG")
