"""The elements of a DICOM file that describe its pixels, read within limits; the pixels stay encoded.

Only the elements in _ELEMENTS are read, none of which is about the patient. Logs and warnings of pydicom are off.
"""

import functools
import logging
import math
import struct
import warnings
import zlib
from io import BytesIO
from typing import Any, Final

from imaging.image import ImageError
from imaging.limits import (
    MAX_CHARACTER_SET_BYTES,
    MAX_HEADER_BYTES,
    MAX_READS,
    MAX_SEQUENCE_READS,
    MAX_TABLE_BYTES,
    MAX_VALUE_BYTES,
    too_many_pixels,
)

IMPLICIT, BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
NATIVE: Final = (IMPLICIT, "1.2.840.10008.1.2.1", BIG_ENDIAN, _DEFLATED)
RLE: Final = "1.2.840.10008.1.2.5"
JPEG: Final = (
    "1.2.840.10008.1.2.4.50",  # baseline
    "1.2.840.10008.1.2.4.51",  # extended, 8 or 12 bits
    "1.2.840.10008.1.2.4.57",  # lossless
    "1.2.840.10008.1.2.4.70",  # lossless, first-order prediction
)
JPEG_LS: Final = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")  # lossless, near-lossless
JPEG_2000: Final = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")  # lossless, lossy
_ELEMENTS: Final = (
    "TransferSyntaxUID Modality SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows"
    " Columns BitsAllocated BitsStored HighBit PixelRepresentation RescaleIntercept RescaleSlope ModalityLUTSequence"
    " WindowCenter WindowWidth VOILUTFunction VOILUTSequence RedPaletteColorLookupTableDescriptor"
    " GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData"
    " GreenPaletteColorLookupTableData BluePaletteColorLookupTableData PixelData".split()
)
_PIXELS: Final = 0x7FE00010
_SEQUENCES: Final = ("ModalityLUTSequence", "VOILUTSequence")
_BYTES: Final = (None, "OB", "OW", "OB or OW", "UN", "US")  # left as bytes by pydicom, or a US of 64 kB at most
_CHARACTER_SET: Final = (b"\x08\0\x05\0", b"\0\x08\0\x05")  # its tag, little and big endian


@functools.cache
def _pydicom() -> Any:
    """Import pydicom (0.2 s and 40 MB, so only for a DICOM file) and silence it."""
    import pydicom  # noqa: PLC0415
    from pydicom import config  # noqa: PLC0415

    config.settings.reading_validation_mode = config.IGNORE
    for name in ("pydicom", "pylibjpeg", "openjpeg", "libjpeg", "rle"):
        logging.getLogger(name).disabled = True
    warnings.filterwarnings("ignore", module=r"(pydicom|dicom|pylibjpeg|openjpeg|rle|jpeg_ls)\b")
    return pydicom


class _Source(BytesIO):
    """A file in memory that limits the number of reads and records a read beyond its end."""

    def __init__(self, data: bytes, max_reads: int = MAX_READS) -> None:
        super().__init__(data)
        self._size = len(data)
        self._reads_left = max_reads
        self._max_bytes: float = math.inf
        self._came_up_short = False

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0 or (size or 0) > self._max_bytes:
            raise ImageError("unreadable_image")
        found = super().read(size)
        self._max_bytes = math.inf
        if size == 8 and found.startswith(_CHARACTER_SET):
            self._limit_character_set(found)
        self._came_up_short |= 0 < len(found) < (size or 0)
        return found

    def _limit_character_set(self, header: bytes) -> None:
        """Refuse a SpecificCharacterSet that is too long: pydicom looks up each of its values while it reads."""
        order = "<" if header.startswith(_CHARACTER_SET[0]) else ">"
        is_short = header[4:6] == b"CS"
        (length,) = (
            struct.unpack_from(order + "H", header, 6) if is_short else struct.unpack_from(order + "I", header, 4)
        )
        if length > MAX_CHARACTER_SET_BYTES:
            raise ImageError("unreadable_image")
        self._max_bytes = MAX_CHARACTER_SET_BYTES  # an implicit length can look like CS and a short length

    @property
    def is_truncated(self) -> bool:
        """Whether the last element reached beyond the end."""
        return self._came_up_short or self.tell() > self._size


