import logging
import struct
import subprocess
import sys
import time
import traceback
import tracemalloc
import warnings
import zlib
from contextlib import suppress
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from imaging import dicom, dicom_display, dicom_frames, dicom_reading, jpeg, limits
from imaging.dicom import MODALITIES, is_dicom
from imaging.image import ImageError
from preprocessing import decode
from tests.conftest import ROOT
from tests.support import pydicom_pipeline
from tests.support.dicoms import PATIENT, dicom_file, encapsulated, look_up_table, read
from tests.support.phantoms import encoded, phantom
from web.messages import REASONS

LIMIT = 50_000_000
RAMP = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))  # (48, 64): dark on the left, bright on the right
RAMP[0] = 0  # the top row is dark, so that turning is seen
RAMP[-1, -1] = 255
WIDE = np.rint(RAMP * (4095 / 255)).astype(np.uint16)  # the same in 12 bits
BELOW = (WIDE.astype(int) - 2048).astype(np.int16)  # the same, signed
COLOUR = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=2)
YBR = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
LARGE = np.zeros((2048, 2048), np.uint8)
TWELVE = {"BitsStored": 12, "HighBit": 11}
IDENTITY = look_up_table(np.arange(4096), 0, 12)
MARKED = (WIDE | 0xA000).astype(np.uint16)  # an overlay in the unused bits
PALETTE = {
    "PhotometricInterpretation": "PALETTE COLOR",
    **{f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")},
    **{
        f"{name}PaletteColorLookupTableData": (np.arange(256) * factor).astype("<u2").tobytes()
        for name, factor in (("Red", 257), ("Green", 0), ("Blue", 128))
    },
}


def windowed(centre, width, values=WIDE):
    """PS3.3 C.11.2.1.2.1, written out."""
    shares = (values - (centre - 0.5)) / (width - 1) + 0.5
    return np.rint(np.clip(shares, 0, 1) * 255)


def jpeg_of(pixels, **options):
    return encoded(Image.fromarray(pixels), "JPEG", quality=98, **options)


def jpeg_2000(pixels, **options):
    return imagecodecs.jpeg2k_encode(pixels, level=0, **{"codecformat": "j2k"} | options)


def lossless(pixels, bits):
    return imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=bits)


def rewritten(data, pixels, representation="OB", **elements):
    """Return a file with other bytes for its pixels."""
    dataset = read(data)
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels
    dataset["PixelData"].VR = representation
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def subsampled(pixels):
    """Return a file whose pairs of pixels share the colour of the first, and what it shows, by PS3.3 C.7.6.3.1.2."""
    fours = np.concatenate([pixels[..., 0].reshape(48, 32, 2), pixels[:, ::2, 1:]], axis=2)
    brightness, blue, red = np.moveaxis(pixels.astype(float), 2, 0)
    blue, red = (colour[:, ::2].repeat(2, axis=1) - 128 for colour in (blue, red))
    shown = [brightness + 1.402 * red, brightness - 0.344136 * blue - 0.714136 * red, brightness + 1.772 * blue]
    data = rewritten(dicom_file(pixels), fours.tobytes(), PhotometricInterpretation="YBR_FULL_422")
    return data, np.rint(np.clip(np.stack(shown, axis=2), 0, 255))


def words(pixels):
    return rewritten(dicom_file(pixels, BIG), pixels.tobytes(), "OW").replace(
        pixels.tobytes(), pixels.reshape(-1, 2)[:, ::-1].tobytes()
    )


def longer(pixels):
    return rewritten(dicom_file(pixels), pixels.tobytes() + bytes(10))


def stated(name, **elements):
    """Return a sequence of functional groups whose one item holds one macro that states the elements."""
    from pydicom import Dataset

    group, macro = Dataset(), Dataset()
    for element_name, value in elements.items():
        setattr(macro, element_name, value)
    setattr(group, name, [macro])
    return [group]


def comma(data, written, value):
    """Return a file with a decimal comma where pydicom would write none."""
    assert data.count(written) == 1
    return data.replace(written, value)


def padded(samples, value, **elements):
    """Return a file whose first columns are padding."""
    samples = samples.copy()
    samples[:, :8] = value
    return dicom_file(samples, PixelPaddingValue=elements.pop("padding", value), **elements)


def unmarked_rgb(pixels):
    """Return a JPEG whose components are red, green and blue, and that says so nowhere."""
    data = imagecodecs.jpeg8_encode(pixels, level=98, colorspace="RGB", outcolorspace="RGB", subsampling="444")
    start = data.index(b"\xff\xee")
    data = data[:start] + data[start + 16 :]
    for marker, first, step in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        segment = bytearray(data[data.index(marker) :])
        segment[first : first + 3 * step : step] = b"\1\2\3"
        data = data[: data.index(marker)] + bytes(segment)
    return data


NO_PADDING = np.where(np.arange(64) < 8, 0, RAMP)
EXPLICIT, IMPLICIT = uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian
BIG, DEFLATED = uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian
J2K, JLS, SV1 = uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1

