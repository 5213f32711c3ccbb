"""TIFF files -> an upright 8-bit image."""

import dataclasses
import itertools
import struct
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, ImageChops, TiffImagePlugin

from imaging import jpeg, raster
from imaging.image import DecoderFacts, ImageError
from imaging.limits import MAX_PAGES, MAX_TAG_VALUES, MAX_TAGS, MAX_TILE_SIDE, SLACK_BYTES

_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TEXT_OR_BYTES: Final = (1, 2, 6, 7)  # types of tags that are kept as they are, however long
_UNSIGNED: Final = {3: "u2", 4: "u4", 13: "u4", 16: "u8"}
_BYTE_COUNTS: Final = (279, 325)  # of strips, of tiles
_DIRECTORIES: Final = (34665, 34853, 40965)  # tags that point to further tags: EXIF, GPS, interoperability


def decode(data: bytes, max_pixels: int) -> tuple[Image.Image, DecoderFacts]:
    """Decode the first page of a file that begins as a TIFF does; see `preprocessing.decode`."""
    _check_tags(data)
    image = raster.open_image(data, "TIFF", max_pixels)
    _check_parts(image, data)
    stored = (image.height, image.width)
    orientation = raster.read_orientation(image)  # which Pillow undoes while it loads
    raster.load(image)
    converted, bits = raster.to_8_bit(image)
    is_white_zero = _whole(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1) == 0
    if is_white_zero and image.mode[0] in "IF":  # Pillow inverts samples up to 8 bits only
        converted = ImageChops.invert(converted)
    if converted is image:
        converted = image.copy()  # counting the pages leaves the first one
    orientation = max(orientation, raster.read_orientation(image))
    facts = raster.facts_of("TIFF", bits, orientation, _count_pages(image), stored)
    return converted, dataclasses.replace(facts, inverted=is_white_zero)


def _count_pages(image: Image.Image) -> int:
    """Count the pages, which Pillow finds one by one in Python, up to MAX_PAGES."""
    try:
        for page in range(1, MAX_PAGES):
            image.seek(page)
    except Exception:  # noqa: BLE001 the end, or a later page that is damaged, which harms nobody
        return page
    return MAX_PAGES


def _check_parts(image: Image.Image, data: bytes) -> None:
    """Refuse tiles much larger than the image, and JPEG parts of very many scans. Raise ImageError."""
    tile = (_whole(image, TiffImagePlugin.TILEWIDTH, 0), _whole(image, TiffImagePlugin.TILELENGTH, 0))
    if any(side > max(MAX_TILE_SIDE, 2 * own) for side, own in zip(tile, image.size, strict=True)):
        raise ImageError("unreadable_image")
    if "jpeg" in str(image.info.get("compression")):
        extra_scans = jpeg.count_scans(data) - _count_parts(image)
        jpeg.check_scans(extra_scans + 1, image.width * image.height)


def _whole(image: Image.Image, tag: int, default: int) -> int:
    """Return the value of a tag that is one whole number, else the default."""
    value = getattr(image, "tag_v2", {}).get(tag)
    return value if isinstance(value, int) else default


def _count_parts(image: Image.Image) -> int:
    """Count the strips or tiles by the sides of the image, not by how many the file lists."""
    rows = max(1, _whole(image, TiffImagePlugin.ROWSPERSTRIP, image.height))
    width = max(1, _whole(image, TiffImagePlugin.TILEWIDTH, image.width))
    height = max(1, _whole(image, TiffImagePlugin.TILELENGTH, rows))
    planes = len(image.getbands()) if _whole(image, TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2 else 1
    return -(-image.width // width) * -(-image.height // height) * planes


class _Tag(NamedTuple):
    """A tag of a TIFF: so many values of a kind; `offset` is where they lie, or of the pointer to them."""

    number: int
    kind: int
    values: int
    offset: int

    @property
    def size(self) -> int:
        return _SIZES.get(self.kind, 0) * self.values


def _check_tags(data: bytes) -> None:
    """Refuse far more tags or values than a radiograph has, and tags, strips or tiles that share their bytes.

    Each is read by itself. Raise ImageError: unreadable_image.
    """
    tags = list(itertools.islice(_tags(data), MAX_TAGS + 1))
    if (
        len(tags) > MAX_TAGS
        or sum(tag.size for tag in tags) > 2 * len(data) + SLACK_BYTES
        or any(tag.values > MAX_TAG_VALUES and tag.kind in _SIZES and tag.kind not in _TEXT_OR_BYTES for tag in tags)
        or any(_sum_of(data, tag) > 2 * len(data) for tag in tags if tag.number in _BYTE_COUNTS)
    ):
        raise ImageError("unreadable_image")


def _tags(data: bytes) -> Iterator[_Tag]:
    """Yield the tags of as many pages as are counted, and of what they point to; see TIFF 6.0, section 2, and BigTIFF.

    Each directory begins with a tag of number 0 that stands for itself, so that empty ones count too.
    """
    order, pointer = _order(data), _pointer(data)
    is_big = pointer.size == 8
    entry, length = (struct.Struct(order + form) for form in (("HHQ", "Q") if is_big else ("HHI", "H")))
    pages, pending = 0, deque([(pointer.size, True)])  # offsets of pointers to directories; is it a page?
    while pending:
        offset, is_page = pending.popleft()
        start = _number_at(data, pointer, offset)
        tags = _number_at(data, length, start) if start else 0
        yield _Tag(0, 0, 0, start)
        first, tag_bytes = start + length.size, entry.size + pointer.size
        for offset in range(first, min(first + tag_bytes * tags, len(data) - tag_bytes + 1), tag_bytes):
            number, kind, values = entry.unpack_from(data, offset)
            yield _Tag(number, kind, values, offset + entry.size)
            if number in _DIRECTORIES:
                pending.append((offset + entry.size, False))
        pages += is_page
        if is_page and tags and pages < MAX_PAGES:
            pending.append((first + tag_bytes * tags, True))


def _number_at(data: bytes, number: struct.Struct, offset: int) -> int:
    """Read a number; 0 beyond the end of the file, as if nothing were there."""
    return int(number.unpack_from(data, offset)[0]) if offset + number.size <= len(data) else 0


def _order(data: bytes) -> str:
    return "<" if data.startswith(b"II") else ">"


def _pointer(data: bytes) -> struct.Struct:
    """Return the number that says where something lies: 4 bytes, 8 in a BigTIFF."""
    return struct.Struct(_order(data) + ("Q" if 0x2B in data[2:4] else "I"))


def _sum_of(data: bytes, tag: _Tag) -> int:
    """Add up a tag's whole numbers; 0 where they lie beyond the end of the file."""
    if tag.kind not in _UNSIGNED:
        return 0
    pointer = _pointer(data)
    offset = tag.offset if tag.size <= pointer.size else _number_at(data, pointer, tag.offset)
    if offset + tag.size > len(data):
        return 0
    return int(np.frombuffer(data, _order(data) + _UNSIGNED[tag.kind], tag.values, offset).sum(dtype=np.float64))
