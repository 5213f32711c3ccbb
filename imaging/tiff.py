"""TIFF files -> an upright 8-bit image of their first page.

Pillow reads samples of up to 8 bits; tifffile those that Pillow gets wrong or refuses: deeper, signed or real ones, and
packed colour.
Neither sees a tag that does not say what the pixels are.
"""

import dataclasses
import itertools
import logging
import math
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImagePalette

from imaging import jpeg, raster
from imaging import tiff_directory as tag
from imaging.image import DecoderFacts, ImageError
from imaging.limits import (
    MAX_JPEG_TABLE_BYTES,
    MAX_PARTS,
    MAX_SAMPLE_BYTES,
    MAX_TILE_SIDE,
    check_size,
    too_many_pixels,
)
from imaging.samples import scale_to_8_bit
from imaging.tiff_directory import Directories, Page

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_UNSIGNED: Final = (1, 4)  # sample formats: 4 says that it is not known
_UNASSOCIATED_ALPHA: Final = 2
_OLD_JPEG, _JPEG = 6, 7
_DEEP_COMPRESSIONS: Final = (1, 5, 8, 32773, 32946, 50000)  # none, LZW, deflate, PackBits, deflate, Zstandard
_COMPRESSIONS: Final = (*_DEEP_COMPRESSIONS, 2, 3, 4, _OLD_JPEG, _JPEG, 32771, 32809, 34925)  # libtiff's


def decode(data: bytes, max_pixels: int) -> tuple[Image.Image, DecoderFacts]:
    """Decode the first page of a file that begins as a TIFF does; see `preprocessing.decode`."""
    directories = Directories(data)
    page = directories.read_page()
    height, width = page.first(tag.LENGTH), page.first(tag.WIDTH)
    if not (height and width):
        raise ImageError("unreadable_image")
    check_size(height, width, 1, max_pixels)
    _check_parts(page, data)
    if page.first(tag.COMPRESSION) == _JPEG:
        _check_jpegs(page, data, directories.read_bytes(tag.JPEG_TABLES))
    read = _read_deep if _is_deep(page) else _read_with_pillow
    image, bits, orientation = read(directories.with_only_pixels(), page, max_pixels)
    facts = raster.facts_of("TIFF", bits, orientation, directories.count_pages(), (height, width))
    return image, dataclasses.replace(facts, inverted=page.first(tag.PHOTOMETRIC, 1) == _WHITE_IS_ZERO)


def _check_parts(page: Page, data: bytes) -> None:
    """Refuse tiles much larger than the image, parts that share bytes, and JPEG parts of very many scans."""
    height, width = page.first(tag.LENGTH), page.first(tag.WIDTH)
    tile = page.first(tag.TILE_LENGTH), page.first(tag.TILE_WIDTH)
    if any(side > max(MAX_TILE_SIDE, 2 * own) for side, own in zip(tile, (height, width), strict=True)):
        raise ImageError("unreadable_image")
    parts = _parts(page, data)
    listed = page.get(tag.TILE_BYTES) or page.get(tag.STRIP_BYTES, ())
    if sum(listed) > 2 * len(data) or len(parts) > MAX_PARTS:
        raise ImageError("unreadable_image")
    if page.first(tag.COMPRESSION) in (_JPEG, _OLD_JPEG):
        if not all(parts):
            raise ImageError("unreadable_image")
        scans = sum(map(jpeg.count_scans, parts)) if page.first(tag.COMPRESSION) == _JPEG else jpeg.count_scans(data)
        jpeg.check_scans(scans - len(parts) + 1, height * width)


def _parts(page: Page, data: bytes) -> list[memoryview]:
    """Return the strips or tiles: as many as the sides of the image ask for, of those that the file lists."""
    offsets = page.get(tag.TILE_OFFSETS) or page.get(tag.STRIP_OFFSETS, ())
    byte_counts = page.get(tag.TILE_BYTES) or page.get(tag.STRIP_BYTES, ())
    view, pairs = memoryview(data), zip(offsets, byte_counts, strict=False)
    return [view[start : start + length] for start, length in itertools.islice(pairs, _count_parts(page))]


def _count_parts(page: Page) -> int:
    height, width = page.first(tag.LENGTH), page.first(tag.WIDTH)
    planes = page.first(tag.SAMPLES_PER_PIXEL, 1) if page.first(tag.PLANAR, 1) == 2 else 1
    part_height, part_width = _part_size(page)
    return math.ceil(height / part_height) * math.ceil(width / part_width) * planes


def _part_size(page: Page) -> tuple[int, int]:
    """Return height and width of a strip or tile."""
    rows = page.first(tag.TILE_LENGTH) or page.first(tag.ROWS_PER_STRIP) or page.first(tag.LENGTH)
    return rows, page.first(tag.TILE_WIDTH) or page.first(tag.WIDTH)


def _check_jpegs(page: Page, data: bytes, tables: bytes) -> None:
    """Refuse a page of which a JPEG strip or tile is not whole: libtiff would fill in what is missing."""
    if len(tables) > MAX_JPEG_TABLE_BYTES:
        raise ImageError("unreadable_image")
    try:
        for part in _parts(page, data):
            _check_jpeg(jpeg.START + tables[2:-2] + part[2:], *_part_size(page))
    except ImageError:
        raise
    except Exception as error:  # damaged headers raise whatever they run into
        raise ImageError("unreadable_image") from error


