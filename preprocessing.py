"""From the bytes of an upload to the array that the network expects. Serving and training share every line."""

import io
import re
import struct
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageStat, PngImagePlugin, TiffImagePlugin

from imaging import dicom
from imaging.file_structure import check_structure
from imaging.image import MIN_SIDE_PIXELS, DecoderFacts, ImageError

__all__ = ["DecoderFacts", "ImageError", "content_of", "decode", "is_blank", "prepare"]

Resize = Literal["letterbox", "stretch"]
Scaling = Literal["unit", "none"]

MAX_JPEG_SCANS: Final = 64
MAX_SCANNED_PIXELS: Final = 600_000_000  # scans times pixels: each scan visits every pixel again
MAX_PAGES_COUNTED: Final = 100
MAX_EXIF_BYTES: Final = 200_000
MAX_TILE_SIDE: Final = 1024  # of a TIFF, unless it is larger than half that itself

BLANK_DEVIATION: Final = 2  # of 255: no radiograph is as even as that
BAND: Final = 16  # the part of an image's rows that nearly always shows that it is not blank
ROWS_AT_ONCE: Final = 64  # of an image scaled to 8 bits: a film of 50 megapixels as float32 would take 200 MB
SAMPLE_BITS: Final = (8, 10, 12, 14, 16)
_SIGNATURES: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), "TIFF"),
    (re.compile(rb"BM"), "BMP"),
)
ACCEPTED_FORMATS: Final = "PNG, JPEG, WebP, TIFF, BMP, DICOM"  # DICOM is decoded by a module of its own
_TURNED_DEGREES: Final = {3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}  # clockwise, after the mirroring
_MIRRORED: Final = (2, 4, 5, 7)
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

PngImagePlugin.MAX_TEXT_MEMORY = 4_000_000  # bytes of inflated text chunks; Pillow's own limit is 64 MiB


class Content(NamedTuple):
    """The part of the network's input that shows the image, in pixels of the input."""

    top: int
    left: int
    height: int
    width: int


def decode(data: bytes, max_pixels: int) -> tuple[Image.Image, DecoderFacts]:
    """Decode a file of any accepted format to an upright 8-bit image: mode L where it is grey, RGB where it is not.

    Raises ImageError: unsupported_image (no accepted signature, or a kind that is not taken), too_many_pixels and
    image_too_small (judged from the header, before any pixel is decoded), unreadable_image (damaged, or too expensive).
    """
    if dicom.is_dicom(data):
        return dicom.decode(data, max_pixels)
    check_structure(data)
    return _decode_picture(data, max_pixels)


def _decode_picture(data: bytes, max_pixels: int) -> tuple[Image.Image, DecoderFacts]:
    image_format = _recognise(data)
    image = _open(data, image_format, max_pixels)
    stored = (image.height, image.width)
    turned_by_pillow = _orientation(image) if image_format == "TIFF" else 1  # while it loads a TIFF
    _load(image)
    converted, bits = _to_8_bit(image)
    orientation = _orientation(image)
    found = max(orientation, turned_by_pillow)
    facts = DecoderFacts(
        format=image_format,
        bits=bits,
        inverted=_is_white_zero(image),
        rotated=_TURNED_DEGREES.get(found, 0),
        mirrored=found in _MIRRORED,
        original_size=stored,
        frames=_frames(image),  # last: it leaves the first page of a TIFF
    )
    return _turn_upright(converted, orientation), facts


def prepare(
    image: Image.Image, size: tuple[int, int], channels: int, scaling: Scaling, resize: Resize
) -> NDArray[np.float32]:
    """Turn a decoded image into the network's input: float32, (1, height, width, channels).

    `size` is (height, width); `channels` is 1 or 3. Values lie in 0 to 1 for scaling "unit", 0 to 255 for "none".
    "letterbox" keeps the aspect ratio and pads with black, "stretch" does not. Bilinear, antialiased when shrinking.
    """
    mode = "L" if channels == 1 else image.mode
    place = _letterbox if resize == "letterbox" else _fit
    resized = place(_in_mode(image, mode), size)
    pixels = np.asarray(resized, dtype=np.float32)
    if scaling == "unit":
        pixels = pixels / np.float32(255)
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
        pixels = np.repeat(pixels, channels, axis=2) if channels > 1 else pixels
    return pixels[np.newaxis]


