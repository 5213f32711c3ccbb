"""TIFF files written tag by tag: samples of any type, order of bytes, compression, layout and polarity."""

import struct
import zlib
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray

COMPRESS: Final[dict[int, Any]] = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: zlib.compress,
    32773: imagecodecs.packbits_encode,
    32946: zlib.compress,
    50000: imagecodecs.zstd_encode,
}
_FORMATS: Final = {"u": 1, "i": 2, "f": 3}


def tiff_file(
    samples: NDArray[Any], order: str = "<", compression: int = 1, *, bits: int | None = None, **more: Any
) -> bytes:
    """Return a file of one page: (height, width) or (height, width, samples), in strips of 16 rows.

    `bits` packs unsigned samples; `planar` writes plane after plane; `white_is_zero` and `predictor` (2) do as they
    say; `tags` adds (tag, type, value), `following` is the offset of a next directory.
    """
    pixels = samples[..., None] if samples.ndim == 2 else samples
    planes = np.moveaxis(pixels, 2, 0)[..., None] if more.get("planar") else pixels[None]
    strips = [
        COMPRESS[compression](_written(rows, order, bits, more.get("predictor", 1)))
        for plane in planes
        for rows in np.split(plane, range(16, len(plane), 16))
    ]
    offsets = np.cumsum([8, *map(len, strips)]).tolist()
    bits_of_all = (bits or 8 * samples.itemsize,) * pixels.shape[2]
    tags = [(256, 4, (pixels.shape[1],)), (257, 4, (len(pixels),)), (258, 3, bits_of_all), (259, 3, (compression,))]
    photometric = 2 if pixels.shape[2] >= 3 else 0 if more.get("white_is_zero") else 1
    tags += [(262, 3, (photometric,)), (273, 4, tuple(offsets[:-1])), (277, 3, (pixels.shape[2],)), (278, 3, (16,))]
    tags += [(279, 4, tuple(map(len, strips))), (284, 3, (2 if more.get("planar") else 1,))]
    tags += [(317, 3, (more.get("predictor", 1),)), (339, 3, (_FORMATS[samples.dtype.kind],) * pixels.shape[2])]
    return assembled(b"".join(strips), sorted(tags + more.get("tags", [])), order, more.get("following", 0))


def _written(rows: NDArray[Any], order: str, bits: int | None, predictor: int) -> bytes:
    if bits:
        written = (rows.reshape(len(rows), -1, 1).astype(np.uint32) >> np.arange(bits)[::-1].astype(np.uint32)) & 1
        return b"".join(np.packbits(row).tobytes() for row in written.astype(np.uint8))
    if predictor == 2:
        rows = np.diff(rows, axis=1, prepend=np.zeros_like(rows[:, :1]))
    return rows.astype(rows.dtype.newbyteorder(order)).tobytes()


def assembled(pixels: bytes, tags: list[tuple[int, int, tuple[int, ...]]], order: str, following: int) -> bytes:
    """Put the pixels at offset 8, then the values that do not fit into an entry, then the directory."""
    body, entries = bytearray(pixels + bytes(len(pixels) % 2)), b""
    for tag, kind, values in tags:
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            packed, start = struct.pack(order + "I", 8 + len(body)), packed
            body += start + bytes(len(start) % 2)
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body))
    return bytes(head + body + struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", following))
