"""Decodes every image once per view and keeps what the network will see: `python -m training.prepare --help`.

Each view is one file, `<cache>/<height>x<width>/<view>.npy`: uint8, (n, height, width, 1), in the manifest's order.
Beside it lies `<view>.boxes.npy`: how far, 0 to 255, each place of 16 x 16 pixels lies in a radiologist's box.
A view that is there is not made again, unless the manifest has changed since.
"""

import argparse
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from preprocessing import decode, prepare
from training.manifest import Entry, add_data_argument, digest_manifest, read_manifest
from training.progress import show_progress
from training.views import DAMAGES, MIRRORED, PLAIN, RANDOM, draw_boxes, draw_view

CACHE: Final = Path("training/cache")
MAX_PIXELS: Final = 50_000_000
PLACE_PIXELS: Final = 16  # side of the places that the evidence tells apart

Pixels = NDArray[np.uint8]


def prepare_image(entry: Entry, view: str, size: tuple[int, int]) -> Pixels:
    """Return what the network sees of one image in one view: uint8, (height, width, 1).

    `prepare` gives the same numbers times 1/255 for scaling "unit"; whole bytes keep the cache small.
    """
    image = decode(entry.path.read_bytes(), MAX_PIXELS)[0].convert("L")
    return _to_pixels(draw_view(image, entry, view, _rng(entry, view)), size)


def prepare_boxes(entry: Entry, view: str, size: tuple[int, int]) -> Pixels:
    """Return where the boxes lie in what the network sees: uint8, (height / 16, width / 16, 1)."""
    places = (size[0] // PLACE_PIXELS, size[1] // PLACE_PIXELS)
    if not entry.boxes:
        return np.zeros((*places, 1), np.uint8)
    with Image.open(entry.path) as image:
        mask = draw_boxes(image.size, entry, view, _rng(entry, view))
    return _to_pixels(mask, places)


def prepare_view(entries: Sequence[Entry], view: str, size: tuple[int, int], path: Path, jobs: int) -> None:
    """Write one view of all images and, but for damages, of their boxes. A file appears only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if view not in DAMAGES:
        np.save(path.with_suffix(".boxes.npy"), [prepare_boxes(entry, view, size) for entry in entries])
    unfinished = path.with_suffix(".part")
    pixels = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (len(entries), *size, 1))
    with ProcessPoolExecutor(jobs) as pool:
        images = pool.map(partial(prepare_image, view=view, size=size), entries, chunksize=32)
        for row, image in enumerate(show_progress(images, len(entries), view)):
            pixels[row] = image
    pixels.flush()
    unfinished.rename(path)


def _to_pixels(image: Image.Image, size: tuple[int, int]) -> Pixels:
    pixels: Pixels = prepare(image, size, 1, "none", "letterbox")[0].astype(np.uint8)
    return pixels


def _rng(entry: Entry, view: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{entry.path.name} {view}".encode()))


def load_view(cache: Path, size: tuple[int, int], view: str) -> Pixels:
    """Map a prepared view into memory. Raises FileNotFoundError with the command that makes it."""
    path = view_path(cache, size, view)
    if not path.exists():
        raise FileNotFoundError(f"no view {view} at {size}: run `python -m training.prepare --size {size[0]}` first")
    pixels: Pixels = np.load(path, mmap_mode="r")
    return pixels


def load_boxes(cache: Path, size: tuple[int, int], view: str) -> Pixels:
    """Load where the boxes lie in a prepared view: uint8, (n, height / 16, width / 16, 1)."""
    boxes: Pixels = np.load(view_path(cache, size, view).with_suffix(".boxes.npy"))
    return boxes


def view_path(cache: Path, size: tuple[int, int], view: str) -> Path:
    """Say where a view of this size is kept."""
    return cache / f"{size[0]}x{size[1]}" / f"{view}.npy"


def open_cache(data_dir: Path, cache: Path) -> None:
    """Tie a cache to one manifest; what belongs to another version of the data is removed."""
    cache.mkdir(parents=True, exist_ok=True)
    stamp = cache / "manifest.sha256"
    version = digest_manifest(data_dir)
    if stamp.exists() and stamp.read_text() != version:
        for stale in cache.rglob("*.npy"):
            stale.unlink()
    stamp.write_text(version)


def view_names(random_views: int, with_damages: bool) -> Iterable[str]:
    """List the views that a run needs, the plain one first."""
    names = [PLAIN, MIRRORED] + [RANDOM.format(number) for number in range(random_views)]
    return names + list(DAMAGES) if with_damages else names


def main() -> None:
    """Prepare the views that are asked for."""
    parser = argparse.ArgumentParser(description="Decode and letterbox every image of the manifest.")
    add_data_argument(parser)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--size", type=int, default=320, help="side of the network's input, pixels")
    parser.add_argument("--random-views", type=int, default=0, help="how many random views for training")
    parser.add_argument("--damages", action="store_true", help="also the views that test robustness")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    chosen = parser.parse_args()
    entries, size = read_manifest(chosen.data), (chosen.size, chosen.size)
    open_cache(chosen.data, chosen.cache)
    for view in view_names(chosen.random_views, chosen.damages):
        path = view_path(chosen.cache, size, view)
        if not path.exists():
            prepare_view(entries, view, size, path, chosen.jobs)


if __name__ == "__main__":
    main()
