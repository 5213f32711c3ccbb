import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from preprocessing import ImageError, decode
from tests.support.hostile import chunk, pages_that_share_tags, small_png, tiff, tiff_of
from tests.support.phantoms import encoded, phantom

LIMIT = 50_000_000
FILM = phantom(size=(96, 64))
JPEG = encoded(FILM, "JPEG")


def segments(marker, body, count):
    """Return a good JPEG with so many more segments behind its first two bytes."""
    return JPEG[:2] + (b"\xff" + marker + struct.pack(">H", 2 + len(body)) + body) * count + JPEG[2:]


def tiff_with(*tags, behind=b"", **more):
    """Return the tags of a small film, and these; values that do not fit lie in `behind`, from `end` on."""
    usual = [(256, 4, 1, 64), (257, 4, 1, 96), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    usual += [(277, 3, 1, 1), (278, 4, 1, 96), (279, 4, 1, 100)]
    replaced = {tag[0] for tag in tags}
    return tiff(*[tag for tag in usual if tag[0] not in replaced], *tags, **more) + behind


def profile(count):
    return [chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1000)))] * count


EXPENSIVE = {
    "JPEG of very many segments": segments(b"\xfe", b"", 30_000),
    "JPEG of EXIF in many pieces": segments(b"\xe1", b"Exif\0\0" + bytes(60_000), 4),
    "JPEG of two frame headers": segments(b"\xc0", b"\x08\0\x60\0\x40\x01\x01\x11\0", 1),
    "JPEG of a frame of thousands of components": segments(b"\xc0", b"\x08\0\x60\0\x40\xff" + bytes(60_000), 1),
    "JPEG of very many tables": segments(b"\xdb", bytes(65) * 100, 2),
    "JPEG of very many Photoshop blocks": segments(b"\xed", b"Photoshop 3.0\0" + bytes(60_000), 17),
    "PNG of very many chunks": small_png(*[chunk(b"teST", b"")] * 30_000),
    "PNG of much EXIF": small_png(chunk(b"eXIf", b"II*\0" + bytes(300_000))),
    "PNG of very many texts": small_png(*[chunk(b"zTXt", b"k\0\0x")] * 40, *[chunk(b"iTXt", b"k\0\1\0\0\0x")] * 40),
    "TIFF of very many tags": tiff(*[(256, 4, 1, 64)] * 30_000),
    "TIFF of very many strips": tiff_with((273, 4, 30_000, 8), behind=bytes(130_000)),
    "TIFF of strips that share their bytes": tiff_with(
        (278, 4, 1, 1), (279, 4, 96, 122), behind=struct.pack("<96I", *[100_000] * 96)
    ),
    "BigTIFF of tags without end": b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60) + bytes(700_000),
}


@pytest.mark.parametrize("name", EXPENSIVE)
def test_a_file_too_expensive_to_decode_is_refused_before_pillow_opens_it(name, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("Pillow was asked to read it"))
    with pytest.raises(ImageError) as refused:
        decode(EXPENSIVE[name], LIMIT)
    assert refused.value.code == "unreadable_image"


WHOLE = ((273, 4, 1, 8), (279, 4, 1, 64 * 96))
NEVER_READ = {
    "pages that share their tags": pages_that_share_tags(99),
    "tags that share their bytes": tiff_with(
        *WHOLE, *[(60_000 + n, 7, 50_000, 8) for n in range(9)], behind=bytes(50_000)
    ),
    "very many fractions": tiff_with(*WHOLE, (282, 5, 30_000, 8), behind=bytes(250_000)),
    "EXIF of very many fractions": tiff_with(
        *WHOLE, (34665, 4, 1, 134), behind=struct.pack("<HHHII", 1, 33434, 5, 30_000, 8) + bytes(250_000)
    ),
}


@pytest.mark.parametrize("name", NEVER_READ)
def test_tags_that_do_not_describe_the_pixels_of_a_tiff_are_never_read(name, monkeypatch):
    opened, pillow_open = [], Image.open
    monkeypatch.setattr(
        Image, "open", lambda *args, **options: opened.append(pillow_open(*args, **options)) or opened[0]
    )
    assert decode(NEVER_READ[name], LIMIT)[0].size == (64, 96)
    assert set(opened[0].tag_v2) <= set(range(256, 280)) | {284}


@pytest.mark.parametrize("options", [{}, {"big_tiff": True}, {"compression": "tiff_lzw"}], ids=str)
def test_a_tiff_of_many_pages_is_read(options):
    pages = [Image.new("L", (40, 40), level) for level in range(99)]
    image, facts = decode(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], **options), LIMIT)
    assert facts.frames == 99
    assert image.size == (40, 40)


def test_a_film_with_one_strip_per_row_is_read():
    buffer = io.BytesIO()
    Image.new("L", (64, 5_000), 9).save(buffer, "TIFF", tiffinfo={278: 1}, compression="raw")
    assert decode(buffer.getvalue(), LIMIT)[0].size == (64, 5_000)


def test_ordinary_files_with_metadata_are_read():
    exif = Image.Exif()
    exif[0x010E] = "a" * 60_000
    for image_format, options in (
        ("JPEG", {"exif": exif, "icc_profile": bytes(3_000_000), "comment": b"c" * 60_000}),
        ("PNG", {"exif": exif, "icc_profile": bytes(500_000)}),
        ("TIFF", {"exif": exif, "icc_profile": bytes(3_000_000)}),
        ("WEBP", {"exif": exif}),
    ):
        assert decode(encoded(FILM, image_format, **options), LIMIT)[0].size == FILM.size, image_format


@pytest.mark.parametrize("side", [5_000, 2**31])
def test_a_tiff_whose_tiles_are_much_larger_than_itself_is_refused(side):
    data = tiff_with((322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8), (325, 4, 1, 100))
    with pytest.raises(ImageError) as refused:
        decode(data, LIMIT)
    assert refused.value.code == "unreadable_image"


def test_the_parts_of_a_tiff_cannot_hide_scans():
    scans = b"\xff\xda" * 200
    data = tiff_with((259, 3, 1, 7), (273, 4, 300, 122), behind=struct.pack("<300I", *[8] * 300) + scans)
    with pytest.raises(ImageError) as refused:
        decode(data, LIMIT)
    assert refused.value.code == "unreadable_image"


def test_headers_cut_anywhere_cause_no_internal_error():
    for data in (*EXPENSIVE.values(), tiff_of(64, 96)):
        for cut in np.linspace(4, min(len(data), 2_000), 40, dtype=int).tolist():
            try:
                decode(data[:cut], LIMIT)
            except ImageError:
                continue
