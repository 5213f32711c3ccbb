"""From the bytes of an upload to the array that the network expects. Serving and training share every line."""

import re
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageStat

from config import SCALINGS, Scaling
from imaging import dicom, raster, tiff
from imaging.image import DecoderFacts, ImageError
from imaging.raster import ACCEPTED_FORMATS

__all__ = ["ACCEPTED_FORMATS", "DecoderFacts", "ImageError", "content_of", "decode", "is_blank", "prepare"]

Resize = Literal["letterbox", "stretch"]

BLANK_DEVIATION: Final = 2  # of 255: no radiograph is that uniform
BAND: Final = 16  # one row in 16 nearly always suffices to show that an image is not blank
_SIGNATURES: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), "TIFF"),
    (re.compile(rb"BM"), "BMP"),
)


class Content(NamedTuple):
    """The part of the network's input that shows the image, in pixels of the input."""

    top: int
    left: int
    height: int
    width: int


def decode(data: bytes, max_pixels: int) -> tuple[Image.Image, DecoderFacts]:
    """Decode a file of any accepted format to an upright 8-bit image: mode L where it is grey, RGB where it is not.

    Raise ImageError: unsupported_image (no accepted signature, or a kind that is not accepted), too_many_pixels and
    image_too_small (checked in the header, before any pixel is decoded), unreadable_image (damaged, or too expensive).
    """
    if dicom.is_dicom(data):
        return dicom.decode(data, max_pixels)
    image_format = _recognise(data)
    if image_format == "TIFF":
        return tiff.decode(data, max_pixels)
    return raster.decode(data, image_format, max_pixels)


def prepare(
    image: Image.Image, size: tuple[int, int], channels: int, scaling: Scaling, resize: Resize
) -> NDArray[np.float32]:
    """Turn a decoded image into the network's input: float32, (1, height, width, channels).

    `size` is (height, width); `channels` is 1 or 3. `config.SCALINGS` says which values each scaling gives.
    "letterbox" keeps the aspect ratio and pads with black, "stretch" does not. Bilinear, antialiased when shrinking.
    """
    mode = "L" if channels == 1 else image.mode
    resized = (_letterbox if resize == "letterbox" else _fit)(
        image if image.mode == mode else image.convert(mode), size
    )
    pixels = np.asarray(resized, dtype=np.float32)
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
        pixels = np.repeat(pixels, channels, axis=2) if channels > 1 else pixels
    return SCALINGS[scaling].apply(pixels)[np.newaxis]


def content_of(image_size: tuple[int, int], size: tuple[int, int], resize: Resize) -> Content:
    """Return where an image of (height, width) lies in an input of that size: all of it unless letterboxed."""
    if resize == "stretch":
        return Content(0, 0, *size)
    scale = min(size[0] / image_size[0], size[1] / image_size[1])
    height, width = max(1, round(image_size[0] * scale)), max(1, round(image_size[1] * scale))
    return Content((size[0] - height) // 2, (size[1] - width) // 2, height, width)


def is_blank(image: Image.Image) -> bool:
    """Tell whether a decoded image is uniform: a standard deviation under 2 of 255 in every channel.

    A band across the middle decides it for nearly every radiograph, since the variance of the whole is at least that
    of a part times its share of the pixels.
    """
    rows = max(1, image.height // BAND)
    top = (image.height - rows) // 2
    band = image.crop((0, top, image.width, top + rows))
    enough = BLANK_DEVIATION**2 * image.height / rows
    return max(ImageStat.Stat(band).var) < enough and max(ImageStat.Stat(image).stddev) < BLANK_DEVIATION


def _recognise(data: bytes) -> str:
    """Return Pillow's name of the format that the first bytes belong to. Raise ImageError: unsupported_image."""
    for signature, image_format in _SIGNATURES:
        if signature.match(data):
            return image_format
    raise ImageError("unsupported_image", formats=ACCEPTED_FORMATS)


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _letterbox(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale to fit within (height, width), centred on black."""
    content = content_of((image.height, image.width), size, "letterbox")
    canvas = Image.new(image.mode, (size[1], size[0]))
    canvas.paste(_fit(image, (content.height, content.width)), (content.left, content.top))
    return canvas
