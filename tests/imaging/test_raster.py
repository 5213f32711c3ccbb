import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from preprocessing import ImageError, decode
from tests.support.hostile import chunk, png
from tests.support.phantoms import encoded, phantom

LIMIT = 50_000_000
FILM = np.asarray(phantom(size=(400, 320)))
COLOUR = np.stack([FILM, 255 - FILM, FILM // 2], axis=2)
SMOOTH = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))


def decoded(data):
    return np.asarray(decode(data, LIMIT)[0])


def refusal(data):
    with pytest.raises(ImageError) as caught:
        decode(data, LIMIT)
    return caught.value.code, caught.value.facts.get("reason")


def jpeg(pixels=FILM, **options):
    return encoded(Image.fromarray(pixels), "JPEG", **options)


JPEGS = {
    "baseline": jpeg(quality=90),
    "optimised": jpeg(quality=75, optimize=True),
    "fine": jpeg(quality=100),
    "colour": jpeg(COLOUR, quality=85),
    "with restarts": jpeg(quality=90, restart_marker_rows=1),
    "progressive": jpeg(quality=90, progressive=True),
    "progressive, colour": jpeg(COLOUR, quality=90, progressive=True),
}


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("padding", [b"", b"\0" * 1000, b"\xff" * 7, b"junk \xff\xda\xff\xd9"])
def test_a_whole_jpeg_is_as_pillow_decodes_it_whatever_follows(name, padding):
    expected = np.asarray(Image.open(io.BytesIO(JPEGS[name])))
    assert np.array_equal(decoded(JPEGS[name] + padding), expected)


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("fill", [b"", b"\0"])
def test_a_jpeg_of_which_part_is_missing_is_refused_whatever_closes_it(name, share, fill):
    data = JPEGS[name]
    kept = int(len(data) * share)
    half = data[:kept].rstrip(b"\xff") + fill * (len(data) - kept) + b"\xff\xd9"
    assert refusal(half) == ("unreadable_image", None)


