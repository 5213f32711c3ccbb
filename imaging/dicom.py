"""From the bytes of a DICOM file to an upright 8-bit image. Nothing else of the file leaves this module.

Only the elements named in _ELEMENTS are read, none of them about a patient; what pydicom would log or warn of is
switched off, and no exception of its goes further, since their texts quote the file.
"""

import functools
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging.image import MIN_SIDE_PIXELS, DecoderFacts, ImageError

MODALITIES: Final = ("CR", "DX", "RG", "XA", "MG")  # what radiographs are stored as
MAX_READS: Final = 20_000  # elements, items and fragments of a file; a radiograph has some hundreds
MAX_SEQUENCE_READS: Final = 1_000  # of a sequence of look-up tables, which has some tens
MAX_VALUE_BYTES: Final = 1_024  # pydicom makes an object of each part of a value; the longest of a radiograph has 64
MAX_CHARACTER_SET_BYTES: Final = 64
MAX_HEADER_BYTES: Final = 2_000_000  # of a deflated file, before its pixels; as many may follow them
MAX_TABLE_BYTES: Final = 2 * 65_536
MAX_JPEG_SCANS: Final = 64
MAX_SCANNED_PIXELS: Final = 600_000_000  # scans times pixels: a progressive JPEG of 49 megapixels has 10 scans
MAX_SEGMENTS: Final = 20_000  # of a JPEG or JPEG 2000 frame
MAX_TILES: Final = 1_024
MAX_LAYERS: Final = 64
MAX_CODE_BLOCKS: Final = 200_000  # 49 megapixels of colour have 50,000 in the usual 64 x 64
SAMPLE_BITS: Final = (8, 10, 12, 14, 16)
ROWS_AT_ONCE: Final = 64  # looked up: NumPy turns samples into indices of 8 bytes

# Defined terms of Modality, PS3.3 C.7.3.1.1.1, and the retired ones: the only text of a file that goes out.
_OTHER_MODALITIES: Final = frozenset(
    "ANN AR ASMT AU BDUS BI BMD CD CF CFM CP CS CT CTPROTOCOL DD DF DG DM DMS DOC DS EC ECG EEG EMG EOG EPS ES FA FID"
    " FS GM HC HD IO IOL IVOCT IVUS KER KO LEN LP LS M3D MA MR MS NM OAM OCT OP OPM OPR OPT OPTBSV OPTENF OPV OSS OT PA"
    " PLAN POS PR PT PX REG RESP RF RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR"
    " SRF ST STAIN TEXTUREMAP TG US VA VF VIDD XAPROTOCOL XC".split()
)
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
_IMPLICIT, _BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_NATIVE: Final = (_IMPLICIT, _EXPLICIT, _BIG_ENDIAN, _DEFLATED)
_RLE: Final = "1.2.840.10008.1.2.5"
_DECODERS: Final = {  # transfer syntax -> the function of imagecodecs that decodes a frame
    "1.2.840.10008.1.2.4.50": "jpeg8_decode",  # baseline
    "1.2.840.10008.1.2.4.51": "jpeg8_decode",  # extended, 8 or 12 bits
    "1.2.840.10008.1.2.4.57": "jpeg8_decode",  # lossless
    "1.2.840.10008.1.2.4.70": "jpeg8_decode",  # lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": "jpegls_decode",
    "1.2.840.10008.1.2.4.81": "jpegls_decode",  # near-lossless
    "1.2.840.10008.1.2.4.90": "jpeg2k_decode",  # lossless
    "1.2.840.10008.1.2.4.91": "jpeg2k_decode",
}
_STARTS_OF_FRAME: Final = (*range(0xFFC0, 0xFFC4), *range(0xFFC5, 0xFFC8), 0xFFF7)  # no arithmetic coding
_JPEG_MARKERS: Final = (0xFFC4, 0xFFDB, 0xFFDD, *range(0xFFE0, 0xFFF0), 0xFFF8, 0xFFFE)  # segments before it
_JPEG_2000_MARKERS: Final = frozenset(  # of segments, those of part 1 of the standard, but for SIZ, SOT and SOD
    (0xFF50, 0xFF52, 0xFF53, 0xFF55, 0xFF57, 0xFF58, 0xFF59, *range(0xFF5C, 0xFF62), 0xFF63, 0xFF64)
)
_PHOTOMETRIC: Final = {
    1: ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
    3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
}


