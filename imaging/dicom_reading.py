"""The elements of a DICOM file that describe its pixels, read within limits; the pixels stay encoded.

Only the elements in _ELEMENTS are read, none of which is about the patient. Logs and warnings of pydicom are off.
"""

import functools
import logging
import re
import struct
import warnings
import zlib
from io import BytesIO
from typing import Any, Final, Literal

from imaging.image import ImageError
from imaging.limits import (
    MAX_HEADER_BYTES,
    MAX_READS,
    MAX_SEQUENCE_READS,
    MAX_TABLE_BYTES,
    MAX_VALUE_BYTES,
    READS_OF_AN_ITEM,
    too_many_pixels,
)

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
NATIVE: Final = (IMPLICIT, EXPLICIT, BIG_ENDIAN, _DEFLATED)
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
    " WindowCenter WindowWidth VOILUTFunction VOILUTSequence PixelPaddingValue PixelPaddingRangeLimit"
    " SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence RedPaletteColorLookupTableDescriptor"
    " GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData"
    " GreenPaletteColorLookupTableData BluePaletteColorLookupTableData PixelData".split()
)
_PIXELS: Final = 0x7FE00010
_SEQUENCES: Final = ("ModalityLUTSequence", "VOILUTSequence")
_GROUPS: Final = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")  # the frame's own count more
_MACROS: Final = ("FrameVOILUTSequence", "PixelValueTransformationSequence")  # in an item of these
_DECIMALS: Final = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept")
_BYTES: Final = (None, "OB", "OW", "OB or OW", "UN", "US")  # left as bytes by pydicom, or a US of 64 kB at most
_META_LENGTH: Final = b"\x02\0\0\0UL\x04\0"  # the first element of group 2
_BARE: Final = re.compile(rb"\x08\0[\0-\x18]\0")  # the first element of group 8, little endian
_EXPLICIT: Final = re.compile(rb"....(AE|AS|CS|DA|DT|IS|LO|PN|SH|SQ|TM|UI|UL|US)", re.DOTALL)
_UID_ROOT: Final = b"1.2.840.10008."
_ITEM: Final = (b"\xfe\xff\0\xe0", b"\xff\xfe\xe0\0")  # its tag, little and big endian
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
    """A file in memory that limits the number of reads and records a read beyond its end.

    The value of SpecificCharacterSet is read as blank: pydicom looks up each of its names while it reads, and no text
    of a file is ever shown.
    """

    def __init__(self, data: bytes, max_reads: int = MAX_READS) -> None:
        super().__init__(data)
        self.is_implicit = False
        self._size = len(data)
        self._reads_left = max_reads
        self._header = b""  # of the character set, as far as it was read
        self._came_up_short = False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._header = b""
        return super().seek(offset, whence)

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise ImageError("unreadable_image")
        found = super().read(size)
        self._came_up_short |= 0 < len(found) < (size or 0)
        if found.startswith(_ITEM):
            self._reads_left -= READS_OF_AN_ITEM
        if self._header:
            return self._character_set(found)
        if size == 8 and found.startswith(_CHARACTER_SET):
            self._character_set(found)
        return found

    def _character_set(self, found: bytes) -> bytes:
        """Return the next piece of the element: its header as it is, its value blank. Refuse a long one."""
        if self._header and not self._states_long_length():
            self._header = b""
            return b" " * len(found)
        self._header += found
        length = None if self._states_long_length() else self._length()
        if length is not None and length > MAX_VALUE_BYTES:
            raise ImageError("unreadable_image")
        if length == 0:
            self._header = b""
        return found

    def _states_long_length(self) -> bool:
        """Tell whether 4 bytes of the header, its length, are still to come."""
        from pydicom.valuerep import EXPLICIT_VR_LENGTH_32  # noqa: PLC0415

        return (
            len(self._header) == 8
            and not self.is_implicit
            and self._header[4:6].decode("latin-1") in (EXPLICIT_VR_LENGTH_32)
        )

    def _length(self) -> int:
        order: Literal["little", "big"] = "little" if self._header.startswith(_CHARACTER_SET[0]) else "big"
        is_short = len(self._header) == 8 and not self.is_implicit and self._header[4:6].isalpha()
        return int.from_bytes(self._header[6 if is_short else -4 :], order)

    @property
    def is_truncated(self) -> bool:
        """Whether the last element reached beyond the end."""
        return self._came_up_short or self.tell() > self._size


