"""From the bytes of an upload to the array that the network expects. Serving and training share every line."""

import io
import struct
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin

Resize = Literal["letterbox", "stretch"]
Scaling = Literal["unit", "none"]

MIN_SIDE_PIXELS: Final = 32
MAX_JPEG_SCANS: Final = 64

_SIGNATURES: Final = ((b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"))
ACCEPTED_FORMATS: Final = ", ".join(dict.fromkeys(name for _, name in _SIGNATURES))
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


class ImageError(Exception):
    """An upload that is no usable image: a code of the API's error table and the facts its sentence states."""

    def __init__(self, code: str, **facts: object) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """Decode an upload to an upright 8-bit image, mode L where the file is grey and RGB where it is not.

    Raises ImageError: unsupported_image (no accepted signature), too_many_pixels and image_too_small (judged from
    the header, before any pixel is decoded), unreadable_image (damaged, or more work than a radiograph can be).
    """
    image_format = _recognise(data)
    if image_format == "JPEG" and data.count(b"\xff\xda") > MAX_JPEG_SCANS:
        raise ImageError("unreadable_image")
    image = _open(data, image_format, max_pixels)
    _load(image)
    return _turn_upright(_to_8_bit(image), _orientation(image))


def prepare(
    image: Image.Image, size: tuple[int, int], channels: int, scaling: Scaling, resize: Resize
) -> NDArray[np.float32]:
    """Turn a decoded image into the network's input: float32, (1, height, width, channels).

    `size` is (height, width); `channels` is 1 or 3. Values lie in 0 to 1 for scaling "unit", 0 to 255 for "none".
    "letterbox" keeps the aspect ratio and pads with black, "stretch" does not. Bilinear, antialiased when shrinking.
    """
    mode = "L" if channels == 1 else image.mode
    resized = _letterbox(image.convert(mode), size) if resize == "letterbox" else _fit(image.convert(mode), size)
    pixels = np.asarray(resized, dtype=np.float32)
    if scaling == "unit":
        pixels = pixels / np.float32(255)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., np.newaxis], channels, axis=2)
    return pixels[np.newaxis]


def _recognise(data: bytes) -> str:
    for signature, image_format in _SIGNATURES:
        if data.startswith(signature):
            return image_format
    raise ImageError("unsupported_image", formats=ACCEPTED_FORMATS)


def _open(data: bytes, image_format: str, max_pixels: int) -> Image.Image:
    """Read the header alone; refuse a size outside the limits before a pixel is decoded."""
    try:
        image = Image.open(io.BytesIO(data), formats=[image_format])
    except Image.DecompressionBombError:
        raise ImageError("too_many_pixels", limit_megapixels=max_pixels / 1e6) from None
    except Exception as error:  # a damaged header raises whatever the format's parser runs into
        raise ImageError("unreadable_image") from error
    if image.width * image.height > max_pixels:
        raise ImageError("too_many_pixels", limit_megapixels=max_pixels / 1e6)
    if min(image.size) < MIN_SIDE_PIXELS:
        raise ImageError("image_too_small", limit=MIN_SIDE_PIXELS)
    return image


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:  # damaged pixels raise OSError, SyntaxError, zlib.error, struct.error, …
        raise ImageError("unreadable_image") from error


def _to_8_bit(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGB")


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
    height, width = size
    scale = min(height / image.height, width / image.width)
    inner = max(1, round(image.height * scale)), max(1, round(image.width * scale))
    canvas = Image.new(image.mode, (width, height))
    canvas.paste(_fit(image, inner), ((width - inner[1]) // 2, (height - inner[0]) // 2))
    return canvas
