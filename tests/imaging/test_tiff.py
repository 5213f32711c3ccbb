import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from preprocessing import ImageError, decode
from tests.support.phantoms import encoded, phantom
from tests.support.tiffs import COMPRESS, tiff_file

LIMIT = 50_000_000
ROWS, COLUMNS = np.mgrid[0:50, 0:71]
BASE = COLUMNS / 70 * 0.7 + ROWS / 49 * 0.3
BASE[12:22, 24:34] = 0.95
WHITES = {"u1": 255, "u2": 65535, "i2": 4095, "u4": 2**32 - 1, "i4": 2**31 - 1, "f2": 1, "f4": 1, "f8": 1}


def stored(kind, share=BASE):
    samples = share * WHITES[kind]
    return (samples if kind[0] == "f" else np.rint(samples)).astype(kind)


def refusal(data):
    with pytest.raises(ImageError) as caught:
        decode(data, LIMIT)
    return caught.value.code, caught.value.facts.get("reason")


def difference(data, expected=BASE):
    image, facts = decode(data, LIMIT)
    assert facts.original_size == BASE.shape
    return np.max(np.abs(np.asarray(image) / 255 - expected)) * 255


@pytest.mark.parametrize("kind", WHITES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_grey_is_read_in_every_type_order_compression_and_polarity(kind, order, compression, white_is_zero):
    samples = stored(kind, 1 - BASE if white_is_zero else BASE)
    assert difference(tiff_file(samples, order, compression, white_is_zero=white_is_zero)) <= 1


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "f4"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 5, 8])
@pytest.mark.parametrize("planar", [False, True])
def test_colour_is_read_in_every_type_order_compression_and_layout(kind, order, compression, planar):
    colours = np.stack([BASE, BASE[::-1], BASE[:, ::-1]], axis=2)
    assert difference(tiff_file(stored(kind, colours), order, compression, planar=planar), colours) <= 1


@pytest.mark.parametrize("kind", ["u2", "i2", "u4"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [5, 8])
def test_the_horizontal_predictor_is_undone(kind, order, compression):
    assert difference(tiff_file(stored(kind), order, compression, predictor=2)) <= 1


@pytest.mark.parametrize("bits", range(3, 15))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 5])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_packed_grey_of_3_to_14_bits_is_read(bits, order, compression, white_is_zero):
    share = 1 - BASE if white_is_zero else BASE
    samples = np.rint(share * (2**bits - 1)).astype(np.uint16)
    data = tiff_file(samples, order, compression, bits=bits, white_is_zero=white_is_zero)
    assert difference(data) <= 0.6 + 255 / (2**bits - 1) / 2
    if bits != 4:
        assert decode(data, LIMIT)[1].bits == bits or bits == 8


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 5, 8])
@pytest.mark.parametrize("planar", [False, True])
def test_packed_colour(bits, order, compression, planar):
    colours = np.stack([BASE, BASE[::-1], BASE[:, ::-1]], axis=2)
    samples = np.rint(colours * (2**bits - 1)).astype(np.uint16)
    data = tiff_file(samples, order, compression, bits=bits, planar=planar)
    assert difference(data, colours) <= 0.6 + 255 / (2**bits - 1) / 2


def test_colour_of_one_bit_is_refused_as_an_encoding_that_is_not_accepted():
    assert refusal(tiff_file(np.zeros((50, 70, 3), np.uint16), bits=1)) == ("unsupported_image", "tiff_encoding")


