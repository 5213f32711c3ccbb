"""JPEG 2000 streams, ISO 15444-1: their header and what they cost to decode."""

import math
import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from config import available_cores
from imaging.image import ImageError
from imaging.jpeg import Frame
from imaging.limits import MAX_CODE_BLOCKS, MAX_JPEG_2000_SEGMENTS, MAX_LAYERS, MAX_TILES

START: Final = b"\xff\x4f\xff\x51"
_COD, _COC, _SOT, _SOD = 0xFF52, 0xFF53, 0xFF90, 0xFF93
_END: Final = b"\xff\xd9"
_SEGMENTS: Final = frozenset(  # of part 1 of the standard, except SIZ, SOT and SOD
    (0xFF50, _COD, _COC, 0xFF55, 0xFF57, 0xFF58, 0xFF59, *range(0xFF5C, 0xFF62), 0xFF63, 0xFF64)
)


def read_frame(stream: bytes) -> Frame:
    """Read the SIZ segment. Raise ImageError: unreadable_image for far more parts than radiographs have."""
    right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
    tile_width, tile_height = struct.unpack_from(">2I", stream, 24)
    components, precision = struct.unpack_from(">HB", stream, 40)
    height, width = bottom - top, right - left
    if math.ceil(bottom / tile_height) * math.ceil(right / tile_width) > MAX_TILES or any(
        layers > MAX_LAYERS or components * _count_code_blocks(height, width, style) > MAX_CODE_BLOCKS
        for layers, style in _coding_styles(stream, components)
    ):
        raise ImageError("unreadable_image")
    return Frame((precision & 0x7F) + 1, height, width, components)


def decode(stream: bytes) -> NDArray[Any]:
    """Decode a stream on all cores: (height, width) or (height, width, 3), of the type that it states."""
    import imagecodecs  # noqa: PLC0415 where such a stream comes

    return np.asarray(imagecodecs.jpeg2k_decode(stream, numthreads=available_cores()))


def _coding_styles(stream: bytes, components: int) -> Iterator[tuple[int, bytes]]:
    """Yield the layers and the coding style of each COD and COC segment, ISO 15444-1 A.6.1 and A.6.2."""
    for marker, body in _segments(stream):
        if marker == _COD:
            yield struct.unpack_from(">H", body, 2)[0], body[:1] + body[5:]
        elif marker == _COC:
            yield 1, body[1 if components < 257 else 2 :]


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of the segments of all headers: the image's and those of the parts of tiles."""
    offset, end_of_part = 4 + struct.unpack_from(">H", stream, 4)[0], 0
    for _ in range(MAX_JPEG_2000_SEGMENTS):
        marker, length = struct.unpack_from(">HH", stream, offset)
        if marker == _SOD:
            offset = end_of_part
            if len(stream) - offset < 4 or stream.startswith(_END, offset):
                return
            continue
        if marker == _SOT:
            part_bytes = struct.unpack_from(">I", stream, offset + 6)[0]
            end_of_part = offset + part_bytes if part_bytes else len(stream)
        elif marker not in _SEGMENTS:
            break
        yield marker, stream[offset + 4 : offset + 2 + length]
        offset += 2 + length
    raise ImageError("unreadable_image")


def _count_code_blocks(height: int, width: int, style: bytes) -> int:
    """Estimate how many code blocks a component has; a precinct, if stated, limits its code blocks."""
    has_precincts, levels, width_exponent, height_exponent = style[0] & 1, *style[1:4]
    blocks = 0
    for level in range(levels + 1):
        precinct = style[6 + level] if has_precincts else 0xFF
        is_halved = level > 0  # into subbands
        block_width = 2 ** min(width_exponent + 2, max((precinct & 15) - is_halved, 0))
        block_height = 2 ** min(height_exponent + 2, max((precinct >> 4) - is_halved, 0))
        shrinkage = 2 ** (levels - level)
        blocks += math.ceil(height / shrinkage / block_height) * math.ceil(width / shrinkage / block_width)
    return blocks
