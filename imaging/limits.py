"""What a file may cost, checked before anything is decoded. A radiograph needs far less than every limit here.

Decoders step through segments, chunks, tags and elements one by one, copy what those hold, and trust what a file
states about its parts: without limits, a few kilobytes could cost seconds and gigabytes.
"""

from typing import Final

from imaging.image import ImageError

MIN_SIDE_PIXELS: Final = 32
ROWS_AT_ONCE: Final = 64  # converted at a time: 50 megapixels as float32 would take 200 MB
MAX_EXIF_BYTES: Final = 200_000

# JPEG: a file, a frame of a DICOM file, a strip or tile of a TIFF
MAX_SCANS: Final = 64
MAX_SCANNED_PIXELS: Final = 600_000_000  # scans times pixels: each scan visits every pixel again
MAX_JPEG_SEGMENTS: Final = 2_000  # before the first scan
MAX_FRAME_HEADER_BYTES: Final = 20  # of four components
MAX_QUANTISATION_BYTES: Final = 10_000
MAX_PHOTOSHOP_BYTES: Final = 1_000_000
MAX_STRAY_BYTES: Final = 10_000  # between segments: Pillow skips them one by one

# JPEG 2000: OpenJPEG allocates every tile, layer and code block
MAX_JPEG_2000_SEGMENTS: Final = 20_000
MAX_TILES: Final = 1_024
MAX_LAYERS: Final = 64
MAX_CODE_BLOCKS: Final = 200_000  # 49 megapixels of colour have 50,000 of the usual 64 x 64

# PNG
MAX_CHUNKS: Final = 20_000
MAX_TEXTS: Final = 64  # compressed
MAX_TEXT_BYTES: Final = 4_000_000  # inflated, all together; Pillow's own limit is 64 MiB

# TIFF
MAX_TAG_VALUES: Final = 20_000  # of one tag
MAX_PAGES: Final = 100  # counted
MAX_PARTS: Final = 5_000  # strips or tiles: a film of 4,300 rows may have one strip for each
MAX_JPEG_TABLE_BYTES: Final = 10_000
MAX_TILE_SIDE: Final = 1_024  # unless the image itself is larger than half of it
MAX_SAMPLE_BYTES: Final = 6  # decoded, times the pixels that are allowed: 16-bit RGB

# DICOM
MAX_READS: Final = 20_000  # elements, items and fragments; a radiograph has some hundreds
READS_OF_AN_ITEM: Final = 4  # of a sequence: pydicom makes a data set of each
MAX_SEQUENCE_READS: Final = 1_000  # of a sequence of look-up tables, which has some tens
MAX_VALUE_BYTES: Final = 1_024  # pydicom makes an object of each part of a value; the longest of a radiograph has 64
MAX_HEADER_BYTES: Final = 2_000_000  # of a deflated file, before its pixels; as many may follow them
MAX_TABLE_BYTES: Final = 2 * 65_536


def check_size(height: int, width: int, frames: int, max_pixels: int) -> None:
    """Check a size in pixels, as the header states it. Raise ImageError: too_many_pixels or image_too_small."""
    if height * width * max(frames, 1) > max_pixels:
        raise too_many_pixels(max_pixels)
    if min(height, width) < MIN_SIDE_PIXELS:
        raise ImageError("image_too_small", limit=MIN_SIDE_PIXELS)


def too_many_pixels(max_pixels: int) -> ImageError:
    """Return the error of an image beyond the limit, which it states in megapixels."""
    return ImageError("too_many_pixels", limit_megapixels=max_pixels / 1e6)