def is_dicom(data: bytes) -> bool:
    """Tell whether the bytes begin as a DICOM file does: a preamble of 128 bytes, then DICM."""
    return data[128:132] == b"DICM"


def decode(data: bytes, max_pixels: int) -> tuple[Image.Image, DecoderFacts]:
    """Decode the first frame as it is meant to be shown: 8-bit, mode L where it is grey and RGB where it is not.

    Raises ImageError: unsupported_image (with a `reason`: modality, unknown_modality, no_pixels, encoding),
    too_many_pixels (of all frames) and image_too_small, all judged before any pixel is
    decoded; unreadable_image for what is damaged.
    """
    try:
        dataset, syntax = _read(data, max_pixels)
        _check(dataset, max_pixels)
        return _show(dataset, _first_frame(dataset, syntax)), _facts(dataset)
    except ImageError:
        raise
    except Exception:  # noqa: BLE001 a damaged file raises whatever its parser runs into, with the file's words in it
        raise ImageError("unreadable_image") from None


@functools.cache
def _pydicom() -> Any:
    """Import pydicom (0.2 s, 40 MB: only where a DICOM file comes) and make it silent."""
    import pydicom  # noqa: PLC0415
    from pydicom import config  # noqa: PLC0415

    config.settings.reading_validation_mode = config.IGNORE
    for name in ("pydicom", "pylibjpeg", "openjpeg", "libjpeg", "rle"):
        logging.getLogger(name).disabled = True
    warnings.filterwarnings("ignore", module=r"(pydicom|dicom|pylibjpeg|openjpeg|rle|jpeg_ls)\b")
    return pydicom


class _Source(BytesIO):
    """A file in memory that refuses endless reading and remembers being asked for more than it holds."""

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
        """Refuse a SpecificCharacterSet that is too long: pydicom looks each of its values up while it reads."""
        order = "<" if header.startswith(_CHARACTER_SET[0]) else ">"
        is_short = header[4:6] == b"CS"
        (length,) = (
            struct.unpack_from(order + "H", header, 6) if is_short else struct.unpack_from(order + "I", header, 4)
        )
        if length > MAX_CHARACTER_SET_BYTES:
            raise ImageError("unreadable_image")
        self._max_bytes = MAX_CHARACTER_SET_BYTES  # an implicit length may look like CS and a short one

    @property
    def is_truncated(self) -> bool:
        """Whether the last element reached beyond the end."""
        return self._came_up_short or self.tell() > self._size


def _read(data: bytes, max_pixels: int) -> tuple[Any, str]:
    """Return the elements that matter, up to the pixels, and the transfer syntax. Pixels stay encoded."""
    source = _Source(data)
    source.seek(132)
    meta = _elements(source, implicit=False, little=True, stop_when=lambda tag, *_: tag >> 16 != 2)
    syntax = str(meta.TransferSyntaxUID)
    if syntax not in (*_NATIVE, _RLE, *_DECODERS):
        raise ImageError("unsupported_image", reason="encoding")
    if syntax == _DEFLATED:
        source = _Source(_inflate(data[source.tell() :], max_pixels))
    implicit, little = syntax == _IMPLICIT, syntax != _BIG_ENDIAN
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
            found[element.tag] = _judged(element, pydicom.datadict.keyword_for_tag(element.tag))
        if element.tag == _PIXELS:
            break
    dataset = pydicom.Dataset()
    dataset.update(found)  # one by one: what is in a sequence learns so whether samples are signed
    return dataset


def _judged(element: Any, name: str) -> Any:
    """Return an element whose value pydicom may convert: no longer than its kind is, a sequence read with a limit."""
    if name in _SEQUENCES:
        return _sequence(element) if element.is_raw else element
    if name.endswith("Data"):
        _require_bytes(element, None if name == "PixelData" else MAX_TABLE_BYTES)
    elif not element.is_raw or len(element.value or b"") > MAX_VALUE_BYTES:
        raise ImageError("unreadable_image")
    return element


