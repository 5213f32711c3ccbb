import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageStat, TiffImagePlugin

from imaging import jpeg
from preprocessing import ImageError, content_of, decode, is_blank, prepare
from tests.support.phantoms import encoded, phantom

LIMIT = 50_000_000
RAMP = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))  # (48, 64): dark on the left, bright on the right
RAMP[0] = 0  # the top row is dark, so that turning is seen
RAMP[-1, -1] = 255


def decoded(data, max_pixels=LIMIT):
    return decode(data, max_pixels)[0]


def grey():
    return Image.fromarray(RAMP)


def colour():
    return Image.merge("RGB", [grey(), Image.fromarray(255 - RAMP), Image.new("L", grey().size, 7)])


def with_alpha(image, alpha):
    image = image.copy()
    image.putalpha(Image.fromarray(alpha))
    return image


HALF_CLEAR = np.full(RAMP.shape, 255, np.uint8)
HALF_CLEAR[:, :32] = 0


def palette():
    image = Image.fromarray(RAMP).convert("P")
    image.putpalette([value for index in range(256) for value in (index, index, index)])
    return image


def clear_palette():
    """A palette whose darkest half is transparent."""
    image = palette()
    image.info["transparency"] = bytes([0] * 128 + [255] * 128)
    return image


def white_is_zero(samples):
    """A TIFF of 16 bits that counts from white to black."""
    return encoded(Image.fromarray(samples), "TIFF", tiffinfo={TiffImagePlugin.PHOTOMETRIC_INTERPRETATION: 0})


def oriented(orientation, image_format="JPEG", **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(grey(), image_format, exif=exif.tobytes(), **options)


def animated(image_format):
    return encoded(grey(), image_format, save_all=True, append_images=[Image.new("L", grey().size, 200)], lossless=True)


def lab():
    profile = ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), profile, "RGB", "LAB")
    return ImageCms.applyTransform(grey().convert("RGB"), transform)


