"""The bytes of an upload -> a refusal where a small file would be long to read, before a decoder sees it.

Decoders step through segments, chunks and tags one by one, copy what those hold, and believe what a file says of its
parts: a few kilobytes can cost seconds and gigabytes. What a radiograph needs is far below every limit here.
"""

import itertools
import struct
from collections import Counter, deque
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from imaging.image import ImageError

MAX_SEGMENTS: Final = 2_000  # of a JPEG before its first scan
MAX_STEPS: Final = 20_000  # PNG chunks, TIFF tags, values of one TIFF tag
MAX_EXIF_BYTES: Final = 200_000
MAX_FRAME_BYTES: Final = 20  # of a JPEG's frame header: one of four components
MAX_TABLES_BYTES: Final = 10_000  # of its quantisation tables
MAX_PHOTOSHOP_BYTES: Final = 1_000_000
MAX_PROFILES: Final = 1  # of a PNG
MAX_TEXTS: Final = 64  # compressed ones
MAX_PAGES: Final = 100  # of a TIFF: as many as are counted
SLACK_BYTES: Final = 100_000

_ALONE: Final = {bytes([kind]) for kind in (0x00, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE))}  # JPEG markers
_FRAMES: Final = {bytes([kind]) for kind in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xD0))}
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TEXT_OR_BYTES: Final = (1, 2, 6, 7)  # types of TIFF tags that are kept as they are, however long
_UNSIGNED: Final = {3: "u2", 4: "u4", 13: "u4", 16: "u8"}
_BYTE_COUNTS: Final = (279, 325)  # of strips, of tiles
_DIRECTORIES: Final = (34665, 34853, 40965)  # tags that point to further tags: EXIF, GPS, interoperability


class _Tag(NamedTuple):
    """A tag of a TIFF: so many values of a kind; `place` is where they lie, or where it says so."""

    number: int
    kind: int
    values: int
    place: int

    @property
    def size(self) -> int:
        return _SIZES.get(self.kind, 0) * self.values


def check_structure(data: bytes) -> None:
    """Refuse a JPEG, PNG or TIFF that costs out of proportion to its size. Raise ImageError: unreadable_image."""
    if data.startswith(b"\xff\xd8\xff"):
        is_laborious = _is_laborious_jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        is_laborious = _is_laborious_png(data)
    else:
        is_laborious = data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") and _is_laborious_tiff(data)
    if is_laborious:
        raise ImageError("unreadable_image")


def _is_laborious_jpeg(data: bytes) -> bool:
    """Add up what the segments of each kind claim: Pillow copies all EXIF that it has for each further piece."""
    places = list(itertools.islice(_jpeg_segments(data), MAX_SEGMENTS + 1))
    claimed: Counter[bytes] = Counter()
    for place in places:
        kind = data[place + 1 : place + 2]
        is_exif = kind == b"\xe1" and data[place + 4 : place + 8] == b"Exif"
        claimed[b"Exif" if is_exif else kind] += int.from_bytes(data[place + 2 : place + 4])
    return (
        len(places) > MAX_SEGMENTS
        or claimed[b"Exif"] > MAX_EXIF_BYTES
        or sum(claimed[kind] for kind in _FRAMES) > MAX_FRAME_BYTES
        or claimed[b"\xdb"] > MAX_TABLES_BYTES
        or claimed[b"\xed"] > MAX_PHOTOSHOP_BYTES
    )


def _jpeg_segments(data: bytes) -> Iterator[int]:
    """Yield where each marker before the first scan begins, stepping as Pillow does; fill bytes count as markers."""
    place = 2
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] != b"\xda":
        yield place
        kind = data[place + 1 : place + 2]
        if kind == b"\xff":
            place += 1
        elif kind in _ALONE:
            place += 2
        else:
            place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4]))


def _is_laborious_png(data: bytes) -> bool:
    """Count chunks; Pillow inflates each profile and text, and forgets the bytes of one whose checksum is wrong."""
    places = list(itertools.islice(_png_chunks(data), MAX_STEPS + 1))
    if len(places) > MAX_STEPS:
        return True
    kinds = Counter(data[place + 4 : place + 8] for place in places)
    exif = sum(int.from_bytes(data[place : place + 4]) for place in places if data[place + 4 : place + 8] == b"eXIf")
    return exif > MAX_EXIF_BYTES or kinds[b"iCCP"] > MAX_PROFILES or kinds[b"zTXt"] + kinds[b"iTXt"] > MAX_TEXTS


def _png_chunks(data: bytes) -> Iterator[int]:
    """Yield where each chunk begins."""
    place = 8
    while place < len(data):
        yield place
        place += 12 + int.from_bytes(data[place : place + 4])


def _is_laborious_tiff(data: bytes) -> bool:
    """Count tags and their values, and refuse tags, strips or tiles that share their bytes: each is read by itself."""
    tags = list(itertools.islice(_tiff_tags(data), MAX_STEPS + 1))
    return (
        len(tags) > MAX_STEPS
        or sum(tag.size for tag in tags) > 2 * len(data) + SLACK_BYTES
        or any(tag.values > MAX_STEPS and tag.kind in _SIZES and tag.kind not in _TEXT_OR_BYTES for tag in tags)
        or any(_sum_of(data, tag) > 2 * len(data) for tag in tags if tag.number in _BYTE_COUNTS)
    )


def _tiff_tags(data: bytes) -> Iterator[_Tag]:
    """Yield the tags of as many pages as are counted, and of what they point to; see TIFF 6.0, section 2, and BigTIFF.

    Each directory begins with a tag of number 0 that stands for itself, so that empty ones count too.
    """
    order, pointer = _order(data), _pointer(data)
    is_big = pointer.size == 8
    entry, length = (struct.Struct(order + form) for form in (("HHQ", "Q") if is_big else ("HHI", "H")))
    pages, pending = 0, deque([(pointer.size, True)])  # places of pointers to directories; is it a page?
    while pending:
        place, is_page = pending.popleft()
        start = _number_at(data, pointer, place)
        tags = _number_at(data, length, start) if start else 0
        yield _Tag(0, 0, 0, start)
        first, tag_bytes = start + length.size, entry.size + pointer.size
        for place in range(first, min(first + tag_bytes * tags, len(data) - tag_bytes + 1), tag_bytes):
            number, kind, values = entry.unpack_from(data, place)
            yield _Tag(number, kind, values, place + entry.size)
            if number in _DIRECTORIES:
                pending.append((place + entry.size, False))
        pages += is_page
        if is_page and tags and pages < MAX_PAGES:
            pending.append((first + tag_bytes * tags, True))


def _number_at(data: bytes, number: struct.Struct, place: int) -> int:
    """Read a number; 0, as if nothing were there, beyond the end of the file."""
    return int(number.unpack_from(data, place)[0]) if place + number.size <= len(data) else 0


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
    place = tag.place if tag.size <= pointer.size else _number_at(data, pointer, tag.place)
    if place + tag.size > len(data):
        return 0
    return int(np.frombuffer(data, _order(data) + _UNSIGNED[tag.kind], tag.values, place).sum(dtype=np.float64))
