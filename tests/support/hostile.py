"""Hostile requests: each small to send, each claiming or expanding to more than a service should accept.

`python -m tests.support.hostile FOLDER` writes them for benchmarks/reliability.py.
"""

import io
import random
import struct
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image
from pydicom import uid

from tests.support.dicoms import dicom_file, encapsulated
from tests.support.phantoms import encoded, phantom
from tests.support.tiffs import assembled, tiff_file

FORM = "multipart/form-data; boundary=bomb"
SMALL = Image.fromarray(np.asarray(phantom(size=(96, 64))))


def form(image: bytes) -> bytes:
    return part('name="image"; filename="a"', image) + b"--bomb--\r\n"


def part(disposition: str, value: bytes, more: bytes = b"") -> bytes:
    return (
        b"--bomb\r\nContent-Disposition: form-data; "
        + disposition.encode()
        + b"\r\n"
        + more
        + b"\r\n"
        + value
        + b"\r\n"
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 0, pixels: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(pixels, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND", b"")


def small_png(*chunks: bytes) -> bytes:
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(SMALL))
    return png(64, 96, *chunks, pixels=rows)


def jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(encoded(SMALL, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def scans(count: int, size: tuple[int, int] = (480, 360)) -> bytes:
    data = encoded(phantom(size=size), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


def bmp_of(width: int, height: int, compression: int = 0) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 2000, 0, 0, 1078) + header + bytes(1024) + b"\x40\x05" * 500


def tiff(*tags: tuple[int, int, int, int], following: int = 0) -> bytes:
    """Return a TIFF with one directory of tags (number, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following)


def tiff_of(width: int, height: int, bits: int = 8, compression: int = 1, **more: int) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, compression), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 100)]
    if "tile" in more:
        tags += [(322, 4, 1, more["tile"]), (323, 4, 1, more["tile"]), (324, 4, 1, 8), (325, 4, 1, 100)]
    return tiff(*tags, following=more.get("following", 0))


def deep_tiff(width: int, height: int, bits: int, compression: int, part: bytes, **more: int) -> bytes:
    """Return a TIFF whose `parts` strips (or tiles of a side `tile`) all are the same bytes."""
    parts, samples = more.get("parts", 1), more.get("samples", 1)
    tags = [(256, 4, (width,)), (257, 4, (height,)), (258, 3, (bits,)), (259, 3, (compression,)), (262, 3, (1,))]
    tags += [(277, 3, (samples,)), (284, 3, (more.get("planar", 1),)), (317, 3, (more.get("predictor", 1),))]
    tags += [(339, 3, (more.get("kind", 1),))]
    if "tile" in more:
        tags += [(322, 4, (more["tile"],)), (323, 4, (more["tile"],)), (324, 4, (8,) * parts)]
        tags += [(325, 4, (len(part),) * parts)]
    else:
        tags += [(273, 4, (8,) * parts), (278, 4, (more.get("rows", height),)), (279, 4, (len(part),) * parts)]
    return assembled(part, sorted(tags), "<", 0)


def dicom_with(elements: bytes) -> bytes:
    """Return a DICOM file with more elements before its pixels."""
    data = dicom_file(np.asarray(SMALL))
    pixels = data.rindex(b"\xe0\x7f\x10\0")
    return data[:pixels] + elements + data[pixels:]


def dicom_frame(frame: bytes, syntax: str, shape: tuple[int, int] = (96, 64), **elements: int) -> bytes:
    """Return a DICOM file with a compressed frame, which its header says has this shape."""
    return encapsulated(frame, syntax, np.zeros((32, 32), np.uint8), Rows=shape[0], Columns=shape[1], **elements)


def deflated_dicom() -> bytes:
    """Return a deflated file of 60 MB of zeros."""
    data = dicom_file(np.asarray(SMALL), uid.DeflatedExplicitVRLittleEndian)
    start = data.index(uid.DeflatedExplicitVRLittleEndian.encode()) + len(uid.DeflatedExplicitVRLittleEndian)
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return data[:start] + deflater.compress(bytes(60_000_000)) + deflater.flush()


def webp_of(width: int, height: int) -> bytes:
    canvas = b"\x02\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + canvas
    body = b"WEBP" + extended + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def frames(image_format: str, count: int) -> bytes:
    others = [Image.new("L", SMALL.size, 1 + index % 200) for index in range(count)]
    return encoded(SMALL, image_format, save_all=True, append_images=others)


def endless_pages() -> bytes:
    data = bytearray(encoded(SMALL, "TIFF"))
    first = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    return bytes(data)


def pages_that_share_tags(count: int) -> bytes:
    """Return a TIFF whose first page is valid and whose others have 65,535 tags each, nearly all of them shared."""
    data = bytearray(encoded(SMALL, "TIFF"))
    data += bytes(len(data) % 2)
    first, start = struct.unpack_from("<I", data, 4)[0], len(data)
    struct.pack_into("<I", data, first + 2 + 12 * struct.unpack_from("<H", data, first)[0], start)
    directory_bytes = 2 + 12 * 65_535
    following = struct.pack(f"<{count}I", *range(start + 4, start + 4 * count, 4), 0)
    return bytes(data + b"\xff" * directory_bytes + following)


ZEROS = zlib.compress(bytes(60_000_000), 9)
ZSTANDARD = imagecodecs.zstd_encode(bytes(200_000_000))
LZW = imagecodecs.lzw_encode(bytes(60_000_000))
LOSSLESS = imagecodecs.jpeg8_encode(np.asarray(SMALL), lossless=True)
JPEG_LS = imagecodecs.jpegls_encode(np.asarray(SMALL))
JPEG_2000 = imagecodecs.jpeg2k_encode(np.asarray(SMALL), level=0, codecformat="j2k")
TEXT = {
    "zTXt": chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000), 9)),
    "iTXt": chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(1_000_000), 9)),
    "tEXt": chunk(b"tEXt", b"k\0" + bytes(60_000)),
}

IMAGES: dict[str, bytes] = {
    "PNG of 144 megapixels": png(12_000, 12_000, pixels=bytes(1000)),
    "PNG of 144 megapixels, really inflated": png(12_000, 12_000, pixels=bytes(12_001 * 12_000)),
    "PNG of 2^31 pixels a side": png(2**31 - 1, 2**31 - 1),
    "PNG of one endless row": png(2**31 - 1, 32),
    "PNG of one endless column": png(32, 2**31 - 1),
    "PNG of 16-bit RGBA, 60 megapixels": png(7746, 7746, depth=16, colour=6),
    "PNG whose pixels inflate beyond its size": png(64, 96, pixels=bytes(60_000_000)),
    "PNG of 60 MB of text in one chunk": small_png(chunk(b"zTXt", b"k\0\0" + ZEROS)),
    "PNG of 60 MB of international text": small_png(chunk(b"iTXt", b"k\0\1\0\0\0" + ZEROS)),
    "PNG of 63 zTXt chunks": small_png(*[TEXT["zTXt"]] * 63),
    "PNG of 63 iTXt chunks": small_png(*[TEXT["iTXt"]] * 63),
    "PNG of 300 tEXt chunks": small_png(*[TEXT["tEXt"]] * 300),
    "PNG with a colour profile of 60 MB": small_png(chunk(b"iCCP", b"p\0\0" + ZEROS)),
    "PNG with EXIF of 15 MB": small_png(chunk(b"eXIf", b"II*\0" + bytes(15_000_000))),
    "PNG of 1,000 colour profiles": small_png(*[chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1_000_000), 9))] * 1_000),
    "PNG of 100,000 empty chunks": small_png(*[chunk(b"teST", b"")] * 100_000),
    "PNG that claims a billion frames": small_png(chunk(b"acTL", struct.pack(">II", 10**9, 0))),
    "PNG of 300 frames": frames("PNG", 300),
    "JPEG of 65,535 a side": jpeg_of(65_535, 65_535),
    "JPEG of 8,000 a side": jpeg_of(8_000, 8_000),
    "JPEG of one endless row": jpeg_of(65_535, 32),
    "JPEG of 80 scans": scans(80),
    "JPEG of 400 scans": scans(400),
    "JPEG of 2,000 scans": scans(2_000),
    "JPEG of 90 scans, 6 megapixels": scans(90, (3000, 2000)),
    "JPEG of 10 MB of comments": encoded(SMALL, "JPEG")[:2]
    + (b"\xff\xfe\xff\xff" + bytes(65_533)) * 150
    + encoded(SMALL, "JPEG")[2:],
    "JPEG of 10 MB of EXIF": encoded(SMALL, "JPEG")[:2]
    + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)) * 150
    + encoded(SMALL, "JPEG")[2:],
    "JPEG of 300 frame headers of 21,000 components": encoded(SMALL, "JPEG")[:2]
    + (b"\xff\xc0\xff\xff\x08\0\x60\0\x40\xff" + bytes(65_527)) * 300
    + encoded(SMALL, "JPEG")[2:],
    "JPEG of 5 million empty segments": encoded(SMALL, "JPEG")[:2] + b"\xff\xfe\0\2" * 4_900_000,
    "JPEG of 19 million fill bytes": encoded(SMALL, "JPEG")[:2] + b"\xff" * 19_000_000,
    "JPEG of 9 million escaped bytes": encoded(SMALL, "JPEG")[:2] + b"\xff\0" * 9_500_000,
    "JPEG of 9 million restarts": encoded(SMALL, "JPEG")[:2] + b"\xff\xd0" * 9_500_000,
    "JPEG of 9 million extensions": encoded(SMALL, "JPEG")[:2] + b"\xff\xf5" * 9_500_000,
    "JPEG of 19 MB of stray bytes": encoded(SMALL, "JPEG")[:2] + b"\xff\xfe\0\2" + bytes(19_000_000),
    "JPEG of 4.9 million comments behind a stray byte": encoded(SMALL, "JPEG")[:2]
    + b"\xff\xfe\0\2\0"
    + b"\xff\xfe\0\2" * 4_900_000,
    "JPEG of 10 MB of EXIF behind a stray byte": encoded(SMALL, "JPEG")[:2]
    + b"\xff\xfe\0\2\0"
    + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)) * 150
    + encoded(SMALL, "JPEG")[2:],
    "lossless JPEG of 65,535 a side": LOSSLESS.replace(b"\0\x60\0\x40", b"\xff\xff\xff\xff", 1),
    "JPEG-LS of 65,535 a side": JPEG_LS.replace(b"\0\x60\0\x40", b"\xff\xff\xff\xff", 1),
    "lossless JPEG of 8 MB of comments": LOSSLESS[:2] + (b"\xff\xfe\xff\xff" + bytes(65_533)) * 120 + LOSSLESS[2:],
    "PNG of 1.6 million empty chunks": small_png(*[chunk(b"teST", b"")] * 1_600_000),
    "TIFF of 2^32 pixels a side": tiff_of(2**32 - 1, 2**32 - 1),
    "TIFF of 100,000 a side": tiff_of(100_000, 100_000),
    "TIFF of floats, 60 megapixels": tiff_of(7746, 7746, bits=32),
    "TIFF, deflated, that claims 100 megapixels": tiff_of(10_000, 10_000, compression=8),
    "TIFF whose pages go round in a circle": endless_pages(),
    "TIFF of 100 pages that share 65,535 tags": pages_that_share_tags(100),
    "TIFF of 1,000 tags that share 2 MB": tiff(
        (256, 4, 1, 64), (257, 4, 1, 96), *[(50_000 + number, 7, 2_000_000, 8) for number in range(1_000)]
    )
    + bytes(2_000_000),
    "TIFF of 2 million strips": tiff((256, 4, 1, 64), (257, 4, 1, 96), (273, 4, 2_000_000, 8)) + bytes(8_000_000),
    "TIFF of a tile of 30,000 a side": tiff_of(64, 96, compression=8, tile=30_000),
    "TIFF of 300 pages": frames("TIFF", 300),
    "TIFF with a tag of 2^31 values": tiff((256, 4, 2**31, 8), (257, 4, 1, 64), (262, 3, 1, 1)),
    "TIFF with strips of 2^31 offsets": tiff(
        (256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 2**31, 8), (279, 4, 2**31, 8)
    ),
    "TIFF of 65,535 tags": b"II*\0" + struct.pack("<IH", 8, 65_535) + struct.pack("<HHII", 256, 4, 1, 64) * 65_535,
    "TIFF of 16 bits, whose strip inflates to 60 MB": deep_tiff(64, 96, 16, 8, ZEROS),
    "TIFF of 16 bits, whose strip is 200 MB of Zstandard": deep_tiff(64, 96, 16, 50000, ZSTANDARD),
    "TIFF of 16 bits, whose strip is 60 MB of LZW": deep_tiff(64, 96, 16, 5, LZW),
    "TIFF of 16 bits, whose strip is 640 MB of PackBits": deep_tiff(64, 96, 16, 32773, b"\x81\0" * 5_000_000),
    "TIFF of floats with a predictor, whose strip inflates to 60 MB": deep_tiff(
        64, 96, 32, 8, ZEROS, predictor=3, kind=3
    ),
    "TIFF of 12 packed bits, whose strip is 60 MB of LZW": deep_tiff(64, 96, 12, 5, LZW),
    "TIFF of 20,000 strips of 16 bits": deep_tiff(64, 20_000, 16, 8, zlib.compress(bytes(128)), parts=20_000, rows=1),
    "TIFF of 20,000 tiles of 16 bits": deep_tiff(3_200, 1_600, 16, 8, zlib.compress(bytes(512)), parts=20_000, tile=16),
    "TIFF of 32 tiles of 1,024 a side, 64 wide": deep_tiff(
        64, 32_768, 16, 8, zlib.compress(bytes(2 * 1024**2), 9), parts=32, tile=1024
    ),
    "TIFF of 65,535 samples a pixel": deep_tiff(64, 96, 16, 8, zlib.compress(bytes(12_288)), samples=65_535),
    "TIFF of 10,000 planes": deep_tiff(
        64, 96, 16, 8, zlib.compress(bytes(12_288)), samples=10_000, planar=2, parts=10_000
    ),
    "TIFF of doubles, 49 megapixels": deep_tiff(7000, 7000, 64, 8, zlib.compress(bytes(1000)), kind=3),
    "TIFF of 16 bits, 49 megapixels, of which 500 are there": deep_tiff(7000, 7000, 16, 8, zlib.compress(bytes(1000))),
    "TIFF of a JPEG of 80 scans": deep_tiff(360, 480, 8, 7, scans(80)),
    "TIFF of 100 JPEG strips of 60 scans": deep_tiff(480, 800, 8, 7, scans(55, (8, 480)), parts=100, rows=8),
    "TIFF of a JPEG of 65,535 a side": deep_tiff(64, 96, 8, 7, jpeg_of(65_535, 65_535)),
    "TIFF of a JPEG of 49 megapixels, of which 6,144 are there": deep_tiff(7000, 7000, 8, 7, jpeg_of(7000, 7000)),
    "TIFF of a JPEG of 4.9 million comments": deep_tiff(
        64, 96, 8, 7, encoded(SMALL, "JPEG")[:2] + b"\xff\xfe\0\2" * 4_900_000 + encoded(SMALL, "JPEG")[2:]
    ),
    "DICOM of 65,535 a side": dicom_file(np.asarray(SMALL), Rows=65_535, Columns=65_535),
    "DICOM of 2 billion frames": dicom_file(np.asarray(SMALL)[np.newaxis], NumberOfFrames=2_000_000_000),
    "DICOM, deflated, of 60 MB": deflated_dicom(),
    "DICOM of 2 million elements": dicom_with(struct.pack("<HH2sH", 9, 0x1001, b"LO", 0) * 2_000_000),
    "DICOM of 2 million items": dicom_with(
        struct.pack("<HH2sHI", 9, 0x1001, b"SQ", 0, 2**32 - 1) + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 2_000_000
    ),
    "DICOM of sequences within sequences": dicom_with(
        (struct.pack("<HH2sHI", 9, 0x1001, b"SQ", 0, 2**32 - 1) + struct.pack("<HHI", 0xFFFE, 0xE000, 2**32 - 1))
        * 500_000
    ),
    "DICOM of a million windows": dicom_with(
        struct.pack("<HH2sHI", 0x28, 0x1050, b"UC", 0, 2_000_000) + b"1\\" * 10**6
    ),
    "DICOM of a million character sets": dicom_with(
        struct.pack("<HH2sHI", 8, 5, b"UC", 0, 2_000_000) + b"X\\" * 1_000_000
    ),
    "DICOM of 19 MB of functional groups": dicom_with(
        struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, 19_000_000)
        + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * (19_000_000 // 8)
    ),
    "DICOM of 2 million fragments": dicom_frame(b"\0\0", uid.RLELossless).replace(
        struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 2_000_000
    ),
    "DICOM of 640 MB of RLE": dicom_frame(
        struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x07" * 5_000_000, uid.RLELossless
    ),
    "DICOM of a JPEG of 400 scans": dicom_frame(scans(400), uid.JPEGBaseline8Bit, (480, 360)),
    "DICOM of a JPEG of 19 MB of stray bytes": dicom_frame(
        encoded(SMALL, "JPEG")[:2] + bytes(19_000_000), uid.JPEGBaseline8Bit
    ),
    "DICOM of a JPEG of 65,535 a side": dicom_frame(jpeg_of(65_535, 65_535), uid.JPEGBaseline8Bit),
    "DICOM of a JPEG 2000 of 2^31 a side": dicom_frame(
        JPEG_2000[:8] + b"\x7f\xff\xff\xff" * 2 + JPEG_2000[16:], uid.JPEG2000Lossless
    ),
    "DICOM of a JPEG 2000 of tiles of one pixel": dicom_frame(
        JPEG_2000[:24] + b"\0\0\0\1" * 2 + JPEG_2000[32:], uid.JPEG2000Lossless
    ),
    "DICOM of a JPEG 2000 of a million segments": dicom_frame(
        JPEG_2000[: JPEG_2000.index(b"\xff\x52")]
        + b"\xff\x64\0\2" * 1_000_000
        + JPEG_2000[JPEG_2000.index(b"\xff\x52") :],
        uid.JPEG2000Lossless,
    ),
    "WebP of 16,383 a side": webp_of(16_383, 16_383),
    "WebP of 2^24 pixels a side": webp_of(2**24, 2**24),
    "WebP of 300 frames": frames("WEBP", 300),
    "BMP of 2^31 pixels a side": bmp_of(2**31 - 1, 2**31 - 1),
    "BMP of 60 megapixels": bmp_of(7746, 7746),
    "BMP, run-length, of 50 megapixels": bmp_of(7000, 7000, 1),
    "BMP of a negative height": bmp_of(7746, -7746),
}

FORMS: dict[str, bytes] = {
    "9 parts": part('name="a"', b"x") * 9 + b"--bomb--\r\n",
    "1,000 parts": part('name="a"', b"x") * 1_000 + b"--bomb--\r\n",
    "200,000 parts": part('name="a"', b"") * 200_000 + b"--bomb--\r\n",
    "1,000 files": part('name="image"; filename="a"', b"x") * 1_000 + b"--bomb--\r\n",
    "a field of 10 MB": part('name="a"', bytes(10_000_000)) + b"--bomb--\r\n",
    "a field of 10 MB of line breaks": part('name="a"', b"\r\n" * 5_000_000) + b"--bomb--\r\n",
    "a field of 10 MB of boundaries cut short": part('name="a"', b"\r\n--bom" * 1_400_000) + b"--bomb--\r\n",
    "a part's header of 10 MB": part('name="image"; filename="a"', b"x", b"X-Long: " + b"y" * 10_000_000 + b"\r\n")
    + b"--bomb--\r\n",
    "100,000 headers in one part": part('name="image"; filename="a"', b"x", b"X: y\r\n" * 100_000) + b"--bomb--\r\n",
    "a file name of 1 MB": part('name="image"; filename="' + "a" * 1_000_000 + '"', b"x") + b"--bomb--\r\n",
    "parts within parts": part(
        'name="a"', part('name="b"', b"x") * 50, b"Content-Type: multipart/mixed; boundary=bomb\r\n"
    )
    + b"--bomb--\r\n",
    "no end": part('name="image"; filename="a"', encoded(SMALL)),
}


def bombs() -> dict[str, bytes]:
    """Return the body of every bomb by its name; the type of each is FORM."""
    return {name: form(image) for name, image in IMAGES.items()} | FORMS


def seeds() -> dict[str, bytes]:
    """Return small good files of every accepted kind, to be damaged."""
    deep = Image.fromarray(np.asarray(SMALL).astype(np.uint16) * 257)
    buffer = io.BytesIO()
    SMALL.convert("RGB").convert("CMYK").save(buffer, "JPEG")
    return {
        "PNG": encoded(SMALL),
        "PNG of 16 bits": encoded(deep),
        "PNG with alpha": encoded(SMALL.convert("RGBA")),
        "PNG with a palette": encoded(SMALL.convert("P")),
        "APNG": frames("PNG", 2),
        "JPEG": encoded(SMALL, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
        "progressive JPEG": encoded(SMALL, "JPEG", progressive=True),
        "CMYK JPEG": buffer.getvalue(),
        "TIFF": encoded(SMALL, "TIFF"),
        "TIFF of 16 bits": encoded(deep, "TIFF"),
        "TIFF of floats, deflated": encoded(
            Image.fromarray(np.asarray(SMALL).astype(np.float32)), "TIFF", compression="tiff_deflate"
        ),
        "TIFF, LZW": encoded(SMALL, "TIFF", compression="tiff_lzw"),
        "TIFF of JPEG": encoded(SMALL, "TIFF", compression="jpeg"),
        "WebP": encoded(SMALL.convert("RGB"), "WEBP"),
        "lossless WebP": encoded(SMALL.convert("RGB"), "WEBP", lossless=True),
        "BMP": encoded(SMALL, "BMP"),
        "lossless JPEG": LOSSLESS,
        "JPEG-LS": JPEG_LS,
        "TIFF of 16 bits in planes, big endian": tiff_file(
            np.stack([np.asarray(deep)] * 3, axis=2), ">", 5, planar=True
        ),
        "TIFF of 12 packed bits": tiff_file(np.asarray(SMALL).astype(np.uint16) * 16, bits=12),
        "DICOM": dicom_file(np.asarray(deep)),
        "DICOM, RLE": dicom_file(np.asarray(deep), compress=uid.RLELossless),
        "DICOM of lossless JPEG": dicom_frame(LOSSLESS, uid.JPEGLosslessSV1),
        "DICOM of JPEG-LS": dicom_frame(JPEG_LS, uid.JPEGLSLossless),
        "DICOM of JPEG 2000": dicom_frame(JPEG_2000, uid.JPEG2000Lossless),
    }


def damage(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Damage a file in one to four ways: bits, bytes, numbers, cuts, repeats, a piece of another file."""
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        index = chance.randrange(len(damaged)) if damaged else 0
        length = chance.choice((1, 2, 4, 16, 256))
        way = chance.randrange(7)
        if way == 0 and damaged:
            damaged[index] ^= 1 << chance.randrange(8)
        elif way == 1:
            damaged[index : index + length] = chance.randbytes(length)
        elif way == 2:
            damaged[index : index + 4] = chance.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)).to_bytes(4)
        elif way == 3:
            del damaged[index:]
        elif way == 4:
            del damaged[index : index + length]
        elif way == 5:
            damaged[index:index] = damaged[index : index + length] * chance.choice((1, 2, 50))
        else:
            start = chance.randrange(len(other))
            damaged[index : index + length] = other[start : start + length]
    return bytes(damaged)


def write(folder: Path) -> None:
    """Write the bombs, each as a request's body, and the good files."""
    for kind, files in (("bombs", bombs()), ("good", seeds())):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / kind / name).write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