def content_of(image_size: tuple[int, int], size: tuple[int, int], resize: Resize) -> Content:
    """Return where an image of (height, width) lies in an input of that size: all of it unless letterboxed."""
    if resize == "stretch":
        return Content(0, 0, *size)
    scale = min(size[0] / image_size[0], size[1] / image_size[1])
    height, width = max(1, round(image_size[0] * scale)), max(1, round(image_size[1] * scale))
    return Content((size[0] - height) // 2, (size[1] - width) // 2, height, width)


def is_blank(image: Image.Image) -> bool:
    """Tell whether a decoded image is one even surface: a standard deviation under 2 of 255 in every channel.

    A band across the middle settles it for nearly every radiograph: the variance of the whole is at least that of a
    part times its share of the pixels.
    """
    rows = max(1, image.height // BAND)
    top = (image.height - rows) // 2
    band = image.crop((0, top, image.width, top + rows))
    enough = BLANK_DEVIATION**2 * image.height / rows
    return max(ImageStat.Stat(band).var) < enough and max(ImageStat.Stat(image).stddev) < BLANK_DEVIATION


def _frames(image: Image.Image) -> int:
    """Count frames; the pages of a TIFF, which Pillow finds one by one in Python, up to MAX_PAGES_COUNTED."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(getattr(image, "n_frames", 1))
    try:
        for page in range(1, MAX_PAGES_COUNTED):
            image.seek(page)
    except Exception:  # noqa: BLE001 the end, or a later page that is damaged, which harms nobody
        return page
    return MAX_PAGES_COUNTED


def _recognise(data: bytes) -> str:
    """Return Pillow's name of the format that the first bytes belong to. Raise ImageError: unsupported_image."""
    for signature, image_format in _SIGNATURES:
        if signature.match(data):
            return image_format
    raise ImageError("unsupported_image", formats=ACCEPTED_FORMATS)


def _open(data: bytes, image_format: str, max_pixels: int) -> Image.Image:
    """Read the header alone; refuse a size outside the limits before a pixel is decoded."""
    try:
        image = Image.open(io.BytesIO(data), formats=[image_format])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError("too_many_pixels", limit_megapixels=max_pixels / 1e6) from None
    except Exception as error:  # a damaged header raises whatever the format's parser runs into
        raise ImageError("unreadable_image") from error
    if _is_laborious(image, data):
        raise ImageError("unreadable_image")
    if any(tile[0] == "bmp_rle" for tile in image.tile):  # decoded in Python, seconds for 20 MB; no radiograph is
        raise ImageError("unsupported_image", formats=ACCEPTED_FORMATS)
    if image.width * image.height > max_pixels:
        raise ImageError("too_many_pixels", limit_megapixels=max_pixels / 1e6)
    if min(image.size) < MIN_SIDE_PIXELS:
        raise ImageError("image_too_small", limit=MIN_SIDE_PIXELS)
    return image


def _is_laborious(image: Image.Image, data: bytes) -> bool:
    """Tell an image that costs more than its pixels: by very many scans, by EXIF, by tiles much larger than itself."""
    scans = min(MAX_JPEG_SCANS, max(1, MAX_SCANNED_PIXELS // (image.width * image.height)))
    tile = (_whole(image, TiffImagePlugin.TILEWIDTH, 0), _whole(image, TiffImagePlugin.TILELENGTH, 0))
    return (
        _scans(image, data) > scans
        or len(image.info.get("exif", b"")) > MAX_EXIF_BYTES
        or any(side > max(MAX_TILE_SIDE, 2 * own) for side, own in zip(tile, image.size, strict=True))
    )


def _whole(image: Image.Image, tag: int, default: int) -> int:
    """Return a TIFF's tag that is one whole number above 0, else the default."""
    value = getattr(image, "tag_v2", {}).get(tag)
    return value if isinstance(value, int) and value > 0 else default


def _scans(image: Image.Image, data: bytes) -> int:
    """Count the scans of a JPEG, or of the JPEG in a TIFF beyond the one of each strip or tile; else 0."""
    if image.format in ("JPEG", "MPO"):
        return _count_starts_of_scan(data)
    if "jpeg" in str(image.info.get("compression")):
        return _count_starts_of_scan(data) - _parts(image) + 1
    return 0


def _parts(image: Image.Image) -> int:
    """Count the strips or tiles of a TIFF by its sides, not by how many the file lists."""
    rows = _whole(image, TiffImagePlugin.ROWSPERSTRIP, image.height)
    width = _whole(image, TiffImagePlugin.TILEWIDTH, image.width)
    height = _whole(image, TiffImagePlugin.TILELENGTH, rows)
    planes = len(image.getbands()) if _whole(image, TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2 else 1
    return -(-image.width // width) * -(-image.height // height) * planes


def _count_starts_of_scan(data: bytes) -> int:
    """Count the markers FF DA as `data.count` would, in a tenth of the time."""
    pairs = (np.frombuffer(data, "<u2", (len(data) - start) // 2, start) for start in (0, 1))
    return sum(int(np.count_nonzero(found == 0xDAFF)) for found in pairs)


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:  # damaged pixels raise OSError, SyntaxError, zlib.error, struct.error, …
        raise ImageError("unreadable_image") from error


def _to_8_bit(image: Image.Image) -> tuple[Image.Image, int | None]:
    """Convert any of Pillow's modes to L or RGB; return the bits that a sample was read with, too."""
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_to_8_bit(image)
    return _to_grey_or_colour(image), 1 if image.mode == "1" else 8


def _to_grey_or_colour(image: Image.Image) -> Image.Image:
    """Convert a mode of at most 8 bits a sample to L or RGB; what is transparent becomes black."""
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.has_transparency_data:
        return _on_black(image)
    return _in_mode(image, "L" if image.mode in ("1", "L") else "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert to a mode, without the copy that Pillow makes of an image which has it.

    Only a TIFF is copied: its pages are counted later, and that leaves the first one.
    """
    is_as_wanted = image.mode == mode and not isinstance(image, TiffImagePlugin.TiffImageFile)
    return image if is_as_wanted else image.convert(mode)


def _on_black(image: Image.Image) -> Image.Image:
    is_grey = image.mode in ("1", "L", "LA")
    if image.mode not in ("LA", "RGBA"):
        image = image.convert("LA" if is_grey else "RGBA")
    opaque = Image.new("L" if is_grey else "RGB", image.size)
    opaque.paste(image, mask=image)
    return opaque


def _scale_to_8_bit(image: Image.Image) -> tuple[Image.Image, int | None]:
    """Scale samples of more than 8 bits, or real numbers, so that the brightness is that of an 8-bit copy.

    The divisor is 2^b - 1 for the fewest usual bits b that hold the largest sample, since films of 10, 12 or 14 bits
    come in 16-bit files; 1 for real numbers up to 1. Samples below 0 have no such scale: smallest to largest.
    """
    samples = np.asarray(image)
    finite: Any = np.isfinite(samples) if image.mode == "F" else True
    low, high = (float(edge(samples, where=finite, initial=0)) for edge in (np.min, np.max))
    white = _white(image.mode, high) if low == 0 else high
    brightness = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), ROWS_AT_ONCE):
        rows = samples[top : top + ROWS_AT_ONCE].astype(np.float32)
        if image.mode == "F":
            np.nan_to_num(rows, copy=False, nan=low, posinf=high, neginf=low)
        rows -= low
        rows *= 255 / (white - low)
        brightness[top : top + ROWS_AT_ONCE] = np.rint(rows, out=rows)
    bits = next((bits for bits in SAMPLE_BITS if white == 2**bits - 1), None)
    return Image.fromarray(255 - brightness if _is_white_zero(image) else brightness), bits


def _white(mode: str, largest: float) -> float:
    """Return the sample value that is shown as white."""
    if mode == "F" and largest <= 1:
        return 1.0
    return next((2.0**bits - 1 for bits in SAMPLE_BITS if largest <= 2**bits - 1), largest)


def _is_white_zero(image: Image.Image) -> bool:
    """Tell whether a TIFF counts from white to black; Pillow turns such samples round up to 8 bits only."""
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where the EXIF block is absent or damaged."""
    try:
        value: Any = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, ValueError, SyntaxError, struct.error, KeyError, IndexError, TypeError):
        return 1
    return value if value in _UPRIGHT else 1


def _turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _letterbox(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale to fit within (height, width), centred on black."""
    content = content_of((image.height, image.width), size, "letterbox")
    canvas = Image.new(image.mode, (size[1], size[0]))
    canvas.paste(_fit(image, (content.height, content.width)), (content.left, content.top))
    return canvas