def read(data: bytes, max_pixels: int) -> tuple[Any, str]:
    """Return the relevant elements, up to the pixels, and the transfer syntax. Pixels stay encoded."""
    source = _Source(data)
    syntax = _transfer_syntax(data, source)
    if syntax not in (*NATIVE, RLE, *JPEG, *JPEG_LS, *JPEG_2000):
        raise ImageError("unsupported_image", reason="encoding")
    if syntax == _DEFLATED:
        source = _Source(_inflate(data[source.tell() :], max_pixels))
    implicit, little = syntax == IMPLICIT, syntax != BIG_ENDIAN
    dataset = _elements(source, implicit=implicit, little=little)
    if "PixelData" not in dataset and source.is_truncated:
        raise ImageError("unreadable_image")
    dataset.set_original_encoding(implicit, little)
    _take_from_groups(dataset)
    return dataset, syntax


def find_start(data: bytes) -> int | None:
    """Return the offset of the first element; None where the bytes do not begin as a DICOM file does.

    That is a preamble of 128 bytes and DICM; either or both may be missing. A bare data set begins with an element of
    group 8 and soon names a UID of the standard.
    """
    if data.startswith(b"DICM", 128):
        return 132
    if data.startswith(b"DICM"):
        return 4
    if data.startswith(_META_LENGTH, 128):
        return 128
    is_bare = _BARE.match(data) and _UID_ROOT in data[:MAX_VALUE_BYTES]
    return 0 if data.startswith(_META_LENGTH) or is_bare else None


def _transfer_syntax(data: bytes, source: _Source) -> str:
    """Return the transfer syntax that the meta information states, or that a bare data set shows."""
    source.seek(find_start(data) or 0)
    if source.tell() == 0 and _BARE.match(data):
        return EXPLICIT if _EXPLICIT.match(data) else IMPLICIT
    meta = _elements(source, implicit=False, little=True, stop_when=lambda tag, *_: tag >> 16 != 2)
    return str(meta.TransferSyntaxUID)


def _elements(source: _Source, *, implicit: bool, little: bool, stop_when: Any = None) -> Any:
    pydicom = _pydicom()
    from pydicom.filereader import data_element_generator  # noqa: PLC0415

    source.is_implicit = implicit
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
    """Return an element whose value pydicom may convert: no longer than its kind is, a sequence read with a limit."""
    if name in _GROUPS:
        return element
    if name in _SEQUENCES:
        return _sequence(element) if element.is_raw else element
    if name.endswith("Data"):
        _require_bytes(element, None if name == "PixelData" else MAX_TABLE_BYTES)
    elif not element.is_raw or len(element.value or b"") > MAX_VALUE_BYTES:
        raise ImageError("unreadable_image")
    elif name in _DECIMALS:
        return element._replace(value=(element.value or b"").replace(b",", b"."))
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
    is_implicit = element.is_implicit_VR or element.VR == "UN"
    source.is_implicit = is_implicit
    items = read_sequence(source, is_implicit, element.is_little_endian, len(data), "iso8859")
    return _pydicom().dataelem.DataElement(element.tag, "SQ", items)


def _take_from_groups(dataset: Any) -> None:
    """Let the window and rescale that the functional groups state for the first frame count for the data set."""
    for group in _GROUPS:
        frame = _first_item(dataset, group)
        for macro in _MACROS:
            stated = _first_item(frame, macro)
            for name in (*_DECIMALS, "VOILUTFunction"):
                if name in stated:
                    dataset[name] = check_element(stated.get_item(name), name)


def _first_item(dataset: Any, name: str) -> Any:
    """Return the first item of a sequence, the only one that is read where the file states its length; else nothing."""
    if name not in dataset:
        return {}
    element = dataset.get_item(name)
    if element.is_raw:
        data, order = element.value or b"", "<" if element.is_little_endian else ">"
        length = struct.unpack_from(order + "L", data, 4)[0] if len(data) >= 8 else 0
        element = _sequence(element if length == 0xFFFFFFFF else element._replace(value=data[: 8 + length]))
    return next(iter(element.value), {})


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