WIDE = RAMP.astype(np.uint16)
BLACK_WHERE_CLEAR = np.where(HALF_CLEAR > 0, RAMP, 0)
KNOWN = {
    "8-bit grey PNG": (encoded(grey()), "L", RAMP),
    "8-bit RGB PNG": (encoded(colour()), "RGB", np.asarray(colour())),
    "8-bit grey BMP": (encoded(grey(), "BMP"), "L", RAMP),
    "8-bit grey TIFF": (encoded(grey(), "TIFF"), "L", RAMP),
    "deflated TIFF": (encoded(grey(), "TIFF", compression="tiff_deflate"), "L", RAMP),
    "lossless WebP": (encoded(grey().convert("RGB"), "WEBP", lossless=True), "RGB", np.stack([RAMP] * 3, 2)),
    "16-bit PNG of all 16 bits": (encoded(Image.fromarray(WIDE * 257)), "L", RAMP),
    "16-bit PNG of 12 bits": (encoded(Image.fromarray((WIDE * (4095 / 255)).astype(np.uint16))), "L", RAMP),
    "16-bit PNG of 10 bits": (encoded(Image.fromarray((WIDE * (1023 / 255)).astype(np.uint16))), "L", RAMP),
    "16-bit PNG of 14 bits": (encoded(Image.fromarray((WIDE * (16383 / 255)).astype(np.uint16))), "L", RAMP),
    "16-bit PNG of 8 bits": (encoded(Image.fromarray(WIDE)), "L", RAMP),
    "16-bit TIFF": (encoded(Image.fromarray(WIDE * 257), "TIFF"), "L", RAMP),
    "16-bit TIFF, high byte first": (encoded(Image.fromarray((WIDE * 257).astype(">u2")), "TIFF"), "L", RAMP),
    "16-bit TIFF, white is zero": (white_is_zero((255 - WIDE) * 257), "L", RAMP),
    "8-bit TIFF, white is zero": (white_is_zero(RAMP), "L", RAMP),  # Pillow turns 8-bit samples round when it saves
    "32-bit integer TIFF": (encoded(Image.fromarray(RAMP.astype(np.int32) * 1000), "TIFF"), "L", RAMP),
    "float TIFF of 0 to 1": (encoded(Image.fromarray(RAMP.astype(np.float32) / 255), "TIFF"), "L", RAMP),
    "float TIFF of 0 to 255": (encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), "L", RAMP),
    "float TIFF of 12 bits": (encoded(Image.fromarray(RAMP * np.float32(4095 / 255)), "TIFF"), "L", RAMP),
    "float TIFF below zero": (encoded(Image.fromarray(RAMP.astype(np.float32) - 100), "TIFF"), "L", RAMP),
    "1-bit PNG": (encoded(grey().point(lambda value: 255 * (value > 99), "1")), "L", np.where(RAMP > 99, 255, 0)),
    "1-bit TIFF": (
        encoded(grey().point(lambda value: 255 * (value > 99), "1"), "TIFF"),
        "L",
        np.where(RAMP > 99, 255, 0),
    ),
    "palette PNG": (encoded(palette()), "RGB", np.stack([RAMP] * 3, 2)),
    "palette PNG with transparency": (
        encoded(clear_palette()),
        "RGB",
        np.stack([np.where(RAMP < 128, 0, RAMP)] * 3, 2),
    ),
    "grey PNG with alpha": (encoded(with_alpha(grey(), HALF_CLEAR)), "L", BLACK_WHERE_CLEAR),
    "grey PNG, half transparent": (
        encoded(with_alpha(grey(), np.full(RAMP.shape, 128, np.uint8))),
        "L",
        np.rint(RAMP * (128 / 255)),
    ),
    "grey PNG with a transparent value": (encoded(grey(), transparency=128), "L", np.where(RAMP == 128, 0, RAMP)),
    "RGB PNG with alpha": (
        encoded(with_alpha(colour(), HALF_CLEAR)),
        "RGB",
        np.where(HALF_CLEAR[..., None] > 0, np.asarray(colour()), 0),
    ),
    "RGB TIFF with alpha": (
        encoded(with_alpha(colour(), HALF_CLEAR), "TIFF"),
        "RGB",
        np.where(HALF_CLEAR[..., None] > 0, np.asarray(colour()), 0),
    ),
    "CMYK TIFF": (encoded(grey().convert("RGB").convert("CMYK"), "TIFF"), "RGB", np.stack([RAMP] * 3, 2)),
    "animated PNG": (animated("PNG"), "L", RAMP),
    "animated WebP": (animated("WEBP"), "RGB", np.stack([RAMP] * 3, 2)),
    "TIFF of two pages": (animated("TIFF"), "L", RAMP),
}
LOSSY = {
    "grey JPEG": (encoded(grey(), "JPEG", quality=95), "L", RAMP),
    "progressive JPEG": (encoded(grey(), "JPEG", quality=95, progressive=True), "L", RAMP),
    "RGB JPEG": (encoded(grey().convert("RGB"), "JPEG", quality=95), "RGB", np.stack([RAMP] * 3, 2)),
    "CMYK JPEG, inverted as Adobe does": (
        encoded(grey().convert("RGB").convert("CMYK"), "JPEG", quality=95),
        "RGB",
        np.stack([RAMP] * 3, 2),
    ),
    "LAB TIFF": (encoded(lab(), "TIFF"), "RGB", np.stack([RAMP] * 3, 2)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_lossless_file_decodes_to_exactly_its_pixels(name):
    data, mode, expected = KNOWN[name]
    image = decoded(data, LIMIT)
    assert image.mode == mode
    tolerance = 1 if "half" in name or "bits" in name else 0
    assert np.max(np.abs(np.asarray(image).astype(int) - expected)) <= tolerance


@pytest.mark.parametrize("name", LOSSY)
def test_a_lossy_file_decodes_to_nearly_its_pixels(name):
    data, mode, expected = LOSSY[name]
    image = decoded(data, LIMIT)
    assert image.mode == mode
    assert np.mean(np.abs(np.asarray(image).astype(int) - expected)) < 2


def test_the_cmyk_jpeg_has_an_adobe_marker():
    assert b"Adobe" in LOSSY["CMYK JPEG, inverted as Adobe does"][0]


TURNED = {
    1: RAMP,
    2: RAMP[:, ::-1],
    3: RAMP[::-1, ::-1],
    4: RAMP[::-1],
    5: RAMP.T,
    6: np.rot90(RAMP, -1),
    7: RAMP[::-1, ::-1].T,
    8: np.rot90(RAMP),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_exif_orientation_is_undone(orientation, image_format):
    image = decoded(oriented(orientation, image_format), LIMIT)
    assert np.array_equal(np.asarray(image), TURNED[orientation])


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP"])
def test_exif_orientation_is_undone_in_lossy_formats(image_format):
    image = decoded(oriented(6, image_format, quality=95), LIMIT).convert("L")
    assert np.mean(np.abs(np.asarray(image).astype(int) - TURNED[6])) < 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(orientation):
    assert decoded(oriented(orientation), LIMIT).size == grey().size


def test_a_damaged_exif_block_does_not_spoil_the_image():
    data = encoded(grey(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decoded(data, LIMIT).size == grey().size


# -- what is refused ----------------------------------------------------------------------------------------------


def refusal(data, max_pixels=LIMIT):
    with pytest.raises(ImageError) as caught:
        decoded(data, max_pixels)
    return caught.value.code


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"P",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        encoded(grey(), "GIF"),
        encoded(grey(), "ICO"),
        encoded(grey(), "PPM"),
        b"RIFF\x24\0\0\0WAVEfmt ",
    ],
)
def test_only_accepted_formats_are_opened_whatever_pillow_knows(data):
    assert refusal(data) == "unsupported_image"


@pytest.mark.parametrize("name", [name for name in KNOWN | LOSSY if "TIFF" not in name and "animated" not in name])
def test_a_truncated_file_is_refused_at_every_tenth_of_its_length(name):
    data = (KNOWN | LOSSY)[name][0]
    for tenths in range(1, 8):
        cut = data[: len(data) * tenths // 10]
        assert refusal(cut) in ("unreadable_image", "unsupported_image"), tenths


def test_a_tiff_truncated_within_its_pixels_is_refused():
    for data in (KNOWN["8-bit grey TIFF"][0], KNOWN["deflated TIFF"][0], KNOWN["16-bit TIFF"][0]):
        assert refusal(data[: len(data) // 4]) == "unreadable_image"


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"RIFF\0\0\0\0WEBP",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\0",
        b"BM" + bytes(60),
    ],
)
def test_a_file_that_is_only_a_signature_is_unreadable(data):
    assert refusal(data) == "unreadable_image"


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, *chunks, pixels=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    middle = b"".join(chunks) + png_chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + middle + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(12_000, 12_000), (7072, 7072), (50_000, 1001), (2**31 - 1, 2**31 - 1)])
def test_the_number_of_pixels_is_checked_from_the_header(width, height):
    assert refusal(png_of(width, height)) == "too_many_pixels"  # were pixels decoded first, it would be unreadable


def test_an_image_with_the_most_pixels_allowed_is_decoded():
    assert decoded(encoded(Image.new("L", (100, 50), 9)), 5000).size == (100, 50)
    assert refusal(encoded(Image.new("L", (100, 51), 9)), 5000) == "too_many_pixels"


@pytest.mark.parametrize("size", [(1, 1), (31, 32), (32, 31), (31, 4000)])
def test_an_image_too_small_for_a_radiograph_is_refused(size):
    assert refusal(encoded(Image.new("L", size))) == "image_too_small"


def test_the_smallest_image_allowed_is_decoded():
    assert decoded(encoded(Image.new("L", (32, 32))), LIMIT).size == (32, 32)


def scan_bomb(scans):
    """A progressive JPEG whose first scan, which no other needs to be repeated for, is repeated."""
    data = encoded(phantom(), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xc4", first)  # the tables of the next
    return data[:second] + data[first:second] * (scans - data.count(b"\xff\xda")) + data[second:]


def test_a_jpeg_with_too_many_scans_is_refused_before_it_is_decoded():
    assert decoded(scan_bomb(20), LIMIT).size == (360, 480)
    assert refusal(scan_bomb(65)) == "unreadable_image"


def jpeg_in_tiff(jpeg, size):
    """A TIFF of one strip that holds a JPEG."""
    height, width = size
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 7), (262, 3, 1), (273, 4, 200), (277, 3, 1)]
    tags += [(278, 4, height), (279, 4, len(jpeg))]
    entries = b"".join(struct.pack("<HHII", number, kind, 1, value) for number, kind, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(200, b"\0") + jpeg


def test_a_jpeg_with_too_many_scans_is_refused_inside_a_tiff_too():
    assert decoded(jpeg_in_tiff(scan_bomb(20), (480, 360)), LIMIT).size == (360, 480)
    assert refusal(jpeg_in_tiff(scan_bomb(70), (480, 360))) == "unreadable_image"


def test_the_more_pixels_a_scan_visits_the_fewer_scans_are_allowed():
    large = encoded(Image.fromarray(np.tile(phantom(size=(500, 500)), (10, 10))), "JPEG", progressive=True)
    last = large.rindex(b"\xff\xda")
    assert decoded(large, LIMIT).size == (5000, 5000)
    assert refusal(large[:-2] + large[last:-2] * 30 + large[-2:]) == "unreadable_image"


def test_a_png_with_too_much_text_when_inflated_is_refused():
    text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000)))
    rows = b"".join(b"\0" + row.tobytes() for row in RAMP)
    assert decoded(png_of(64, 48, *[text] * 3, pixels=rows), LIMIT).size == (64, 48)
    assert refusal(png_of(64, 48, *[text] * 63, pixels=rows)) == "unreadable_image"