def read(data: bytes, max_pixels: int) -> tuple[Any, str]:
    """Return the relevant elements, up to the pixels, and the transfer syntax. Pixels stay encoded."""
    source = _Source(data)
    source.seek(132)
    meta = _elements(source, implicit=False, little=True, stop_when=lambda tag, *_: tag >> 16 != 2)
    syntax = str(meta.TransferSyntaxUID)
    if syntax not in (*NATIVE, RLE, *JPEG, *JPEG_LS, *JPEG_2000):
        raise ImageError("unsupported_image", reason="encoding")
    if syntax == _DEFLATED:
        source = _Source(_inflate(data[source.tell() :], max_pixels))
    implicit, little = syntax == IMPLICIT, syntax != BIG_ENDIAN
    dataset = _elements(source, implicit=implicit, little=little)
    if "PixelData" not in dataset and source.is_truncated:
        raise ImageError("unreadable_image")
    dataset.set_original_encoding(implicit, little)
    return dataset, syntax


def _elements(source: _Source, *, implicit: bool, little: bool, stop_when: Any = None) -> Any:
    pydicom = _pydicom()
    from pydicom.filereader import data_element_generator  # noqa: PLC0415

    tags = [pydicom.tag.Tag(name) for name in _ELEMENTS]
    found = {}
    for element in data_element_generator(source, implicit, little, stop_when, specific_tags=tags):
        if element.tag in tags:
            found[element.tag] = check_element(element, pydicom.datadict.keyword_for_tag(element.tag))
        if element.tag == _PIXELS:
            break
    dataset = pydicom.Dataset()
    dataset.update(found)  # one by one, so that items of a sequence know whether samples are signed
    return dataset


def check_element(element: Any, name: str) -> Any:
    """Return an element that pydicom may convert: its value is not too long, a sequence is read within a limit."""
    if name in _SEQUENCES:
        return _sequence(element) if element.is_raw else element
    if name.endswith("Data"):
        _require_bytes(element, None if name == "PixelData" else MAX_TABLE_BYTES)
    elif not element.is_raw or len(element.value or b"") > MAX_VALUE_BYTES:
        raise ImageError("unreadable_image")
    return element


def _require_bytes(element: Any, max_bytes: int | None) -> None:
    """Refuse a table or pixels that pydicom would split into values, and a table that is too long."""
    is_long = max_bytes is not None and len(element.value or b"") > max_bytes
    if not element.is_raw or element.VR not in _BYTES or is_long:
        raise ImageError("unreadable_image")


def _sequence(element: Any) -> Any:
    from pydicom.filereader import read_sequence  # noqa: PLC0415

    data = element.value or b""
    source = _Source(data, MAX_SEQUENCE_READS)
    items = read_sequence(source, element.is_implicit_VR, element.is_little_endian, len(data), "iso8859")
    return _pydicom().dataelem.DataElement(element.tag, "SQ", items)


def _inflate(data: bytes, max_pixels: int) -> bytes:
    """Inflate a deflated data set, but no more of it than its header and the pixels stated there need."""
    header = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, MAX_HEADER_BYTES)
    source = _Source(header)
    stated = _elements(source, implicit=False, little=True, stop_when=lambda tag, *_: tag == _PIXELS)
    needed = source.tell() + native_bytes(stated) + MAX_HEADER_BYTES  # elements may follow the pixels
    if needed > 3 * max_pixels + 2 * MAX_HEADER_BYTES:  # 16-bit grey or 8-bit colour
        raise too_many_pixels(max_pixels)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(data, needed)
    if not inflater.eof:
        raise ImageError("unreadable_image")
    return inflated


def native_bytes(dataset: Any) -> int:
    """Return the bytes that the uncompressed pixels of all frames take; 0 if there are none."""
    frames = max(1, int(dataset.get("NumberOfFrames") or 1))
    sample_bytes, samples = int(dataset.get("BitsAllocated") or 0) // 8, int(dataset.get("SamplesPerPixel") or 1)
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        samples = 2  # two pixels share their colour
    return frames * int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0) * samples * sample_bytes
