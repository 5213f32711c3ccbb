"""The directories of a TIFF file, classic or BigTIFF: which tags say what the pixels of the first page are."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.image import ImageError
from imaging.limits import MAX_PAGES, MAX_TAG_VALUES

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 256, 257, 258, 259, 262, 274
JPEG_TABLES = 347
SAMPLES_PER_PIXEL, ROWS_PER_STRIP, PLANAR, COLOUR_MAP, EXTRA_SAMPLES, SAMPLE_FORMAT = 277, 278, 284, 320, 338, 339
STRIP_OFFSETS, STRIP_BYTES, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTES = 273, 279, 322, 323, 324, 325
_PIXEL_TAGS: Final = (
    *(WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION),
    *(SAMPLES_PER_PIXEL, ROWS_PER_STRIP, PLANAR, COLOUR_MAP, EXTRA_SAMPLES, SAMPLE_FORMAT),
    *(STRIP_OFFSETS, STRIP_BYTES, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTES),
    *(266, 292, 293, 317, 332, JPEG_TABLES),  # order of bits, options of CCITT, predictor, inks
    *(512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532, 700),  # JPEG of TIFF 5, YCbCr, XMP for its orientation
)
_BYTES: Final = (1, 2, 6, 7)  # types of values that are kept as they are, however many
_UNSIGNED: Final = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8"}


class Page(dict[int, tuple[int, ...]]):
    """The whole numbers that a directory holds, by tag; other values are left out."""

    def first(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag, or the default where it has none."""
        return next(iter(self.get(tag, ())), default)


class Directories:
    """The chain of directories in a file, each one page."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = "<" if data.startswith(b"II") else ">"
        is_big = 0x2B in data[2:4]
        self._pointer = np.dtype(self._order + ("u8" if is_big else "u4"))
        self._length = self._pointer if is_big else np.dtype(self._order + "u2")
        fields = [("tag", self._order + "u2"), ("type", self._order + "u2"), ("count", self._pointer)]
        self._entry = np.dtype([*fields, ("value", f"V{self._pointer.itemsize}")])

    def read_page(self) -> Page:
        """Read the whole numbers of the first page's tags. Raise ImageError where a tag holds far too many values."""
        entries = self._pixel_entries()
        counted = entries[~np.isin(entries["type"], _BYTES)]["count"]
        if np.any(counted > MAX_TAG_VALUES):
            raise ImageError("unreadable_image")
        return Page({int(entry["tag"]): self._whole_numbers(entry) for entry in entries})

    def read_bytes(self, tag: int) -> bytes:
        """Read the bytes that a tag of the first page holds; none where it is absent."""
        for entry in self._pixel_entries():
            if entry["tag"] == tag and entry["type"] in _BYTES:
                return self._value(entry, int(entry["count"]))
        return b""

    def with_only_pixels(self) -> bytes:
        """Return a copy of the file with one directory, of the tags that say what the pixels of the first page are.

        It lies behind all else, so that what other tags point to stays where it is.
        """
        entries = self._pixel_entries()
        start = -(-len(self._data) // 8) * 8
        header = self._data[: self._pointer.itemsize] + np.array(start, self._pointer).tobytes()
        body = self._data[len(header) :].ljust(start - len(header), b"\0")
        count = np.array(len(entries), self._length).tobytes()
        return b"".join((header, body, count, entries.tobytes(), bytes(self._pointer.itemsize)))

    def count_pages(self) -> int:
        """Count the directories in the chain that state a size, up to MAX_PAGES; the first one always counts."""
        starts = [self._number(self._pointer, self._pointer.itemsize)]
        entries = self._entries(starts[0])
        while len(starts) < MAX_PAGES:
            following = self._number(self._pointer, self._end_of(starts[-1], entries))
            entries = self._entries(following)
            if following in starts or not np.isin((WIDTH, LENGTH), entries["tag"]).all():
                break
            starts.append(following)
        return len(starts)

    def _pixel_entries(self) -> NDArray[Any]:
        """Return the entries of the first directory that matter, each tag once, in ascending order."""
        entries = self._entries(self._number(self._pointer, self._pointer.itemsize))
        entries = entries[np.isin(entries["tag"], _PIXEL_TAGS)]
        return entries[np.unique(entries["tag"], return_index=True)[1]]

    def _entries(self, start: int) -> NDArray[Any]:
        """Return as many entries of the directory at an offset as lie in the file."""
        first = start + self._length.itemsize
        held = max(len(self._data) - first, 0) // self._entry.itemsize
        count = min(self._number(self._length, start), held) if start else 0
        return np.frombuffer(self._data, self._entry, count, first if count else 0)

    def _end_of(self, start: int, entries: NDArray[Any]) -> int:
        """Return the offset of the pointer that follows a directory's entries."""
        return start + self._length.itemsize + entries.nbytes

    def _whole_numbers(self, entry: Any) -> tuple[int, ...]:
        """Return the values of an entry; none where they are of another type or lie beyond the end of the file."""
        if int(entry["type"]) not in _UNSIGNED or int(entry["count"]) > MAX_TAG_VALUES:
            return ()
        number, count = np.dtype(self._order + _UNSIGNED[int(entry["type"])]), int(entry["count"])
        value = self._value(entry, count * number.itemsize)
        return tuple(np.frombuffer(value, number, count).tolist()) if len(value) >= count * number.itemsize else ()

    def _value(self, entry: Any, size: int) -> bytes:
        """Return the bytes of an entry's value, as many as lie in the file."""
        value: bytes = entry["value"].tobytes()
        if size <= len(value):
            return value
        offset = int(np.frombuffer(value, self._pointer)[0])
        return self._data[offset : offset + size]

    def _number(self, number: np.dtype[Any], offset: int) -> int:
        """Read a number; 0 beyond the end of the file, as if nothing were there."""
        is_there = offset + number.itemsize <= len(self._data)
        return int(np.frombuffer(self._data, number, 1, offset)[0]) if is_there else 0