@pytest.mark.parametrize("brightness", [0, 77, 255])
def test_an_image_of_one_brightness_is_blank(brightness):
    assert is_blank(Image.new("L", (64, 64), brightness))
    assert is_blank(Image.new("RGB", (64, 64), (brightness, 0, 255)))


def test_a_radiograph_is_not_blank():
    assert not is_blank(phantom())
    assert not is_blank(Image.eval(phantom(), lambda value: value // 8))


def test_an_image_is_blank_below_a_standard_deviation_of_2_anywhere():
    random = np.random.default_rng(0)
    for _ in range(200):
        pixels = np.full((random.integers(32, 80), random.integers(32, 80), 3), 100.0)
        rows = np.sort(random.integers(0, len(pixels), 2))
        pixels[rows[0] : rows[1]] += random.normal(0, random.uniform(0, 6), pixels[rows[0] : rows[1]].shape)
        image = Image.fromarray(np.rint(pixels).astype(np.uint8))
        assert is_blank(image) == (max(ImageStat.Stat(image).stddev) < 2)


@pytest.mark.parametrize(
    "data", [b"\xff", b"\xff\xda", b"\xda\xff", b"\0\xff\xda", b"\xff\xda\xff\xda\xff", b"\xff\xff\xda"]
)
def test_starts_of_scan_are_counted_at_odd_and_even_offsets(data):
    assert jpeg.count_scans(data) == data.count(b"\xff\xda")


def test_starts_of_scan_are_counted_as_bytes_counts_them():
    random = np.random.default_rng(0)
    for length in range(1000, 1010):
        data = random.choice(np.array([0, 0xDA, 0xFF], np.uint8), length).tobytes()
        assert jpeg.count_scans(data) == data.count(b"\xff\xda")


def run_length_bmp():
    pixels = (b"\x40\x05" + b"\0\0") * 64 + b"\0\x01"
    palette = b"".join(bytes([level] * 3 + [0]) for level in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, 64, 64, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + palette + pixels


def test_a_bmp_that_pillow_decodes_in_python_is_refused():
    assert Image.open(io.BytesIO(run_length_bmp())).tile[0][0] == "bmp_rle"
    assert refusal(run_length_bmp()) == "unsupported_image"


def test_samples_that_are_not_numbers_become_black_or_the_extremes():
    samples = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (48, 1))
    samples[0, :3] = np.nan, np.inf, -np.inf
    pixels = np.asarray(decoded(encoded(Image.fromarray(samples), "TIFF"), LIMIT))
    assert pixels[0, :3].tolist() == [0, 255, 0]
    assert pixels[1].tolist() == np.rint(samples[1] * 255).tolist()


def test_an_image_of_zeros_stays_black():
    for dtype in (np.uint16, np.int32, np.float32):
        image = decoded(encoded(Image.fromarray(np.zeros((40, 40), dtype)), "TIFF"), LIMIT)
        assert image.getextrema() == (0, 0)


@pytest.mark.parametrize("white", [255, 1023, 4095, 16383, 65535])
@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_every_16_bit_sample_is_scaled_to_its_share_of_white(white, image_format):
    samples = np.minimum(np.arange(65536), white).reshape(256, 256).astype(np.uint16)
    image, facts = decode(encoded(Image.fromarray(samples), image_format), LIMIT)
    assert np.array_equal(np.asarray(image), np.rint(samples.astype(np.float32) * (255 / white)))
    assert 2**facts.bits - 1 == white


def test_decoding_a_16_bit_film_takes_less_than_five_bytes_per_pixel():
    data = encoded(Image.fromarray(np.tile(np.arange(2048, dtype=np.uint16), (2048, 1))))
    decoded(data, LIMIT)
    tracemalloc.start()
    decoded(data, LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 2048**2


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "BMP"])
def test_an_8_bit_image_is_not_copied(image_format, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("copied")

    for image in (phantom(), phantom().convert("RGB")):
        data = encoded(image, image_format)
        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "convert", refuse)
            patch.setattr(Image.Image, "copy", refuse)
            assert prepare(decoded(data, LIMIT), (64, 64), 3, "unit", "letterbox").shape == (1, 64, 64, 3)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_first_page_of_a_tiff_is_decoded(mode):
    pages = [Image.new(mode, (64, 48), "white"), Image.new(mode, (64, 48))]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert np.asarray(decoded(data, LIMIT)).min() == 255


# -- the network's input ------------------------------------------------------------------------------------------


def test_the_input_has_the_shape_and_range_of_the_network():
    for channels in (1, 3):
        for image in (grey(), colour()):
            inputs = prepare(image, (24, 40), channels, "unit", "stretch")
            assert inputs.shape == (1, 24, 40, channels)
            assert inputs.dtype == np.float32
            assert 0 <= inputs.min() < inputs.max() <= 1
    assert prepare(grey(), (24, 40), 3, "none", "stretch").max() > 200


def test_unit_scaling_divides_by_255():
    whole = prepare(grey(), (24, 40), 1, "none", "stretch")
    assert np.array_equal(prepare(grey(), (24, 40), 1, "unit", "stretch"), whole / np.float32(255))


def test_letterbox_keeps_the_aspect_ratio_and_pads_with_black():
    white = Image.new("L", (64, 32), 255)
    inputs = prepare(white, (40, 40), 1, "none", "letterbox")[0, :, :, 0]
    assert np.array_equal(inputs, np.pad(np.full((20, 40), 255), ((10, 10), (0, 0))))


def test_stretch_fills_the_input():
    assert prepare(Image.new("L", (64, 32), 255), (40, 40), 1, "none", "stretch").min() == 255


@pytest.mark.parametrize("size", [(32, 5000), (5000, 32)])
def test_an_extreme_aspect_ratio_keeps_at_least_one_row(size):
    inputs = prepare(Image.new("L", size, 255), (64, 64), 1, "none", "letterbox")
    assert inputs.max() == 255
    assert 64 <= np.count_nonzero(inputs) < 3 * 64


def test_grey_as_grey_and_grey_as_colour_give_the_same_input():
    for resize in ("letterbox", "stretch"):
        one = prepare(phantom(), (64, 64), 3, "unit", resize)
        assert np.array_equal(one, prepare(phantom().convert("RGB"), (64, 64), 3, "unit", resize))


def test_colour_becomes_grey_for_a_network_of_one_channel():
    red = Image.new("RGB", (40, 40), (255, 0, 0))
    assert np.unique(prepare(red, (8, 8), 1, "none", "stretch")).tolist() == [76]  # ITU-R 601: 0.299 of red


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(grey()), ("PNG", 8, False, 1)),
        (encoded(grey(), "JPEG"), ("JPEG", 8, False, 1)),
        (KNOWN["1-bit PNG"][0], ("PNG", 1, False, 1)),
        (KNOWN["16-bit PNG of 12 bits"][0], ("PNG", 12, False, 1)),
        (KNOWN["16-bit TIFF, white is zero"][0], ("TIFF", 16, True, 1)),
        (KNOWN["8-bit TIFF, white is zero"][0], ("TIFF", 8, True, 1)),
        (KNOWN["float TIFF of 0 to 1"][0], ("TIFF", None, False, 1)),
        (KNOWN["TIFF of two pages"][0], ("TIFF", 8, False, 2)),
        (KNOWN["animated WebP"][0], ("WEBP", 8, False, 2)),
    ],
)
def test_the_decoder_reports_what_it_found(data, expected):
    facts = decode(data, LIMIT)[1]
    assert (facts.format, facts.bits, facts.inverted, facts.frames) == expected
    assert facts.original_size == RAMP.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_decoder_reports_how_it_turned_an_image(orientation):
    image, facts = decode(oriented(orientation, "PNG"), LIMIT)
    turned = np.rot90(RAMP[:, ::-1] if facts.mirrored else RAMP, -facts.rotated // 90)
    assert np.array_equal(np.asarray(image), turned)
    assert facts.original_size == RAMP.shape


@pytest.mark.parametrize("size", [(64, 32), (30, 77), (1000, 999), (5000, 32)])
def test_the_content_box_is_where_letterbox_puts_the_image(size):
    inputs = prepare(Image.new("L", size[::-1], 255), (48, 40), 1, "none", "letterbox")[0, ..., 0]
    top, left, height, width = content_of(size, (48, 40), "letterbox")
    assert inputs[top : top + height, left : left + width].min() == 255
    assert np.count_nonzero(inputs) == height * width
    assert content_of(size, (48, 40), "stretch") == (0, 0, 48, 40)