def _require_bytes(element: Any, max_bytes: int | None) -> None:
    """Refuse a table or pixels that pydicom would take apart, and a table longer than any."""
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
    """Inflate a deflated data set as far as the pixels need that its header states, and no further."""
    header = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, MAX_HEADER_BYTES)
    source = _Source(header)
    stated = _elements(source, implicit=False, little=True, stop_when=lambda tag, *_: tag == _PIXELS)
    needed = source.tell() + _native_bytes(stated) + MAX_HEADER_BYTES  # elements may follow the pixels
    if needed > 3 * max_pixels + 2 * MAX_HEADER_BYTES:  # 16-bit grey or 8-bit colour
        raise ImageError("too_many_pixels", limit_megapixels=max_pixels / 1e6)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(data, needed)
    if not inflater.eof:
        raise ImageError("unreadable_image")
    return inflated


def _native_bytes(dataset: Any) -> int:
    """Return how long the pixels of all frames are where they are not compressed; 0 where there are none."""
    frames = max(1, int(dataset.get("NumberOfFrames") or 1))
    sample_bytes, samples = int(dataset.get("BitsAllocated") or 0) // 8, int(dataset.get("SamplesPerPixel") or 1)
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        samples = 2  # two pixels share their colour
    return frames * int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0) * samples * sample_bytes


def _check(dataset: Any, max_pixels: int) -> None:
    """Refuse what is no radiograph, is stored in a way that is not taken, or has a size outside the limits."""
    modality = str(dataset.get("Modality", ""))
    if modality not in MODALITIES:
        _refuse_modality(modality)
    if "PixelData" not in dataset:
        raise ImageError("unsupported_image", reason="no_pixels")
    height, width, frames = int(dataset.Rows), int(dataset.Columns), int(dataset.get("NumberOfFrames") or 1)
    if height * width * max(frames, 1) > max_pixels:
        raise ImageError("too_many_pixels", limit_megapixels=max_pixels / 1e6)
    if min(height, width) < MIN_SIDE_PIXELS:
        raise ImageError("image_too_small", limit=MIN_SIDE_PIXELS)
    is_known = str(dataset.PhotometricInterpretation) in _PHOTOMETRIC.get(int(dataset.SamplesPerPixel), ())
    if not is_known or int(dataset.BitsAllocated) not in (8, 16):
        raise ImageError("unsupported_image", reason="encoding")
    if not 1 <= int(dataset.BitsStored) <= int(dataset.BitsAllocated):
        raise ImageError("unreadable_image")


def _facts(dataset: Any) -> DecoderFacts:
    return DecoderFacts(
        format="DICOM",
        bits=int(dataset.BitsStored),
        inverted=dataset.PhotometricInterpretation == "MONOCHROME1",
        rotated=0,
        mirrored=False,
        frames=max(1, int(dataset.get("NumberOfFrames") or 1)),
        original_size=(int(dataset.Rows), int(dataset.Columns)),
    )


def _refuse_modality(modality: str) -> None:
    accepted = ", ".join(MODALITIES)
    if modality in _OTHER_MODALITIES:
        raise ImageError("unsupported_image", reason="modality", modality=modality, accepted=accepted)
    raise ImageError("unsupported_image", reason="unknown_modality", accepted=accepted)


def _jpeg_frame(frame: bytes) -> tuple[int, int, int, int]:
    """Return precision in bits, height, width and components, as the start of frame of a JPEG or JPEG-LS states.

    Raises ImageError for arithmetic coding, which takes seconds and no radiograph has, and for a marker that is no
    segment's: libjpeg would not skip what is passed over here.
    """
    place = 2
    for _ in range(MAX_SEGMENTS):
        marker, length = struct.unpack_from(">HH", frame, place)
        if marker in _STARTS_OF_FRAME:
            precision, height, width, components = struct.unpack_from(">BHHB", frame, place + 4)
            return precision, height, width, components
        if marker == 0xFFFF:  # a fill byte
            place += 1
        elif marker in _JPEG_MARKERS and length >= 2:
            place += 2 + length
        else:
            break
    raise ImageError("unreadable_image")