@pytest.mark.parametrize("kind", WHITES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("layout", ["grey", "colour", "planes"])
def test_tifffile_reads_the_same_samples_in_every_file_of_these_tables(kind, order, compression, layout):
    samples = stored(kind) if layout == "grey" else np.stack([stored(kind)] * 3, axis=2)
    data = tiff_file(samples, order, compression, planar=layout == "planes")
    read = tifffile.imread(io.BytesIO(data))
    assert np.array_equal(np.moveaxis(read, 0, 2) if layout == "planes" else read, samples)


def test_signed_samples_below_zero_go_from_the_smallest_to_the_largest():
    samples = np.rint(BASE * 4000 - 2000).astype(">i2")
    expected = (BASE - BASE.min()) / (BASE.max() - BASE.min())
    assert difference(tiff_file(samples.astype(np.int16), ">", 5), expected) <= 1


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("kind", ["u2", "f4"])
def test_deep_samples_cut_short_are_refused(compression, kind):
    data = tiff_file(stored(kind), compression=compression)
    start = data.index(b"\x01\x03\x00")  # tags lie behind the pixels: shorten what a strip holds instead
    assert start
    count = data.rindex(np.array([279], "<u2").tobytes())
    offset = int.from_bytes(data[count + 8 : count + 12], "little")
    halved = (int.from_bytes(data[offset : offset + 4], "little") // 2).to_bytes(4, "little")
    assert refusal(data[:offset] + halved + data[offset + 4 :]) == ("unreadable_image", None)
    assert refusal(data[:offset] + bytes(4) + data[offset + 4 :]) == ("unreadable_image", None)


def test_a_next_directory_outside_the_file_is_ignored():
    for following in (3, 9, 100, 2**31, 2**32 - 1):
        image, facts = decode(tiff_file(stored("u2"), following=following), LIMIT)
        assert facts.frames == 1
        assert np.asarray(image).shape == BASE.shape


def test_the_first_of_several_jpeg_pages_is_read():
    pages = [Image.fromarray((page * 255).astype(np.uint8)).resize((710, 500)) for page in (BASE, 1 - BASE, BASE)]
    data = encoded(pages[0], "TIFF", compression="jpeg", save_all=True, append_images=pages[1:] * 30)
    image, facts = decode(data, LIMIT)
    assert facts.frames == 61
    assert np.mean(np.abs(np.asarray(image).astype(int) - np.asarray(pages[0]))) < 3


def jpeg_parts(way, quality=90):
    """Return a page of JPEG strips or tiles with tables of their own, and offset and length of its last part."""
    buffer = io.BytesIO()
    film = np.asarray(phantom(size=(320, 256)))
    pixels = np.stack([film, 255 - film, film // 2], axis=2) if way == "colour" else film
    options = {"tile": (64, 64)} if way == "tiles" else {"rowsperstrip": 64}
    photometric = "ycbcr" if way == "colour" else "minisblack"
    compression = {"compression": "jpeg", "compressionargs": {"level": quality}, "photometric": photometric}
    with tifffile.TiffWriter(buffer) as file:
        file.write(pixels, **compression, **options)
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        page = file.pages[0]
        return buffer.getvalue(), page.asarray(), page.dataoffsets[-1], page.databytecounts[-1]


@pytest.mark.parametrize("way", ["grey", "colour", "tiles"])
def test_jpeg_strips_and_tiles_are_shown_whole_or_not_at_all(way):
    data, expected, start, length = jpeg_parts(way)
    assert np.max(np.abs(np.asarray(decode(data, LIMIT)[0]).astype(int) - expected)) <= 2
    for share in (0.4, 0.9):
        kept = int(length * share)
        cut = data[start : start + kept].rstrip(b"\xff")
        for fill in (b"\0", b"\xff\xd9"):
            rest = (fill * length)[: length - len(cut) - 2] + b"\xff\xd9"
            assert refusal(data[:start] + cut + rest + data[start + length :]) == ("unreadable_image", None)


@pytest.mark.parametrize(
    "strip", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xc0\0\x0b", b"\xff\xd8\xff\xda\0\2\xff\xd9"]
)
def test_a_jpeg_strip_that_ends_in_its_header_is_refused(strip):
    data = jpeg_parts("grey")[0]
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        starts, entry = page.dataoffsets, page.tags[279].valueoffset
    changed = data[:entry] + struct.pack("<I", len(strip)) + data[entry + 4 :]
    assert refusal(changed[: starts[0]] + strip + changed[starts[0] + len(strip) :]) == ("unreadable_image", None)


@pytest.mark.parametrize("compression", [34712, 50001, 50002, 34887, 99])  # JPEG 2000, WebP, JPEG XL, LERC, none known
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_a_compression_that_is_not_accepted_is_called_that(compression, kind):
    data = tiff_file(stored(kind), tags=[])
    entry = data.rindex(struct.pack("<HHI", 259, 3, 1)) + 8
    changed = data[:entry] + struct.pack("<H", compression) + data[entry + 2 :]
    assert refusal(changed) == ("unsupported_image", "tiff_encoding")


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_a_page_of_very_many_strips_is_refused(kind):
    rows = np.zeros((6000, 40), kind)
    rows[0] = 1
    data = tiff_file(rows, compression=8)
    assert decode(data, LIMIT)[0].size == (40, 6000)
    entry = data.rindex(struct.pack("<HHI", 278, 3, 1)) + 8
    assert refusal(data[:entry] + struct.pack("<H", 1) + data[entry + 2 :]) == ("unreadable_image", None)


@pytest.mark.parametrize("scale", [1, 257])
def test_a_colour_map_of_8_or_16_bits_is_read(scale):
    indices = np.rint(BASE * 255).astype(np.uint8)
    data = tiff_file(indices, tags=[(320, 3, tuple(value * scale for value in [*range(256)] * 3))])
    data = data.replace(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01", b"\x06\x01\x03\x00\x01\x00\x00\x00\x03")  # palette
    assert np.array_equal(np.asarray(decode(data, LIMIT)[0]), np.stack([indices] * 3, axis=2))


@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_the_stored_one_and_the_image_upright(kind, orientation):
    image, facts = decode(tiff_file(stored(kind), tags=[(274, 3, (orientation,))]), LIMIT)
    assert facts.original_size == BASE.shape
    turned = BASE[:, ::-1] if facts.mirrored else BASE
    expected = np.rot90(turned, -facts.rotated // 90)
    assert np.max(np.abs(np.asarray(image) / 255 - expected)) * 255 <= 1


def test_what_is_transparent_becomes_black():
    for kind in ("u2", "f4"):
        opaque = np.where(COLUMNS < 30, 0, 1)
        grey = np.stack([stored(kind), stored(kind, opaque)], axis=2)
        assert difference(tiff_file(grey, tags=[(338, 3, (2,))]), BASE * opaque) <= 1


def test_an_encoding_that_is_not_accepted_is_named_as_the_reason():
    data = bytearray(tiff_file(stored("u2")))
    data[data.rindex(b"\x03\x01\x03\x00") + 8] = 99
    assert refusal(bytes(data)) == ("unsupported_image", "tiff_encoding")


def test_decoded_samples_are_bounded():
    data = tiff_file(np.zeros((64, 64, 3)), compression=8)
    assert decode(data, 64 * 64 * 4)[0].size == (64, 64)
    with pytest.raises(ImageError) as refused:
        decode(data, 64 * 64)
    assert refused.value.code == "too_many_pixels"


def test_pillow_reads_what_the_tests_write():
    for order in ("<", ">"):
        image = Image.open(io.BytesIO(tiff_file(stored("u1"), order, 5)))
        assert np.array_equal(np.asarray(image), stored("u1"))
