"""JPEG and JPEG-LS streams, in a file, in a TIFF or in DICOM: their header and what they cost to decode."""

import itertools
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from imaging.image import ImageError
from imaging.limits import (
    MAX_EXIF_BYTES,
    MAX_FRAME_HEADER_BYTES,
    MAX_JPEG_SEGMENTS,
    MAX_PHOTOSHOP_BYTES,
    MAX_QUANTISATION_BYTES,
    MAX_SCANNED_PIXELS,
    MAX_SCANS,
)

START: Final = b"\xff\xd8"
_DQT, _SOS, _APP1, _APP13, _FILL = 0xDB, 0xDA, 0xE1, 0xED, 0xFF
_NO_LENGTH: Final = (0x00, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xF7), *range(0xF9, 0xFE))  # markers that stand alone
_FRAMES: Final = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xD0), 0xF7)  # starts of frame
_ARITHMETIC: Final = range(0xC9, 0xD0)
_BEFORE_FRAME: Final = (0xC4, _DQT, 0xDD, *range(0xE0, 0xF0), 0xF8, 0xFE, _FILL)


class Segment(NamedTuple):
    """A marker before the first scan: its second byte, its offset in the stream and the length that it claims."""

    marker: int
    offset: int
    length: int


class Frame(NamedTuple):
    """The contents of a start of frame: bits per sample, (height, width) in pixels, components."""

    precision: int
    height: int
    width: int
    components: int


def segments(data: bytes) -> Iterator[Segment]:
    """Yield the segments before the first scan, stepping as libjpeg and Pillow do; a fill byte counts as one."""
    offset = 2
    while data[offset : offset + 1] == b"\xff" and data[offset + 1 : offset + 2] not in (b"", b"\xda"):
        segment = Segment(data[offset + 1], offset, int.from_bytes(data[offset + 2 : offset + 4]))
        yield segment
        if segment.marker == _FILL:
            offset += 1
        elif segment.marker in _NO_LENGTH:
            offset += 2
        else:
            offset += 2 + max(2, segment.length)


def check_header(data: bytes) -> None:
    """Refuse segments that cost far more than those of a radiograph. Raise ImageError: unreadable_image.

    Claimed lengths are added up by kind: Pillow copies all EXIF so far for each further piece.
    """
    found = list(itertools.islice(segments(data), MAX_JPEG_SEGMENTS + 1))
    claimed: Counter[int | str] = Counter()
    for segment in found:
        claimed[segment.marker] += segment.length
        if segment.marker == _APP1 and data[segment.offset + 4 : segment.offset + 8] == b"Exif":
            claimed["exif"] += segment.length
    if (
        len(found) > MAX_JPEG_SEGMENTS
        or claimed["exif"] > MAX_EXIF_BYTES
        or sum(claimed[marker] for marker in _FRAMES) > MAX_FRAME_HEADER_BYTES
        or claimed[_DQT] > MAX_QUANTISATION_BYTES
        or claimed[_APP13] > MAX_PHOTOSHOP_BYTES
    ):
        raise ImageError("unreadable_image")


def read_frame(data: bytes) -> Frame:
    """Read the start of frame of a JPEG or JPEG-LS stream.

    Raise ImageError for arithmetic coding, which takes seconds and is not used for radiographs, and for a marker
    outside any segment, which libjpeg would not skip as this function does.
    """
    for segment in itertools.islice(segments(data), MAX_JPEG_SEGMENTS):
        if segment.marker in _FRAMES and segment.marker not in _ARITHMETIC:
            return Frame(*struct.unpack_from(">BHHB", data, segment.offset + 4))
        if segment.marker not in _BEFORE_FRAME:
            break
    raise ImageError("unreadable_image")


def count_scans(data: bytes | memoryview) -> int:
    """Count the markers FF DA as `data.count` would, in a tenth of the time."""
    pairs = (np.frombuffer(data, "<u2", (len(data) - start) // 2, start) for start in (0, 1))
    return sum(int(np.count_nonzero(found == 0xDAFF)) for found in pairs)


def check_scans(scans: int, pixels: int) -> None:
    """Refuse more scans than an image of so many pixels may have. Raise ImageError: unreadable_image."""
    if scans > min(MAX_SCANS, max(1, MAX_SCANNED_PIXELS // pixels)):
        raise ImageError("unreadable_image")