def _jpeg_2000_frame(stream: bytes) -> tuple[int, int, int, int]:
    """Return precision in bits, height, width and components, as the SIZ segment of a JPEG 2000 states.

    Raises ImageError where tiles, layers or code blocks are many more than radiographs have: OpenJPEG allocates each.
    """
    right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
    tile_width, tile_height = struct.unpack_from(">2I", stream, 24)
    components, precision = struct.unpack_from(">HB", stream, 40)
    height, width = bottom - top, right - left
    is_endless = math.ceil(bottom / tile_height) * math.ceil(right / tile_width) > MAX_TILES
    if is_endless or any(
        layers > MAX_LAYERS or components * _code_blocks(height, width, style) > MAX_CODE_BLOCKS
        for layers, style in _coding_styles(stream, components)
    ):
        raise ImageError("unreadable_image")
    return (precision & 0x7F) + 1, height, width, components


def _coding_styles(stream: bytes, components: int) -> Iterator[tuple[int, bytes]]:
    """Return the layers and what else each COD and COC segment states, ISO 15444-1 A.6.1 and A.6.2."""
    for marker, body in _jpeg_2000_segments(stream):
        if marker == 0xFF52:
            yield struct.unpack_from(">H", body, 2)[0], body[:1] + body[5:]
        elif marker == 0xFF53:
            yield 1, body[1 if components < 257 else 2 :]


def _jpeg_2000_segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Walk the segments of all headers, the image's and those of the parts of tiles, over the data between them."""
    place, end_of_part = 4 + struct.unpack_from(">H", stream, 4)[0], 0
    for _ in range(MAX_SEGMENTS):
        marker, length = struct.unpack_from(">HH", stream, place)
        if marker == 0xFF93:
            place = end_of_part
            if len(stream) - place < 4 or stream.startswith(b"\xff\xd9", place):
                return
            continue
        if marker == 0xFF90:
            part_bytes = struct.unpack_from(">I", stream, place + 6)[0]
            end_of_part = place + part_bytes if part_bytes else len(stream)
        elif marker not in _JPEG_2000_MARKERS:
            break
        yield marker, stream[place + 4 : place + 2 + length]
        place += 2 + length
    raise ImageError("unreadable_image")


def _code_blocks(height: int, width: int, style: bytes) -> int:
    """Return about how many code blocks a component has: a precinct, where stated, bounds those in it."""
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


def _first_frame(dataset: Any, syntax: str) -> NDArray[Any]:
    """Decode the first frame: (height, width) of samples or (height, width, 3) of RGB."""
    pixels = _native_frame(dataset, syntax) if syntax in _NATIVE else _encapsulated_frame(dataset, syntax)
    is_ybr = str(dataset.PhotometricInterpretation).startswith("YBR_FULL")
    if is_ybr and _DECODERS.get(syntax) != "jpeg8_decode":  # libjpeg has turned it to RGB
        return _rgb(pixels)
    return pixels