@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 60, "optimize": True}, {"progressive": True}])
@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("size", [(400, 320), (100, 3000)])
def test_an_even_border_is_no_sign_of_missing_pixels(options, level, size):
    film = np.asarray(phantom(size=size)).copy()
    film[size[0] // 2 :, size[1] // 4 :] = level
    expected = np.asarray(Image.open(io.BytesIO(jpeg(film, **options))))
    assert np.array_equal(decoded(jpeg(film, **options)), expected)
    film[size[0] // 2 :] = level
    assert decoded(jpeg(film, **options)).shape == size


@pytest.mark.parametrize("size", [(40, 32), (400, 320), (1200, 900)])
@pytest.mark.parametrize("quality", [40, 90, 98])
def test_a_progressive_jpeg_cut_in_its_last_scan_is_refused(size, quality):
    data = jpeg(np.asarray(phantom(size=size)), quality=quality, progressive=True)
    scan = data.rindex(b"\xff\xda") + 10
    assert decoded(data).shape == size
    for share in (0.1, 0.5, 0.8):
        kept = scan + int((len(data) - scan) * share)
        assert refusal(data[:kept].rstrip(b"\xff") + b"\xff\xd9") == ("unreadable_image", None)


@pytest.mark.parametrize("stray", [b"\0", b"junk", b"\xff\0" * 20, b"Photoshop" * 100])
def test_bytes_between_segments_are_skipped_up_to_a_limit(stray):
    comment = b"\xff\xfe\0\2"
    data = JPEGS["baseline"]
    assert np.array_equal(decoded(data[:2] + comment + stray + data[2:]), decoded(data))
    assert refusal(data[:2] + comment + stray * 20_000 + data[2:]) == ("unreadable_image", None)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_lossless_jpeg_is_decoded(bits):
    film = (FILM.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint8 if bits == 8 else np.uint16)
    data = imagecodecs.jpeg8_encode(film, lossless=True, bitspersample=bits)
    image, facts = decode(data, LIMIT)
    assert np.max(np.abs(np.asarray(image).astype(int) - FILM)) <= 1
    assert (facts.format, facts.bits, facts.original_size) == ("JPEG", bits, FILM.shape)
    assert refusal(data[: len(data) // 2].rstrip(b"\xff") + b"\xff\xd9") == ("unreadable_image", None)


def test_a_jpeg_of_12_bits_and_a_jpeg_ls_are_decoded():
    film = FILM.astype(np.uint16) * 16
    twelve = imagecodecs.jpeg8_encode(film, level=98, bitspersample=12)
    assert np.mean(np.abs(decoded(twelve).astype(int) - FILM)) < 2
    assert np.array_equal(decoded(imagecodecs.jpegls_encode(FILM)), FILM)


def test_a_jpeg_that_claims_another_depth_or_size_is_refused():
    lossless = imagecodecs.jpeg8_encode(FILM, lossless=True)
    start = lossless.index(b"\xff\xc3")
    assert refusal(lossless[: start + 5] + b"\xff\xff\xff\xff" + lossless[start + 9 :])[0] == "too_many_pixels"
    assert refusal(lossless[:start] + b"\xff\xc3\0\x0b\x08\0\x10\0\x10" + lossless[start + 9 :])[0] == "image_too_small"


def test_arithmetic_coding_is_named_in_the_refusal():
    data = jpeg().replace(b"\xff\xc0", b"\xff\xc9")
    assert refusal(data) == ("unsupported_image", "jpeg_arithmetic")


def bmp(bits, compression, masks=b""):
    header = struct.pack("<IiiHHIIiiII", 40, 64, 48, 1, bits, compression, 0, 0, 0, 0, 0)
    start = 14 + len(header) + len(masks)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + header + masks + bytes(64 * 48 * 4)


@pytest.mark.parametrize(
    "data",
    [bmp(8, 1), bmp(4, 2), bmp(24, 4), bmp(0, 5), bmp(2, 0), bmp(32, 6), bmp(32, 3, struct.pack("<3I", 7, 56, 448))],
    ids=["8-bit runs", "4-bit runs", "JPEG", "PNG", "2 bits", "alpha masks", "unusual masks"],
)
def test_a_bmp_in_an_encoding_that_is_not_accepted_is_called_that(data):
    assert refusal(data) == ("unsupported_image", "bmp_encoding")


def packed(depth):
    """Return rows of grey samples of a depth, each after its filter byte 0."""
    samples = (SMOOTH.astype(int) * (2**depth - 1) // 255).astype(np.uint16)
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in samples]
    else:
        bits = (samples[..., None] >> np.arange(depth)[::-1]) & 1
        rows = [np.packbits(row).tobytes() for row in bits]
    return samples, b"".join(b"\0" + row for row in rows)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_value_of_any_depth_becomes_black(depth):
    samples, rows = packed(depth)
    white = 2**depth - 1
    value = int(samples[0, 40])
    data = png(64, 48, chunk(b"tRNS", struct.pack(">H", value)), depth=depth, pixels=rows)
    expected = np.where(samples == value, 0, samples) * (255 / white)
    assert np.max(np.abs(decoded(data).astype(int) - expected)) <= 1


PROFILE = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1000)))


def bad(data):
    """Return a chunk whose checksum is wrong."""
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "more",
    [
        PROFILE * 2,
        bad(PROFILE),
        bad(chunk(b"tEXt", b"Comment\0a")),
        bad(chunk(b"zTXt", b"k\0\0x")),
        bad(chunk(b"pHYs", bytes(9))),
        bad(chunk(b"eXIf", b"II*\0")),
        chunk(b"gAMA", b""),
        chunk(b"iCCP", b"no profile at all"),
    ],
    ids=["two profiles", "profile", "text", "compressed text", "resolution", "EXIF", "empty", "broken"],
)
def test_chunks_that_are_not_pixels_may_be_damaged(more):
    _, rows = packed(8)
    assert np.array_equal(decoded(png(64, 48, more, pixels=rows)), SMOOTH)


def test_a_damaged_header_is_refused():
    data = png(64, 48, pixels=packed(8)[1])
    start = data.index(b"IHDR") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    assert refusal(data[:start] + bad(data[start:end]) + data[end:]) == ("unreadable_image", None)


def test_a_thousand_profiles_cost_nothing():
    large = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1_000_000), 9))
    assert np.array_equal(decoded(png(64, 48, *[large] * 1_000, pixels=packed(8)[1])), SMOOTH)