KNOWN = {
    "8 bits": (dicom_file(RAMP), RAMP),
    "12 bits": (dicom_file(WIDE, **TWELVE), RAMP),
    "12 bits, implicit": (dicom_file(WIDE, IMPLICIT, **TWELVE), RAMP),
    "12 bits, big endian": (dicom_file(WIDE, BIG, **TWELVE), RAMP),
    "12 bits, deflated": (dicom_file(WIDE, DEFLATED, **TWELVE), RAMP),
    "10 bits": (dicom_file(WIDE // 4, BitsStored=10, HighBit=9), RAMP),
    "16 bits": (dicom_file(RAMP.astype(np.uint16) * 257), RAMP),
    "16 bits that hold 12": (dicom_file(WIDE), RAMP),
    "12 bits of a dark film": (dicom_file(WIDE // 8, **TWELVE), np.rint((WIDE // 8) * (255 / 4095))),
    "12 bits with an overlay above": (dicom_file(MARKED, **TWELVE), RAMP),
    "12 bits at the top": (dicom_file(WIDE << 4, BitsStored=12, HighBit=15), RAMP),
    "signed, from the smallest to the largest": (dicom_file(BELOW, **TWELVE), RAMP),
    "signed, none below zero": (dicom_file((WIDE // 2).astype(np.int16), **TWELVE), RAMP),
    "MONOCHROME1": (dicom_file(WIDE, PhotometricInterpretation="MONOCHROME1", **TWELVE), 255 - RAMP),
    "a slope below zero": (dicom_file(WIDE, RescaleSlope=-1, RescaleIntercept=4095, **TWELVE), 255 - RAMP),
    "a window": (dicom_file(WIDE, WindowCenter=1000, WindowWidth=500, **TWELVE), windowed(1000, 500)),
    "the first of two windows": (
        dicom_file(WIDE, WindowCenter=[3000, 9], WindowWidth=[200, 9], **TWELVE),
        windowed(3000, 200),
    ),
    "a window on MONOCHROME1": (
        dicom_file(WIDE, WindowCenter=1000, WindowWidth=500, PhotometricInterpretation="MONOCHROME1", **TWELVE),
        255 - windowed(1000, 500),
    ),
    "a window after a rescale": (
        dicom_file(BELOW, RescaleSlope=2, RescaleIntercept=7, WindowCenter=0, WindowWidth=1000, **TWELVE),
        windowed(0, 1000, 2.0 * BELOW + 7),
    ),
    "a window of width 1": (
        dicom_file(WIDE, WindowCenter=2000.5, WindowWidth=1, **TWELVE),
        np.where(WIDE > 2000, 255, 0),
    ),
    "a window of width 0, which means nothing": (dicom_file(WIDE, WindowCenter=9, WindowWidth=0, **TWELVE), RAMP),
    "an exact window": (
        dicom_file(WIDE, WindowCenter=1000, WindowWidth=500, VOILUTFunction="LINEAR_EXACT", **TWELVE),
        np.rint(np.clip((WIDE - 1000.0) / 500 + 0.5, 0, 1) * 255),
    ),
    "a sigmoid": (
        dicom_file(WIDE, WindowCenter=2000, WindowWidth=900, VOILUTFunction="SIGMOID", **TWELVE),
        np.rint(255 / (1 + np.exp(-4 * (WIDE - 2000.0) / 900))),
    ),
    "a VOI LUT": (
        dicom_file(WIDE, VOILUTSequence=[look_up_table(4095 - np.arange(4096), 0, 12)], **TWELVE),
        255 - RAMP,
    ),
    "a VOI LUT, implicit": (dicom_file(WIDE, IMPLICIT, VOILUTSequence=[IDENTITY], **TWELVE), RAMP),
    "a VOI LUT that is shorter than the samples": (
        dicom_file(WIDE, VOILUTSequence=[look_up_table(np.arange(1000), 100, 12)], **TWELVE),
        np.rint(np.clip(WIDE.astype(int) - 100, 0, 999) * (255 / 4095)),
    ),
    "a VOI LUT of 4,096 entries of 8 bits": (
        dicom_file(WIDE, VOILUTSequence=[look_up_table(np.arange(4096) // 16, 0, 8)], **TWELVE),
        WIDE // 16,
    ),
    "a VOI LUT goes before a window": (
        dicom_file(WIDE, VOILUTSequence=[IDENTITY], WindowCenter=9, WindowWidth=9, **TWELVE),
        RAMP,
    ),
    "a window with a decimal comma": (
        comma(dicom_file(WIDE, WindowCenter="1000.5", WindowWidth="500.2", **TWELVE), b"1000.5", b"1000,5"),
        windowed(1000.5, 500.2),
    ),
    "a rescale with a decimal comma": (
        comma(dicom_file(WIDE, RescaleSlope="0.5", WindowCenter=500, WindowWidth=250, **TWELVE), b"0.5 ", b"0,5 "),
        windowed(500, 250, WIDE / 2),
    ),
    "a window that is not a number": (
        comma(dicom_file(WIDE, WindowCenter="1234.5", WindowWidth="500", **TWELVE), b"1234.5", b"so-so "),
        RAMP,
    ),
    "a window for all frames": (
        dicom_file(
            WIDE,
            SharedFunctionalGroupsSequence=stated("FrameVOILUTSequence", WindowCenter=1000, WindowWidth=500),
            **TWELVE,
        ),
        windowed(1000, 500),
    ),
    "a window for each frame goes before one for all": (
        dicom_file(
            WIDE,
            SharedFunctionalGroupsSequence=stated("FrameVOILUTSequence", WindowCenter=9, WindowWidth=9),
            PerFrameFunctionalGroupsSequence=stated("FrameVOILUTSequence", WindowCenter=1000, WindowWidth=500)
            + stated("FrameVOILUTSequence", WindowCenter=9, WindowWidth=9) * 900,
            **TWELVE,
        ),
        windowed(1000, 500),
    ),
    "a rescale for all frames, implicit": (
        dicom_file(
            WIDE,
            IMPLICIT,
            SharedFunctionalGroupsSequence=stated(
                "PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=7
            ),
            WindowCenter=1000,
            WindowWidth=500,
            **TWELVE,
        ),
        windowed(1000, 500, 2.0 * WIDE + 7),
    ),
    "padding above the samples": (padded(WIDE, 65535), NO_PADDING),
    "padding far below the samples": (padded(BELOW, -32768), NO_PADDING),
    "padding of a range": (padded(WIDE, 60000, padding=50000, PixelPaddingRangeLimit=65535), NO_PADDING),
    "padding of an inverted film": (
        padded(4095 - WIDE, 4095, padding=4095, PhotometricInterpretation="MONOCHROME1", **TWELVE),
        NO_PADDING,
    ),
    "padding within a window": (
        padded(WIDE, 1000, WindowCenter=1000, WindowWidth=500, **TWELVE),
        np.where((np.arange(64) < 8) | (WIDE == 1000), 0, windowed(1000, 500)),
    ),
    "nothing but padding": (dicom_file(WIDE * 0 + 9, PixelPaddingValue=9), RAMP * 0),
    "JPEG, RGB that says so nowhere": (
        encapsulated(unmarked_rgb(COLOUR), uid.JPEGBaseline8Bit, COLOUR, PhotometricInterpretation="RGB"),
        COLOUR,
    ),
    "JPEG lossless, RGB": (encapsulated(lossless(COLOUR, 8), SV1, COLOUR), COLOUR),
    "JPEG lossless, YBR": (
        encapsulated(lossless(YBR, 8), SV1, COLOUR, PhotometricInterpretation="YBR_FULL"),
        COLOUR,
    ),
    "a modality LUT": (
        dicom_file(WIDE, ModalityLUTSequence=[look_up_table(4095 - np.arange(4096), 0, 12)], **TWELVE),
        255 - RAMP,
    ),
    "a modality LUT of signed samples": (
        dicom_file(BELOW, IMPLICIT, ModalityLUTSequence=[look_up_table(np.arange(4096), -2048, 12)], **TWELVE),
        RAMP,
    ),
    "a modality LUT, then a window": (
        dicom_file(
            WIDE,
            ModalityLUTSequence=[look_up_table(4095 - np.arange(4096), 0, 12)],
            WindowCenter=1000,
            WindowWidth=500,
            **TWELVE,
        ),
        windowed(1000, 500, 4095.0 - WIDE),
    ),
    "the first of three frames": (
        dicom_file(np.stack([WIDE, WIDE * 0, WIDE // 2]), NumberOfFrames=3, **TWELVE),
        RAMP,
    ),
    "the first of two RLE frames": (
        dicom_file(np.stack([WIDE, WIDE * 0]), compress=uid.RLELossless, NumberOfFrames=2, **TWELVE),
        RAMP,
    ),
    "RGB": (dicom_file(COLOUR), COLOUR),
    "RGB in planes": (
        dicom_file(
            np.ascontiguousarray(COLOUR.transpose(2, 0, 1))[np.newaxis].reshape(1, 48, 64, 3),
            NumberOfFrames=1,
            PlanarConfiguration=1,
        ),
        COLOUR,
    ),
    "RGB of 16 bits": (dicom_file(COLOUR.astype(np.uint16) * 257), COLOUR),
    "YBR": (dicom_file(YBR, PhotometricInterpretation="YBR_FULL"), COLOUR),
    "YBR of two pixels a colour": subsampled(YBR),
    "8 bits, big endian words": (words(RAMP), RAMP),
    "RGB, more bytes than pixels": (longer(COLOUR), COLOUR),
    "a palette": (dicom_file(RAMP, **PALETTE), np.stack([RAMP, RAMP * 0, RAMP // 2], axis=2)),
    "RLE": (dicom_file(RAMP, compress=uid.RLELossless), RAMP),
    "RLE of 12 bits": (dicom_file(WIDE, compress=uid.RLELossless, **TWELVE), RAMP),
    "RLE, signed": (dicom_file(BELOW, compress=uid.RLELossless, **TWELVE), RAMP),
    "RLE, RGB": (dicom_file(COLOUR, compress=uid.RLELossless), COLOUR),
    "RLE, YBR": (dicom_file(YBR, compress=uid.RLELossless, PhotometricInterpretation="YBR_FULL"), COLOUR),
    "JPEG": (encapsulated(jpeg_of(RAMP), uid.JPEGBaseline8Bit, RAMP), RAMP),
    "JPEG, RGB": (
        encapsulated(
            jpeg_of(COLOUR, subsampling=0), uid.JPEGBaseline8Bit, COLOUR, PhotometricInterpretation="YBR_FULL"
        ),
        COLOUR,
    ),
    "JPEG of 12 bits": (
        encapsulated(imagecodecs.jpeg8_encode(WIDE, level=98, bitspersample=12), uid.JPEGExtended12Bit, WIDE, **TWELVE),
        RAMP,
    ),
    "JPEG lossless": (encapsulated(lossless(RAMP, 8), SV1, RAMP), RAMP),
    "JPEG lossless of 12 bits": (encapsulated(lossless(WIDE, 12), uid.JPEGLossless, WIDE, **TWELVE), RAMP),
    "JPEG lossless of 16 bits": (encapsulated(lossless(WIDE * 16, 16), SV1, WIDE), np.rint(WIDE * 16 * (255 / 65535))),
    "JPEG-LS": (encapsulated(imagecodecs.jpegls_encode(RAMP), JLS, RAMP), RAMP),
    "JPEG-LS of 12 bits": (encapsulated(imagecodecs.jpegls_encode(WIDE), JLS, WIDE, **TWELVE), RAMP),
    "JPEG-LS, signed": (
        encapsulated(imagecodecs.jpegls_encode((BELOW & 4095).astype(np.uint16)), JLS, BELOW, **TWELVE),
        RAMP,
    ),
    "JPEG-LS, RGB": (encapsulated(imagecodecs.jpegls_encode(COLOUR), JLS, COLOUR), COLOUR),
    "JPEG 2000": (encapsulated(jpeg_2000(RAMP), J2K, RAMP), RAMP),
    "JPEG 2000 of 12 bits": (encapsulated(jpeg_2000(WIDE, bitspersample=12), J2K, WIDE, **TWELVE), RAMP),
    "JPEG 2000, signed": (encapsulated(jpeg_2000(BELOW, bitspersample=12), J2K, BELOW, **TWELVE), RAMP),
    "JPEG 2000 in a .jp2": (encapsulated(jpeg_2000(RAMP, codecformat="jp2"), J2K, RAMP), RAMP),
    "JPEG 2000, RGB": (encapsulated(jpeg_2000(COLOUR), J2K, COLOUR, PhotometricInterpretation="YBR_RCT"), COLOUR),
}
STORED_AS = {
    "explicit": lambda pixels, **more: dicom_file(pixels, EXPLICIT, **more),
    "implicit": lambda pixels, **more: dicom_file(pixels, IMPLICIT, **more),
    "big endian": lambda pixels, **more: dicom_file(pixels, BIG, **more),
    "deflated": lambda pixels, **more: dicom_file(pixels, DEFLATED, **more),
    "RLE": lambda pixels, **more: dicom_file(pixels, compress=uid.RLELossless, **more),
}
LOSSY = ("YBR", "YBR of two pixels a colour", "JPEG", "JPEG, RGB", "RLE, YBR", "JPEG, RGB that says so nowhere")
LOSSY += ("JPEG lossless, YBR",)


@pytest.mark.parametrize("name", KNOWN)
def test_a_file_decodes_to_its_pixels(name):
    data, expected = KNOWN[name]
    assert is_dicom(data)
    image = decode(data, LIMIT)[0]
    assert image.mode == ("L" if expected.ndim == 2 else "RGB")
    difference = np.abs(np.asarray(image).astype(int) - expected)
    assert np.max(difference) <= (4 if name in LOSSY else 1)
    if name not in LOSSY:
        assert np.mean(difference) < 0.15  # 12 bits have more steps than 8: a half rounds either way


@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("way", STORED_AS)
def test_every_type_order_compression_and_polarity_is_shown_as_pydicom_shows_it(bits, signed, photometric, way):
    half = 2 ** (bits - 1) if signed else 0
    samples = np.rint(RAMP / 255 * (2**bits - 1)).astype(int) - half
    pixels = samples.astype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")
    more = {"BitsStored": bits, "HighBit": bits - 1, "PhotometricInterpretation": photometric}
    for window in ({}, {"WindowCenter": 2 ** (bits - 1) - half, "WindowWidth": 2 ** (bits - 2)}):
        data = STORED_AS[way](pixels, **more, **window)
        shown = np.asarray(decode(data, LIMIT)[0]).astype(float)
        assert np.max(np.abs(shown - pydicom_pipeline.show(read(data)))) <= 2


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("way", ["explicit", "implicit", "big endian", "deflated"])
def test_colour_of_every_depth_order_and_layout_is_shown_as_pydicom_shows_it(bits, planar, way):
    pixels = COLOUR if bits == 8 else COLOUR.astype(np.uint16) * 257
    stored = pixels.transpose(2, 0, 1).reshape(pixels.shape) if planar else pixels
    data = STORED_AS[way](np.ascontiguousarray(stored), PlanarConfiguration=planar)
    assert np.array_equal(np.asarray(decode(data, LIMIT)[0]), COLOUR)
    assert np.array_equal(pydicom_pipeline.show(read(data)), COLOUR)


def test_pixels_without_a_representation_in_an_explicit_vr_file_are_accepted():
    data = KNOWN["JPEG"][0].replace(b"\x10\0OB\0\0\xff\xff\xff\xff", b"\x10\0\xff\xff\xff\xff")
    assert data != KNOWN["JPEG"][0]
    assert decode(data, LIMIT)[0].size == (64, 48)


STREAMS = ("JPEG", "JPEG of 12 bits", "JPEG lossless", "JPEG lossless of 12 bits", "JPEG-LS", "JPEG-LS of 12 bits")


def frame_of(name):
    """Return a compressed frame of KNOWN, its transfer syntax and what else its file needs."""
    from pydicom.encaps import get_frame

    dataset = read(KNOWN[name][0])
    more = TWELVE if dataset.BitsStored == 12 else {}
    shape = WIDE if dataset.BitsAllocated == 16 else RAMP
    return get_frame(dataset.PixelData, 0, number_of_frames=1), str(dataset.file_meta.TransferSyntaxUID), shape, more


@pytest.mark.parametrize("padding", [b"\0", b"\xff" * 3, b"\0" * 100, b"\xff\xd9", b"\xff\xda junk", bytes(range(256))])
@pytest.mark.parametrize("name", STREAMS)
def test_padding_after_the_end_of_a_stream_is_ignored(name, padding):
    frame, syntax, shape, more = frame_of(name)
    image, _ = decode(encapsulated(frame.rstrip(b"\0") + padding, syntax, shape, **more), LIMIT)
    assert np.max(np.abs(np.asarray(image).astype(int) - RAMP)) <= 4


FILM = np.asarray(phantom(size=(400, 320)))
FILM_12 = (FILM.astype(np.uint16) * 16 + np.random.default_rng(0).integers(0, 16, FILM.shape)).astype(np.uint16)
HALVED = {
    "JPEG": (jpeg_of(FILM), uid.JPEGBaseline8Bit, FILM, {}),
    "JPEG, optimised": (jpeg_of(FILM, optimize=True), uid.JPEGBaseline8Bit, FILM, {}),
    "JPEG, RGB": (
        jpeg_of(np.stack([FILM, 255 - FILM, FILM // 2], axis=2)),
        uid.JPEGBaseline8Bit,
        np.stack([FILM] * 3, axis=2),
        {"PhotometricInterpretation": "YBR_FULL_422"},
    ),
    "JPEG of 12 bits": (
        imagecodecs.jpeg8_encode(FILM_12, level=95, bitspersample=12),
        uid.JPEGExtended12Bit,
        FILM_12,
        TWELVE,
    ),
    **{
        f"JPEG lossless, predictor {predictor}": (
            imagecodecs.jpeg8_encode(FILM_12, lossless=True, bitspersample=12, predictor=predictor),
            uid.JPEGLossless,
            FILM_12,
            TWELVE,
        )
        for predictor in range(1, 8)
    },
    "JPEG-LS": (imagecodecs.jpegls_encode(FILM_12), JLS, FILM_12, TWELVE),
}


@pytest.mark.parametrize("name", HALVED)
def test_a_whole_frame_is_shown(name):
    frame, syntax, pixels, more = HALVED[name]
    assert decode(encapsulated(frame, syntax, pixels, **more), LIMIT)[0].size == (320, 400)


@pytest.mark.parametrize("name", HALVED)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("fill", [b"", b"\0"])
def test_a_frame_of_which_part_is_missing_is_refused_whatever_closes_it(name, share, fill):
    frame, syntax, pixels, more = HALVED[name]
    kept = int(len(frame) * share)
    half = frame[:kept].rstrip(b"\xff") + fill * (len(frame) - kept) + b"\xff\xd9"
    assert refusal(encapsulated(half, syntax, pixels, **more))[0] == "unreadable_image"


def test_a_black_border_is_no_sign_of_missing_pixels():
    film = FILM.copy()
    film[250:] = 0
    for frame, syntax in (
        (jpeg_of(film), uid.JPEGBaseline8Bit),
        (jpeg_of(film, optimize=True), uid.JPEGBaseline8Bit),
        (lossless(film, 8), SV1),
    ):
        image, _ = decode(encapsulated(frame, syntax, film), LIMIT)
        assert np.max(np.abs(np.asarray(image)[260:].astype(int))) <= 2


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("name", ["DICM alone", "the preamble alone", "neither"])
def test_a_file_may_lack_its_preamble(name, syntax):
    data = dicom_file(WIDE, syntax, **TWELVE)
    cut = {"DICM alone": data[128:], "the preamble alone": data[:128] + data[132:], "neither": data[132:]}[name]
    assert np.max(np.abs(np.asarray(decode(cut, LIMIT)[0]).astype(int) - RAMP)) <= 1


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_bare_data_set_is_read_where_it_is_unmistakable(syntax):
    data = dicom_file(WIDE, syntax, **TWELVE)
    bare = data[data.index(b"\x08\0\x16\0") :]
    assert np.max(np.abs(np.asarray(decode(bare, LIMIT)[0]).astype(int) - RAMP)) <= 1
    assert not is_dicom(bare.replace(b"1.2.840.10008.", b"1.2.841.10008."))


def test_colour_planes_are_joined():
    planes = np.ascontiguousarray(COLOUR.transpose(2, 0, 1))
    dataset = read(dicom_file(COLOUR, PlanarConfiguration=1))
    dataset.PixelData = planes.tobytes()
    buffer = BytesIO()
    dataset.save_as(buffer)
    assert np.array_equal(np.asarray(decode(buffer.getvalue(), LIMIT)[0]), COLOUR)


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_modalities_of_radiographs_are_accepted(modality):
    assert decode(dicom_file(RAMP, Modality=modality), LIMIT)[0].size == (64, 48)


# -- what is refused ----------------------------------------------------------------------------------------------


def refusal(data, max_pixels=LIMIT):
    with pytest.raises(ImageError) as caught:
        decode(data, max_pixels)
    assert PATIENT not in repr(caught.value.facts)
    assert set(caught.value.facts.get("reason", "modality").split()) <= set(REASONS)
    return caught.value.code, caught.value.facts.get("reason")


@pytest.mark.parametrize("modality", ["CT", "MR", "US", "SR", "RF"])
def test_another_modality_is_named_in_the_refusal(modality):
    with pytest.raises(ImageError) as caught:
        decode(dicom_file(RAMP, Modality=modality), LIMIT)[0]
    assert caught.value.facts == {"reason": "modality", "modality": modality, "accepted": MODALITIES}


@pytest.mark.parametrize("modality", ["", PATIENT, "QUIJANO", "dx"])
def test_an_invalid_modality_is_never_quoted(modality):
    with pytest.raises(ImageError) as caught:
        decode(dicom_file(RAMP, Modality=modality), LIMIT)[0]
    assert caught.value.facts == {"reason": "unknown_modality", "accepted": MODALITIES}


def test_a_file_without_pixels_is_refused_with_that_reason():
    assert refusal(dicom_file(None)) == ("unsupported_image", "no_pixels")


@pytest.mark.parametrize(
    "data",
    [
        encapsulated(b"\0\0\1\xb3", uid.MPEG2MPML, RAMP),
        dicom_file(RAMP, BitsAllocated=32, BitsStored=32, HighBit=31),
        dicom_file(RAMP, BitsAllocated=1, BitsStored=1, HighBit=0),
        dicom_file(RAMP, PhotometricInterpretation="CMYK"),
        dicom_file(RAMP, SamplesPerPixel=4),
        dicom_file(RAMP, PhotometricInterpretation="PALETTE COLOR", SegmentedRedPaletteColorLookupTableData=bytes(6)),
    ],
)
def test_an_unsupported_encoding_is_refused_with_that_reason(data):
    assert refusal(data) == ("unsupported_image", "encoding")


@pytest.mark.parametrize("name", [name for name in KNOWN if "bits" in name or "RLE" in name])
def test_a_truncated_file_is_refused_at_every_tenth_of_its_length(name):
    data = KNOWN[name][0]
    for tenths in range(1, 10):
        cut = data[: len(data) * tenths // 10]
        if is_dicom(cut):
            assert refusal(cut)[0] in ("unreadable_image", "unsupported_image"), tenths
    assert refusal(data[: len(data) - 100])[0] == "unreadable_image"


@pytest.mark.parametrize("name", ["JPEG", "JPEG lossless", "JPEG-LS", "JPEG 2000", "RLE"])
def test_a_frame_that_ends_early_within_a_whole_file_is_refused(name):
    from pydicom.encaps import get_frame

    dataset = read(KNOWN[name][0])
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    for tenths in (1, 5, 9):
        cut = encapsulated(frame[: len(frame) * tenths // 10], syntax, RAMP)
        assert refusal(cut)[0] == "unreadable_image", tenths


@pytest.mark.parametrize("side", [31, 1])
def test_an_image_too_small_for_a_radiograph_is_refused(side):
    assert refusal(dicom_file(np.zeros((side, 40), np.uint8)))[0] == "image_too_small"


def test_the_pixels_of_all_frames_are_counted_from_the_header():
    assert refusal(dicom_file(RAMP, Rows=20_000, Columns=20_000))[0] == "too_many_pixels"
    assert refusal(dicom_file(RAMP[np.newaxis], NumberOfFrames=2_000_000))[0] == "too_many_pixels"
    assert decode(dicom_file(RAMP), RAMP.size)[0].size == (64, 48)
    assert refusal(dicom_file(RAMP), RAMP.size - 1)[0] == "too_many_pixels"


@pytest.mark.parametrize("name", ["JPEG", "JPEG lossless", "JPEG-LS", "JPEG 2000"])
def test_a_frame_larger_than_its_header_states_is_never_decoded(name):
    from pydicom.encaps import get_frame

    dataset = read(KNOWN[name][0])
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    claimed = encapsulated(frame, str(dataset.file_meta.TransferSyntaxUID), RAMP[:40])
    assert refusal(claimed)[0] == "unreadable_image"


def test_a_jpeg_with_too_many_scans_is_refused():
    data = jpeg_of(RAMP, progressive=True)
    last = data.rindex(b"\xff\xda")
    bomb = data[:-2] + data[last:-2] * 65 + data[-2:]
    assert refusal(encapsulated(bomb, uid.JPEGBaseline8Bit, RAMP))[0] == "unreadable_image"


def element(tag, representation, value, undefined=False):
    """Return an element of explicit VR, or of an implicit one where `representation` is None."""
    length = 2**32 - 1 if undefined else len(value)
    if representation is None:
        return struct.pack("<HHI", *tag, length) + value
    if representation in ("OB", "OW", "SQ", "UC", "UN"):
        return struct.pack("<HH2sHI", *tag, representation.encode(), 0, length) + value
    return struct.pack("<HH2sH", *tag, representation.encode(), length) + value


def before_the_pixels(more, data=None):
    data = data or dicom_file(RAMP)
    place = data.rindex(b"\xe0\x7f\x10\0")
    return data[:place] + more + data[place:]


def item_of(value):
    return element((0xFFFE, 0xE000), None, value)


CHARACTER_SET, UNKNOWN, VOI_LUT = (0x0008, 0x0005), (0x0009, 0x1001), (0x0028, 0x3010)
DESCRIPTOR, LUT_DATA, PIXELS, PALETTE_DATA = (0x0028, 0x3002), (0x0028, 0x3006), (0x7FE0, 0x0010), (0x0028, 0x1201)
LONG, LONG_SET = b"1\\" * 600, element(CHARACTER_SET, "CS", b"X\\" * 40)
END_OF_SEQUENCE = element((0xFFFE, 0xE0DD), None, b"")


def never_decodes_jpeg(monkeypatch):
    monkeypatch.setattr(imagecodecs, "jpeg8_decode", lambda _: pytest.fail("it was decoded"))


def test_a_large_jpeg_has_few_scans(monkeypatch):
    data = jpeg_of(RAMP, progressive=True)
    film = encapsulated(data, uid.JPEGBaseline8Bit, RAMP)
    scans = data.count(b"\xff\xda")
    monkeypatch.setattr(jpeg, "MAX_SCANNED_PIXELS", scans * RAMP.size)
    assert decode(film, LIMIT)[0].size == (64, 48)
    monkeypatch.setattr(jpeg, "MAX_SCANNED_PIXELS", scans * RAMP.size - 1)
    never_decodes_jpeg(monkeypatch)
    assert refusal(film)[0] == "unreadable_image"


@pytest.mark.parametrize("marker", [0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
def test_an_arithmetic_jpeg_is_never_decoded(monkeypatch, marker):
    never_decodes_jpeg(monkeypatch)
    data = jpeg_of(RAMP).replace(b"\xff\xc0", bytes([0xFF, marker]))
    assert refusal(encapsulated(data, uid.JPEGBaseline8Bit, RAMP))[0] == "unreadable_image"


@pytest.mark.parametrize("marker", [0x01, 0xC8, 0xCC, 0xD0, 0xD8, 0xD9, 0xDA, 0xFD, 0x00])
def test_a_marker_without_a_segment_cannot_hide_another_size(monkeypatch, marker):
    never_decodes_jpeg(monkeypatch)
    large = jpeg_of(LARGE)
    frame = large[large.index(b"\xff\xc0") :]
    small = jpeg_of(RAMP)[2:]
    data = b"\xff\xd8\xff" + bytes([marker]) + frame.ljust(0xFFC0, b"\0") + small
    assert refusal(encapsulated(data, uid.JPEGBaseline8Bit, RAMP))[0] == "unreadable_image"


def test_empty_segments_of_a_jpeg_are_not_counted_to_the_end(monkeypatch):
    never_decodes_jpeg(monkeypatch)
    data = jpeg_of(RAMP)
    bomb = data[:2] + b"\xff\xfe\0\2" * 20_001 + data[2:]
    assert refusal(encapsulated(bomb, uid.JPEGBaseline8Bit, RAMP))[0] == "unreadable_image"


def test_fill_bytes_before_a_marker_are_skipped():
    data = jpeg_of(RAMP)
    filled = data[:2] + b"\xff\xff\xff" + data[2:]
    assert decode(encapsulated(filled, uid.JPEGBaseline8Bit, RAMP), LIMIT)[0].size == (64, 48)


def test_fragments_of_defined_length_are_not_joined(monkeypatch):
    from pydicom.encaps import encapsulate

    monkeypatch.setattr("pydicom.encaps.get_frame", lambda *_, **__: pytest.fail("they were put together"))
    native = dicom_file(RAMP)
    start = native.rindex(b"\xe0\x7f\x10\0")
    data = native[:start] + element(PIXELS, "OB", encapsulate([jpeg_of(RAMP)]))
    data = data.replace(b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x16\x001.2.840.10008.1.2.4.50")
    assert refusal(data)[0] == "unreadable_image"


def coded(stream, layers=1, block=4, precincts=b"", place=None):
    """Return a JPEG 2000 whose COD segment says so; with `place`, one more such segment is put there instead."""
    start = stream.index(b"\xff\x52")
    levels = stream[start + 9]
    body = struct.pack(">BBHBBBBBB", bool(precincts), 0, layers, 0, levels, block, block, 0, 1) + precincts
    segment = b"\xff\x52" + struct.pack(">H", 2 + len(body)) + body
    if place is None:
        return stream[:start] + segment + stream[start + 14 :]
    changed = stream[:place] + segment + stream[place:]
    size = place - 12 + 6  # Psot, of the part of a tile whose header this is
    return (
        changed[:size]
        + struct.pack(">I", struct.unpack_from(">I", changed, size)[0] + len(segment))
        + changed[size + 4 :]
    )


STREAM = jpeg_2000(LARGE)
FIRST_PART = STREAM.index(b"\xff\x93")
TINY_TILES = STREAM[:24] + struct.pack(">2I", 2, 2) + STREAM[32:]


@pytest.mark.parametrize(
    "stream",
    [
        TINY_TILES,
        coded(STREAM, layers=65),
        coded(STREAM, block=0),
        coded(STREAM, precincts=b"\x11" * 6),
        coded(STREAM, block=0, place=FIRST_PART),
        coded(STREAM, precincts=b"\x11" * 6, place=FIRST_PART),
        STREAM[:FIRST_PART] + b"\xff\x53\0\x09\0\0\5\0\0\0\1" + STREAM[FIRST_PART:],
        STREAM[:FIRST_PART] + b"\xff\x64\0\2" * 20_001 + STREAM[FIRST_PART:],
        STREAM[:FIRST_PART] + STREAM[2:43] + STREAM[FIRST_PART:],  # another size
    ],
    ids="tiles layers blocks precincts blocks_of_a_tile precincts_of_a_tile component segments size".split(),
)
def test_a_jpeg_2000_with_too_many_parts_is_never_decoded(monkeypatch, stream):
    monkeypatch.setattr(imagecodecs, "jpeg2k_decode", lambda _: pytest.fail("it was decoded"))
    assert refusal(encapsulated(stream, J2K, LARGE))[0] == "unreadable_image"


def pillow_jpeg_2000(**options):
    return encoded(Image.fromarray(np.tile(RAMP, (20, 20))), "JPEG2000", no_jp2=True, **options)


@pytest.mark.parametrize(
    "stream",
    [
        pillow_jpeg_2000(),
        pillow_jpeg_2000(precinct_size=(128, 128), codeblock_size=(32, 32)),
        pillow_jpeg_2000(tile_size=(256, 256)),
        pillow_jpeg_2000(tile_size=(64, 64), codeblock_size=(16, 16)),
        pillow_jpeg_2000(quality_layers=[40, 20, 10, 1]),
        pillow_jpeg_2000(progression="RPCL", num_resolutions=3, plt=True),
    ],
)
def test_a_jpeg_2000_as_encoders_write_it_is_accepted(stream):
    pixels = np.tile(RAMP, (20, 20))
    assert np.array_equal(np.asarray(decode(encapsulated(stream, J2K, pixels), LIMIT)[0]), pixels)


def test_a_stream_that_is_hidden_behind_another_in_a_box_is_not_decoded():
    small, large = jpeg_2000(RAMP), jpeg_2000(LARGE, codecformat="jp2")
    box = struct.pack(">I4s", 8 + len(small), b"free") + small
    image = decode(encapsulated(large[:12] + box + large[12:], J2K, RAMP), LIMIT)[0]
    assert np.array_equal(np.asarray(image), RAMP)


def deflated(elements):
    """Return a deflated file of what stands after the transfer syntax of one that is not."""
    whole = dicom_file(RAMP, DEFLATED)
    start = whole.index(b"1.2.840.10008.1.2.1.99") + len("1.2.840.10008.1.2.1.99")
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return whole[:start] + deflater.compress(elements) + deflater.flush()


def elements_of(data):
    """Return what stands before the pixels of an explicit file, after its transfer syntax."""
    start = data.index(b"1.2.840.10008.1.2.1\0") + 20
    return data[start : data.rindex(b"\xe0\x7f\x10\0")]


@pytest.mark.parametrize(
    ("elements", "code"),
    [
        (b"", "unreadable_image"),
        (elements_of(dicom_file(RAMP)) + element(PIXELS, "OB", b"")[:8], "unreadable_image"),
        (elements_of(dicom_file(RAMP, Rows=9_000, Columns=9_000)) + element(PIXELS, "OB", b"")[:8], "too_many_pixels"),
    ],
    ids=["no header", "more than the pixels of the header", "pixels"],
)
def test_a_deflated_bomb_is_not_inflated(elements, code):
    length = struct.pack("<I", 200_000_000) if elements else b""
    bomb = deflated(elements + length + bytes(200_000_000))
    tracemalloc.start()
    assert refusal(bomb, max_pixels=20_000_000)[0] == code
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30_000_000


def test_a_deflated_file_may_continue_after_its_pixels():
    pixels = element(PIXELS, "OB", RAMP.tobytes()) + element((0xFFFC, 0xFFFC), "OB", bytes(100_000))
    data = deflated(elements_of(dicom_file(RAMP)) + pixels)
    assert np.array_equal(np.asarray(decode(data, LIMIT)[0]), RAMP)


@pytest.mark.parametrize("name", ["YBR", "YBR of two pixels a colour", "RLE, YBR"])
def test_colours_are_converted_a_few_rows_at_a_time(monkeypatch, name):
    sizes = []
    from_array = Image.fromarray

    def seen(pixels, mode=None):
        sizes.append(len(pixels) if mode else 0)
        return from_array(pixels, mode)

    monkeypatch.setattr(Image, "fromarray", seen)
    monkeypatch.setattr(dicom_frames, "ROWS_AT_ONCE", 10)
    decode(KNOWN[name][0], LIMIT)[0]
    assert sizes == [10, 10, 10, 10, 8, 0]


@pytest.mark.parametrize("name", ["8 bits", "RGB", "YBR of two pixels a colour"])
def test_fewer_pixels_than_the_header_states_are_refused(name):
    data = read(KNOWN[name][0])
    data.PixelData = data.PixelData[:-2]
    buffer = BytesIO()
    data.save_as(buffer)
    assert refusal(buffer.getvalue())[0] == "unreadable_image"


def test_an_rle_bomb_is_not_expanded_beyond_the_image():
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x07" * 500_000  # 64 MB of sevens
    tracemalloc.start()
    try:
        image = decode(encapsulated(frame, uid.RLELossless, RAMP), LIMIT)[0]
        assert np.unique(np.asarray(image)).tolist() == [7]
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 20_000_000


def test_endless_elements_are_not_read_to_the_end():
    whole = dicom_file(None)
    empty = struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0)
    started = time.perf_counter()
    assert refusal(whole + empty * 2_000_000)[0] == "unreadable_image"
    assert time.perf_counter() - started < 5


def test_endless_fragments_are_not_joined():
    data = encapsulated(b"\0\0", uid.RLELossless, RAMP)
    end = data.rindex(struct.pack("<HH", 0xFFFE, 0xE0DD))
    fragment = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    started = time.perf_counter()
    assert refusal(data[:end] + fragment * 2_000_000 + data[end:])[0] == "unreadable_image"
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "more",
    [
        element(CHARACTER_SET, "CS", b"X\\" * 600),
        element(UNKNOWN, "SQ", item_of(element(CHARACTER_SET, "CS", b"X\\" * 600)) + END_OF_SEQUENCE, undefined=True),
        element((0x0028, 0x1050), "DS", LONG),
        element((0x0028, 0x1053), "DS", LONG),
        element((0x0028, 0x0008), "IS", LONG),
        element((0x0008, 0x0060), "UC", LONG),
        element((0x0028, 0x1101), "US", LONG),
        element(PALETTE_DATA, "OW", bytes(140_000)),
        element(PALETTE_DATA, "UC", LONG),
        element(PIXELS, "UC", LONG),
        element(PIXELS, "SQ", item_of(b"") * 600),
        element(VOI_LUT, "SQ", item_of(b"") * 600),
        element((0x0028, 0x3000), "SQ", item_of(b"") * 600),
    ],
    ids=lambda more: more[:6].hex(),
)
def test_a_value_with_too_many_parts_is_refused_while_the_file_is_read(monkeypatch, more):
    monkeypatch.setattr(dicom, "_check", lambda *_: pytest.fail("the file was read"))
    assert refusal(before_the_pixels(more))[0] == "unreadable_image"


@pytest.mark.parametrize("length", [500_000, 0x5343])  # the second is written as CS and a length of 0 would be
def test_the_character_set_is_limited_in_an_implicit_vr_file_too(monkeypatch, length):
    monkeypatch.setattr(dicom, "_check", lambda *_: pytest.fail("the file was read"))
    more = element(CHARACTER_SET, None, b"X" * length)
    assert refusal(before_the_pixels(more, dicom_file(RAMP, IMPLICIT)))[0] == "unreadable_image"


@pytest.mark.parametrize("name", [b"ISO_IR 100", b"GBK ", b"\\ISO 2022 IR 87"])
def test_ordinary_character_sets_are_accepted(name):
    explicit = before_the_pixels(element(CHARACTER_SET, "CS", name))
    implicit = before_the_pixels(element(CHARACTER_SET, None, name), dicom_file(RAMP, IMPLICIT))
    assert [decode(data, LIMIT)[0].size for data in (explicit, implicit)] == [(64, 48)] * 2


FIVE_SETS = b"ISO 2022 IR 6\\ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 149\\ISO 2022 IR 58".ljust(76)


@pytest.mark.parametrize("name", [FIVE_SETS, b"", b"NO SUCH SET ", b"X\\" * 40])
@pytest.mark.parametrize("representation", ["CS", "UN", "UC", "LO", None])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_character_set_of_any_length_and_representation_is_never_looked_up(
    monkeypatch, name, representation, is_nested
):
    looked_up = []
    monkeypatch.setattr("pydicom.filereader.convert_encodings", lambda names: looked_up.append(names) or ["iso8859"])
    more = element(CHARACTER_SET, representation, name)
    if is_nested:
        kind = "SQ" if representation else None
        more = element(UNKNOWN if kind else VOI_LUT, kind, item_of(more) + END_OF_SEQUENCE, undefined=True)
    data = dicom_file(RAMP, EXPLICIT if representation else IMPLICIT)
    if not is_nested:
        assert np.array_equal(np.asarray(decode(before_the_pixels(more, data), LIMIT)[0]), RAMP)
    else:
        with suppress(ImageError):  # an item of a VOI LUT without a table
            decode(before_the_pixels(more, data), LIMIT)
    assert set(looked_up) <= {""}


@pytest.mark.parametrize(
    "table",
    [
        element(DESCRIPTOR, "UC", LONG),
        element(DESCRIPTOR, "US", struct.pack("<3H", 256, 0, 8)) + element(LUT_DATA, "UC", LONG),
        element(DESCRIPTOR, "US", struct.pack("<3H", 256, 0, 8)) + element(LUT_DATA, "SQ", item_of(b"") * 600),
    ],
)
def test_a_look_up_table_with_too_many_parts_is_never_parsed(monkeypatch, table):
    from pydicom import values

    for kind in ("UC", "SQ"):
        monkeypatch.setitem(values.converters, kind, lambda *_, **__: pytest.fail("it was taken apart"))
    assert refusal(before_the_pixels(element(VOI_LUT, "SQ", item_of(table))))[0] == "unreadable_image"


def test_a_modality_lut_of_undefined_length_is_read_with_signed_samples():
    data = dicom_file(BELOW, IMPLICIT, **TWELVE)
    table = element(DESCRIPTOR, None, struct.pack("<Hhh", 4096, -2048, 12))
    table += element(LUT_DATA, None, np.arange(4096).astype("<u2").tobytes())
    more = element((0x0028, 0x3000), None, item_of(table) + END_OF_SEQUENCE, undefined=True)
    assert np.max(np.abs(np.asarray(decode(before_the_pixels(more, data), LIMIT)[0]).astype(int) - RAMP)) <= 1


def test_empty_items_are_not_read_to_the_end(monkeypatch):
    monkeypatch.setattr(dicom, "_check", lambda *_: pytest.fail("the file was read"))
    items = item_of(b"") * 15_000
    data = before_the_pixels(element(UNKNOWN, "SQ", items + END_OF_SEQUENCE, undefined=True))
    assert refusal(data)[0] == "unreadable_image"


@pytest.mark.parametrize("name", KNOWN)
def test_ordinary_files_take_far_fewer_reads_than_are_allowed(monkeypatch, name):
    monkeypatch.setattr(dicom_reading._Source.__init__, "__defaults__", (limits.MAX_SEQUENCE_READS // 4,))
    assert decode(KNOWN[name][0], LIMIT)[0].size == (64, 48)


@pytest.mark.parametrize("name", ["12 bits", "a VOI LUT", "RLE of 12 bits", "JPEG lossless", "JPEG-LS", "JPEG 2000"])
def test_damaged_bytes_give_an_image_or_a_refusal_and_nothing_else(name):
    data = KNOWN[name][0]
    random = np.random.default_rng(6)
    for _ in range(150):
        damaged = bytearray(data)
        for place in random.integers(132, len(data), 4):
            damaged[place] = random.integers(256)
        with suppress(ImageError):
            assert decode(bytes(damaged), LIMIT)[0].mode in ("L", "RGB")


# -- what stays inside --------------------------------------------------------------------------------------------


def test_nothing_about_the_patient_is_read():
    for name in ("8 bits", "RLE", "12 bits, deflated"):
        dataset, _ = dicom_reading.read(KNOWN[name][0], LIMIT)
        assert "PatientName" not in dataset
        assert PATIENT not in str(dataset)


QUOTABLE = [
    {"WindowCenter": 1, "WindowWidth": 1},
    {"Rows": 99},
    {"Modality": PATIENT},
    {"PhotometricInterpretation": PATIENT},
    {"VOILUTFunction": PATIENT, "WindowCenter": 5, "WindowWidth": 5},
]


def test_no_warning_log_or_exception_quotes_the_file(caplog, recwarn):
    warnings.simplefilter("always")
    with caplog.at_level(logging.DEBUG):
        for elements in QUOTABLE:
            said = "".join(everything_said(dicom_file(RAMP, **elements)))
            assert PATIENT not in said
    assert PATIENT not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("pydicom")]
    assert not [warning for warning in recwarn if PATIENT in str(warning.message)]


def everything_said(data):
    """The traceback and the facts of the refusal, if the file is refused."""
    try:
        decode(data, LIMIT)[0]
    except ImageError as error:
        return [*traceback.format_exception(error), repr(error.facts)]
    return []


def test_pydicom_is_imported_only_for_a_dicom_file():
    code = "import sys, app; sys.exit(bool({'pydicom', 'imagecodecs'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# -- through the service ------------------------------------------------------------------------------------------


def post(server, data, **params):
    import requests

    return requests.post(server.url + "/predict", files={"image": ("film.dcm", data)}, params=params, timeout=30)


@pytest.mark.parametrize("kind", ["none", "fisura", "fractura"])
def test_a_film_of_12_bits_and_its_twin_of_8_agree_within_1_percentage_point(server, kind):
    film = np.asarray(phantom(kind, seed=3))
    twelve = np.rint(film * (4095 / 255)).astype(np.uint16)
    files = [
        encoded(phantom(kind, seed=3)),
        dicom_file(twelve, **TWELVE),
        dicom_file(4095 - twelve, PhotometricInterpretation="MONOCHROME1", **TWELVE),
        encapsulated(jpeg_2000(twelve, bitspersample=12), J2K, twelve, **TWELVE),
    ]
    answers = [post(server, data).json() for data in files]
    for answer in answers[1:]:
        assert answer["success"] == answers[0]["success"]
        assert abs(answer["confidence"] - answers[0]["confidence"]) <= 1


def test_a_refusal_reaches_the_caller_in_both_languages(server):
    data = dicom_file(RAMP, Modality="CT")
    spanish, english = post(server, data), post(server, data, lang="en")
    assert spanish.status_code == english.status_code == 415
    assert spanish.json()["code"] == "unsupported_image"
    assert "de la modalidad CT" in spanish.json()["message"]
    assert "has the modality CT" in english.json()["message"]


def test_the_log_contains_nothing_about_the_patient(server):
    post(server, dicom_file(RAMP, Modality=PATIENT))
    post(server, dicom_file(RAMP, Rows=99))
    assert server.output.count('"route": "/predict"') >= 2
    assert PATIENT not in server.output
    assert "film.dcm" not in server.output


@pytest.mark.parametrize("bits", [1, 8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_the_extremes_of_samples_without_a_window_are_those_of_their_values(bits, signed):
    stored = np.arange(2**bits, dtype=np.int64)
    if signed:
        stored[2 ** (bits - 1) :] -= 2**bits
    random = np.random.default_rng(0)
    for _ in range(20):
        samples = random.integers(0, 2**bits, (3, 5), dtype=np.uint16)
        low, high = stored[samples].min(), stored[samples].max()
        shares = dicom_display._unwindowed(stored, samples, bits, np.zeros(2**bits, bool))
        if low < 0:
            assert np.array_equal(shares, (stored - low) / max(high - low, 1))
        else:
            assert shares[samples].max() <= 1


def test_every_row_of_a_tall_image_goes_through_the_table():
    tall = np.random.default_rng(0).integers(0, 4096, (3 * limits.ROWS_AT_ONCE + 5, 40)).astype(np.uint16)
    film = dicom_file(tall, **TWELVE, WindowCenter=2000, WindowWidth=3000)
    assert np.array_equal(np.asarray(decode(film, LIMIT)[0]), windowed(2000, 3000, tall))