def _rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert YCbCr of 8 bits to RGB, some rows at once: Pillow takes 4 bytes a pixel for each of the two."""
    colours = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        colours[rows] = np.asarray(Image.fromarray(pixels[rows], mode="YCbCr").convert("RGB"))
    return colours


def _native_frame(dataset: Any, syntax: str) -> NDArray[Any]:
    """Return the samples of a frame that is not compressed, where they lie in the file if that can be, unsigned."""
    height, width, components = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    samples = _native_samples(dataset, syntax)
    if dataset.PhotometricInterpretation == "YBR_FULL_422":  # Y, Y, Cb, Cr
        pairs = samples[: height * width * 2].reshape(height, width // 2, 1, 4)
        brightness, colours = pairs[..., :2].swapaxes(2, 3), pairs[..., 2:].repeat(2, axis=2)
        return np.concatenate([brightness, colours], axis=3).reshape(height, width, 3)
    samples = samples[: height * width * components]
    if components == 1:
        return samples.reshape(height, width)
    if int(dataset.get("PlanarConfiguration") or 0) == 1:
        return samples.reshape(components, height, width).transpose(1, 2, 0)
    return samples.reshape(height, width, components)


def _native_samples(dataset: Any, syntax: str) -> NDArray[Any]:
    """Return all samples there are in the order of the file; fewer than the header states are refused."""
    pixels = dataset.get_item("PixelData")
    if len(pixels.value or b"") < _native_bytes(dataset):
        raise ImageError("unreadable_image")
    is_big, sample_bytes = syntax == _BIG_ENDIAN, int(dataset.BitsAllocated) // 8
    whole = len(pixels.value) // sample_bytes
    if is_big and sample_bytes == 1 and pixels.VR == "OW":  # two pixels are a word
        return np.frombuffer(pixels.value, np.uint16, whole // 2).byteswap().view(np.uint8)
    return np.frombuffer(pixels.value, f"{'>' if is_big else '<'}u{sample_bytes}", whole)


def _encapsulated_frame(dataset: Any, syntax: str) -> NDArray[Any]:
    from pydicom.encaps import get_frame  # noqa: PLC0415

    if dataset.get_item("PixelData").length != 0xFFFFFFFF:  # its fragments were not counted while they were read
        raise ImageError("unreadable_image")
    frame = get_frame(dataset.PixelData, 0, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
    return _rle_frame(dataset, frame) if syntax == _RLE else _compressed_frame(dataset, syntax, frame)


def _rle_frame(dataset: Any, frame: bytes) -> NDArray[Any]:
    """Decode the byte planes of an RLE frame, PS3.5 annex G; Pillow unpacks each, and never more than it holds."""
    height, width, components = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    sample_bytes = int(dataset.BitsAllocated) // 8
    count, *starts = struct.unpack_from("<16I", frame)
    if count != components * sample_bytes:
        raise ImageError("unreadable_image")
    ends = [*starts[1:count], len(frame)]
    one_row = (height * width, 1)
    planes = [
        np.asarray(Image.frombytes("L", one_row, frame[start:end], "packbits", "L")).reshape(height, width)
        for start, end in zip(starts[:count], ends, strict=True)
    ]
    order = f">u{sample_bytes}"  # the most significant plane of a sample comes first
    samples = [
        np.stack(planes[first : first + sample_bytes], axis=2).view(order)[..., 0].astype(order[1:])
        for first in range(0, count, sample_bytes)
    ]
    return samples[0] if components == 1 else np.stack(samples, axis=2)


def _compressed_frame(dataset: Any, syntax: str, frame: bytes) -> NDArray[Any]:
    """Decode a JPEG, JPEG-LS or JPEG 2000 frame; one that is not of the size its header states is never begun."""
    import imagecodecs  # noqa: PLC0415

    is_jpeg = frame[:2] == b"\xff\xd8"
    is_whole = frame.rstrip(b"\0").endswith(b"\xff\xd9")  # libjpeg fills what is missing with grey
    scans = frame.count(b"\xff\xda")
    is_endless = scans > MAX_JPEG_SCANS or scans * int(dataset.Rows) * int(dataset.Columns) > MAX_SCANNED_PIXELS
    if is_jpeg and (is_endless or not is_whole):
        raise ImageError("unreadable_image")
    if not is_jpeg:
        frame = frame[frame.index(b"\xff\x4f\xff\x51") :]  # out of the boxes of a .jp2, which some files keep
    precision, *shape = _jpeg_frame(frame) if is_jpeg else _jpeg_2000_frame(frame)
    stated = [int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)]
    if shape != stated or precision > int(dataset.BitsAllocated):
        raise ImageError("unreadable_image")
    pixels = getattr(imagecodecs, _DECODERS[syntax])(frame)
    if pixels.shape not in (tuple(shape), tuple(shape[:2])):
        raise ImageError("unreadable_image")
    return np.asarray(pixels)


def _show(dataset: Any, pixels: NDArray[Any]) -> Image.Image:
    """Turn decoded samples into what a viewer shows."""
    bits = int(dataset.BitsStored)
    if pixels.ndim == 3:
        return Image.fromarray(pixels if pixels.itemsize == 1 else (pixels >> max(bits - 8, 0)).astype(np.uint8))
    shift = max(int(dataset.get("HighBit", bits - 1)) + 1 - bits, 0)
    samples = pixels.astype(np.uint16)
    samples >>= shift
    samples &= 2**bits - 1  # above the stored bits may stand an overlay
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return Image.fromarray(_shown(_palette(dataset, bits), samples))
    return Image.fromarray(_shown(_brightness(dataset, bits, samples), samples))


def _shown(table: NDArray[np.uint8], samples: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return what a table of one row for each possible sample gives for each pixel."""
    pixels = np.empty(samples.shape + table.shape[1:], np.uint8)
    for top in range(0, len(samples), ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        table.take(samples[rows], axis=0, out=pixels[rows], mode="clip")  # the default mode would copy `out`
    return pixels


def _palette(dataset: Any, bits: int) -> NDArray[np.uint8]:
    """Return the colour of each possible sample: (2^bits, 3)."""
    from pydicom.pixels.processing import apply_color_lut  # noqa: PLC0415

    samples = np.arange(2**bits, dtype=np.uint8 if bits <= 8 else np.uint16)
    colours = apply_color_lut(samples, dataset)
    return (colours >> (8 * (colours.itemsize - 1))).astype(np.uint8)


def _brightness(dataset: Any, bits: int, samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the brightness of each possible sample: modality LUT, then VOI LUT or the first window, then polarity.

    The formulas are those of PS3.3 C.11.1 and C.11.2, applied to the 2^bits possible samples, not to every pixel.
    """
    stored = np.arange(2**bits, dtype=np.int64)
    if int(dataset.get("PixelRepresentation", 0)) == 1:
        stored[2 ** (bits - 1) :] -= 2**bits
    values, white = _modality_values(dataset, stored)
    window = _window(dataset)
    if dataset.get("VOILUTSequence"):
        values, white = _look_up(dataset.VOILUTSequence[0], np.rint(values).astype(np.int64))
        shares = values / white
    elif window:
        shares = _windowed(values, *window)
    elif white:
        shares = values / white
    else:
        shares = (
            _unwindowed(stored, samples, bits) if values[1] >= values[0] else 1 - _unwindowed(stored, samples, bits)
        )
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shares = 1 - shares
    if not np.all(np.isfinite(shares)):
        raise ImageError("unreadable_image")
    return np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)


def _modality_values(dataset: Any, stored: NDArray[np.int64]) -> tuple[NDArray[Any], float | None]:
    """Apply the modality LUT or the rescale; the second value is the LUT's white, None where there is no LUT."""
    if dataset.get("ModalityLUTSequence"):
        return _look_up(dataset.ModalityLUTSequence[0], stored)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    return stored * slope + intercept, None


def _look_up(item: Any, values: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """Return what a look-up table gives for each value, and its white; values off its ends take its ends."""
    _judged(item.get_item("LUTDescriptor"), "LUTDescriptor")
    _judged(item.get_item("LUTData"), "LUTData")
    _, first, bits = item.LUTDescriptor
    data = item.LUTData
    if isinstance(data, bytes):
        entries = int(item.LUTDescriptor[0]) or 2**16
        order = ">" if item.original_encoding[1] is False else "<"
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * entries else f"{order}u2")[:entries]
    table = np.asarray(data, dtype=np.float64)
    return table[np.clip(values - int(first), 0, len(table) - 1)], 2.0 ** int(bits) - 1


def _window(dataset: Any) -> tuple[float, float, str] | None:
    """Return centre, width and function of the first window; None where there is none or its width means nothing."""
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if centre is None or width is None or not width >= (1 if function == "LINEAR" else 1e-6):
        return None
    return centre, width, function


def _first(value: Any) -> float | None:
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = next(iter(value), None)
    return None if value in (None, "") else float(value)


def _windowed(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Return the share of white, 0 to 1, that a window gives each value."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return np.clip((values - centre) / max(width, 1e-9) + 0.5, 0, 1)


def _unwindowed(stored: NDArray[np.int64], samples: NDArray[Any], bits: int) -> NDArray[np.float64]:
    """Return the share of white of each stored value where the file says nothing of how to show it.

    White is 2^b - 1 for the bits stored; where all 16 are, for the fewest usual bits that hold the largest sample,
    since films of 10, 12 or 14 bits come that way. Samples below 0 have no such scale: smallest to largest.
    """
    sign = 2 ** (bits - 1) if stored[-1] < 0 else 0
    ordered = samples ^ sign if sign else samples  # without it, negative samples would come after the others
    low, high = int(stored[ordered.min() ^ sign]), int(stored[ordered.max() ^ sign])
    if low < 0:
        return (stored - low) / max(high - low, 1)
    white = float(stored.max())
    if bits == 16:
        white = min(white, next(2.0**used - 1 for used in SAMPLE_BITS if high < 2**used))
    return stored / white
