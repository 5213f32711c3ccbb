"""PNG files: the chunks that say what the pixels are, see the PNG specification, third edition."""

import itertools
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from imaging.image import ImageError
from imaging.limits import MAX_CHUNKS, MAX_EXIF_BYTES, MAX_TEXTS

_SIGNATURE_BYTES: Final = 8
_AROUND_BYTES: Final = 12  # length, kind and checksum
_TEXTS: Final = (b"zTXt", b"iTXt")  # compressed; Pillow looks for an orientation in them
_ANCILLARY: Final = (b"tRNS", b"eXIf", b"tEXt", *_TEXTS, b"acTL", b"fcTL", b"fdAT")  # not profiles and all others
_MAX_CHECKED_BYTES: Final = 1_000_000


class Chunk(NamedTuple):
    """A chunk: its kind, where it begins and where it ends, and its data."""

    kind: bytes
    start: int
    end: int
    data: memoryview

    @property
    def is_critical(self) -> bool:
        """Tell whether no decoder may skip it."""
        return self.kind[:1].isupper()


def without_the_rest(data: bytes) -> bytes:
    """Return a file without the chunks that say nothing of its pixels, and without ancillary ones that are damaged.

    Raise ImageError: unreadable_image for far more chunks, EXIF or texts than a radiograph has.
    """
    chunks = list(itertools.islice(_chunks(data), MAX_CHUNKS + 1))
    exif = sum(len(chunk.data) for chunk in chunks if chunk.kind == b"eXIf")
    texts = sum(chunk.kind in _TEXTS for chunk in chunks)
    if len(chunks) > MAX_CHUNKS or exif > MAX_EXIF_BYTES or texts > MAX_TEXTS:
        raise ImageError("unreadable_image")
    kept = [chunk for chunk in chunks if chunk.is_critical or (chunk.kind in _ANCILLARY and _is_whole(chunk, data))]
    if len(kept) == len(chunks):
        return data
    return data[:_SIGNATURE_BYTES] + b"".join(memoryview(data)[chunk.start : chunk.end] for chunk in kept)


def transparent_grey(data: bytes) -> int | None:
    """Return the grey value that is transparent, on the scale on which Pillow gives samples; None without one."""
    header, *others = itertools.islice(_chunks(data), MAX_CHUNKS)
    depth, colour = int(header.data[8]), int(header.data[9])
    found = next((chunk for chunk in others if chunk.kind in (b"tRNS", b"IDAT")), None)
    if colour != 0 or found is None or found.kind != b"tRNS":
        return None
    value = int.from_bytes(found.data[:2]) & ((1 << depth) - 1)
    return value if depth >= 8 else value * 255 // ((1 << depth) - 1)


def _is_whole(chunk: Chunk, data: bytes) -> bool:
    """Tell whether the checksum is right; that of a long chunk is left to Pillow."""
    checked = memoryview(data)[chunk.start + 4 : chunk.end - 4]
    return len(checked) > _MAX_CHECKED_BYTES or zlib.crc32(checked) == int.from_bytes(data[chunk.end - 4 : chunk.end])


def _chunks(data: bytes) -> Iterator[Chunk]:
    view, start = memoryview(data), _SIGNATURE_BYTES
    while start < len(data):
        end = start + _AROUND_BYTES + int.from_bytes(data[start : start + 4])
        yield Chunk(data[start + 4 : start + 8], start, end, view[start + 8 : end - 4])
        start = end
