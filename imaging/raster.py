"""PNG, JPEG, WebP and BMP files, read by Pillow -> an upright 8-bit image. TIFF shares the general functions."""

import io
import struct
from typing import Any, Final

import numpy as np
from PIL import ExifTags, Image, ImageFile, PngImagePlugin

from imaging import jpeg, png
from imaging.image import DecoderFacts, ImageError
from imaging.limits import MAX_EXIF_BYTES, MAX_TEXT_BYTES, check_size, too_many_pixels
from imaging.samples import scale_to_8_bit

ACCEPTED_FORMATS: Final = ("PNG", "JPEG", "WebP", "TIFF", "BMP", "DICOM")
_TURNED_DEGREES: Final = {3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}  # clockwise, after the mirroring
_UNSUPPORTED_BMP: Final = ("Unsupported BMP bitfields", "Unsupported BMP compression", "Unsupported BMP pixel depth")
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

PngImagePlugin.MAX_TEXT_MEMORY = MAX_TEXT_BYTES


def decode(data: bytes, image_format: str, max_pixels: int) -> tuple[Image.Image, DecoderFacts]:
    """Decode a file whose signature is that of Pillow's `image_format`; see `preprocessing.decode`."""
    if image_format == "JPEG" and jpeg.is_deep(data):
        return _decode_deep_jpeg(data, max_pixels)
    if image_format == "PNG":
        data = png.without_the_rest(data)
    image = _read_jpeg(data, max_pixels) if image_format == "JPEG" else open_image(data, image_format, max_pixels)
    if any(tile[0] == "bmp_rle" for tile in image.tile):  # decoded in Python, seconds for 20 MB; no radiograph is
        raise ImageError("unsupported_image", reason="bmp_encoding")
    load(image)
    transparent = png.transparent_grey(data) if image_format == "PNG" else None
    converted, bits = to_8_bit(image if transparent is None else _with_black(image, transparent))
    orientation = read_orientation(image)
    frames = int(getattr(image, "n_frames", 1))
    facts = facts_of(image_format, bits, orientation, frames, (image.height, image.width))
    return turn_upright(converted, orientation), facts


def _with_black(image: Image.Image, value: int) -> Image.Image:
    """Return a grey image whose samples of a value have become black, without what it says of transparency."""
    samples = np.array(image.convert("L") if image.mode == "1" else image)
    samples[samples == value] = 0
    return Image.fromarray(samples)


def _read_jpeg(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Open a JPEG and decode it, too. Raise ImageError where it is not whole: libjpeg would fill in what is missing."""
    jpeg.check_header(data)
    if jpeg.is_arithmetic(data):
        raise ImageError("unsupported_image", reason="jpeg_arithmetic")
    image = open_image(data, "JPEG", max_pixels)
    load_jpeg(image, data)
    return image


def load_jpeg(image: ImageFile.ImageFile, data: bytes) -> None:
    """Decode the pixels of an opened JPEG. Raise ImageError where it is not whole."""
    headers, end = jpeg.read_scans(data)
    jpeg.check_scans(len(headers), image.width * image.height)
    if len(headers) > 1:
        jpeg.check_all_scans(data, headers)
        load(image)
        with_stuffing = open_file(jpeg.stuffed(data[:end]), "JPEG")
        load(with_stuffing)
        jpeg.check_last_scan(np.asarray(image), np.asarray(with_stuffing))
    else:
        stream = jpeg.Stream(data[:end])
        image.fp = stream
        load(image)
        if stream.is_left_over:
            raise ImageError("unreadable_image")
    jpeg.check_zeros(data[:end], np.asarray(image.crop((0, image.height - 2, image.width, image.height))))


def _decode_deep_jpeg(data: bytes, max_pixels: int) -> tuple[Image.Image, DecoderFacts]:
    """Decode a JPEG that is lossless or of more than 8 bits a sample."""
    jpeg.check_header(data)
    try:
        frame = jpeg.read_frame(data)
        check_size(frame.height, frame.width, 1, max_pixels)
        headers, end = jpeg.read_scans(data)
        jpeg.check_scans(len(headers), frame.height * frame.width)
        pixels = jpeg.decode(data[:end])
    except ImageError:
        raise
    except Exception as error:  # damaged pixels raise an error of their decoder's own
        raise ImageError("unreadable_image") from error
    white = None if frame.precision == 16 else 2**frame.precision - 1
    brightness, bits = scale_to_8_bit(pixels, white)
    return Image.fromarray(brightness), facts_of("JPEG", bits, 1, 1, (frame.height, frame.width))


def open_image(data: bytes, image_format: str, max_pixels: int) -> ImageFile.ImageFile:
    """Read only the header; refuse a size outside the limits before a pixel is decoded. Raise ImageError."""
    try:
        image = open_file(data, image_format)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_many_pixels(max_pixels) from None
    check_size(image.height, image.width, 1, max_pixels)
    if len(image.info.get("exif", b"")) > MAX_EXIF_BYTES:
        raise ImageError("unreadable_image")
    return image


def open_file(data: bytes, image_format: str) -> ImageFile.ImageFile:
    """Read only the header. Raise ImageError, or Pillow's DecompressionBombError."""
    try:
        return Image.open(io.BytesIO(data), formats=[image_format])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    except Exception as error:  # a damaged header can raise anything
        if str(error).startswith(_UNSUPPORTED_BMP):
            raise ImageError("unsupported_image", reason="bmp_encoding") from error
        raise ImageError("unreadable_image") from error


def load(image: Image.Image) -> None:
    """Decode the pixels. Raise ImageError: unreadable_image."""
    try:
        image.load()
    except Exception as error:  # damaged pixels raise OSError, SyntaxError, zlib.error, struct.error, …
        raise ImageError("unreadable_image") from error


def to_8_bit(image: Image.Image) -> tuple[Image.Image, int | None]:
    """Convert any of Pillow's modes to L or RGB; return the bits per sample too."""
    if image.mode.startswith("I") or image.mode == "F":
        brightness, bits = scale_to_8_bit(np.asarray(image))
        return Image.fromarray(brightness), bits
    return _to_grey_or_colour(image), 1 if image.mode == "1" else 8


def _to_grey_or_colour(image: Image.Image) -> Image.Image:
    """Convert a mode of at most 8 bits a sample to L or RGB, without a copy if it is one; transparent becomes black."""
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.has_transparency_data:
        return on_black(image)
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == mode else image.convert(mode)


def on_black(image: Image.Image) -> Image.Image:
    """Lay an image that is partly transparent on black: mode L where it is grey, else RGB."""
    is_grey = image.mode in ("1", "L", "LA")
    if image.mode not in ("LA", "RGBA"):
        image = image.convert("LA" if is_grey else "RGBA")
    opaque = Image.new("L" if is_grey else "RGB", image.size)
    opaque.paste(image, mask=image)
    return opaque


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where the EXIF block is absent or damaged."""
    try:
        value: Any = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, ValueError, SyntaxError, struct.error, KeyError, IndexError, TypeError):
        return 1
    return value if value in _UPRIGHT else 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Undo an EXIF orientation."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def facts_of(
    image_format: str, bits: int | None, orientation: int, frames: int, stored: tuple[int, int]
) -> DecoderFacts:
    """Return the facts of an image in which 0 is black."""
    return DecoderFacts(
        format=image_format,
        bits=bits,
        inverted=False,
        rotated=_TURNED_DEGREES.get(orientation, 0),
        mirrored=orientation in _MIRRORED,
        frames=frames,
        original_size=stored,
    )