def _check_jpeg(stream: bytes, height: int, width: int) -> None:
    """Refuse a stream that is not whole, or larger than the strip or tile that it is."""
    jpeg.check_header(stream)
    frame = jpeg.read_frame(stream)
    if frame.height > height or frame.width > width:
        raise ImageError("unreadable_image")
    raster.load_jpeg(raster.open_file(stream, "JPEG"), stream)


def _is_deep(page: Page) -> bool:
    """Tell whether tifffile should read a page: grey of other than 1, 2, 4 or 8 unsigned bits, RGB of other than 8."""
    photometric = page.first(tag.PHOTOMETRIC, 1)
    shallow = (8,) if photometric == _RGB else (1, 2, 4, 8)
    is_shallow = page.first(tag.BITS, 1) in shallow and page.first(tag.SAMPLE_FORMAT, 1) in _UNSIGNED
    return not is_shallow and photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)


def _read_with_pillow(data: bytes, page: Page, max_pixels: int) -> tuple[Image.Image, int | None, int]:
    """Return the upright image, the bits of a sample and the orientation that was undone."""
    photometric = page.first(tag.PHOTOMETRIC, 1)
    is_shallow = page.first(tag.BITS, 1) <= 8 or photometric == _CMYK
    is_known = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB)
    if not (is_shallow and is_known and page.first(tag.COMPRESSION, 1) in _COMPRESSIONS):
        raise _unsupported()
    image = raster.open_image(data, "TIFF", max_pixels)
    orientation = raster.read_orientation(image)
    if image.mode == "P" and max(page[tag.COLOUR_MAP]) < 256:  # of 8 bits: libtiff and ImageMagick accept those
        image.palette = ImagePalette.raw("RGB;L", bytes(page[tag.COLOUR_MAP]))
    raster.load(image)  # which undoes the orientation of the tag, not one in XMP
    converted, bits = raster.to_8_bit(image)
    return raster.turn_upright(converted, raster.read_orientation(image)), bits, orientation


def _read_deep(data: bytes, page: Page, max_pixels: int) -> tuple[Image.Image, int | None, int]:
    """Return the upright image, the bits that became white and the orientation that was undone."""
    samples = _read_samples(data, page, max_pixels)
    bits = page.first(tag.BITS, 1)
    white = 2**bits - 1 if bits % 8 else None  # packed: the file says how many bits count
    is_colour = page.first(tag.PHOTOMETRIC, 1) == _RGB
    brightness, bits_of_white = scale_to_8_bit(samples[..., :3] if is_colour else samples[..., 0], white)
    if page.first(tag.PHOTOMETRIC, 1) == _WHITE_IS_ZERO:
        np.invert(brightness, out=brightness)
    image = Image.fromarray(brightness)
    alpha = samples[..., 3 if is_colour else 1 :]
    if alpha.size and page.first(tag.EXTRA_SAMPLES) == _UNASSOCIATED_ALPHA:
        opaque = 1 if samples.dtype.kind == "f" else white or np.iinfo(samples.dtype).max
        image.putalpha(Image.fromarray(scale_to_8_bit(alpha[..., 0], opaque)[0]))
        image = raster.on_black(image)
    orientation = page.first(tag.ORIENTATION, 1)
    return raster.turn_upright(image, orientation), bits_of_white, orientation


def _read_samples(data: bytes, page: Page, max_pixels: int) -> NDArray[Any]:
    """Decode the samples: (height, width, samples a pixel) of whole or real numbers. Raise ImageError."""
    from tifffile import TiffFile  # noqa: PLC0415 where such a file comes

    logging.getLogger("tifffile").disabled = True  # it quotes what it finds in a file
    if len(set(page.get(tag.BITS, ()))) > 1 or page.first(tag.COMPRESSION, 1) not in _DEEP_COMPRESSIONS:
        raise _unsupported()
    try:
        with TiffFile(BytesIO(data)) as file:
            return _decode_samples(file.pages[0], max_pixels)
    except ImageError:
        raise
    except Exception as error:  # damaged pixels raise whatever the decoder runs into
        raise ImageError("unreadable_image") from error


def _decode_samples(page: Any, max_pixels: int) -> NDArray[Any]:
    if getattr(page.dtype, "kind", None) not in ("u", "i", "f") or page.imagedepth > 1:
        raise _unsupported()
    if page.nbytes > MAX_SAMPLE_BYTES * max_pixels:
        raise too_many_pixels(max_pixels)
    if len(page.dataoffsets) < math.prod(page.chunked) or not all(page.databytecounts):
        raise ImageError("unreadable_image")  # tifffile would fill what is missing
    planes: NDArray[Any] = page.asarray(squeeze=False, maxworkers=1)  # planes, depth, height, width, samples
    samples = np.moveaxis(planes[:, 0, ..., 0], 0, 2) if len(planes) > 1 else planes[0, 0]
    if page.photometric == _RGB and samples.shape[2] < 3:
        raise ImageError("unreadable_image")
    return samples


def _unsupported() -> ImageError:
    return ImageError("unsupported_image", reason="tiff_encoding")
