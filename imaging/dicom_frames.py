"""The pixels of a DICOM file -> the samples of its first frame."""

import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging import jpeg, jpeg_2000
from imaging.dicom_reading import BIG_ENDIAN, JPEG, JPEG_2000, JPEG_LS, NATIVE, RLE, native_bytes
from imaging.image import ImageError
from imaging.limits import ROWS_AT_ONCE

_DECODERS: Final = (  # of imagecodecs
    dict.fromkeys(JPEG, "jpeg8_decode")
    | dict.fromkeys(JPEG_LS, "jpegls_decode")
    | dict.fromkeys(JPEG_2000, "jpeg2k_decode")
)


def first_frame(dataset: Any, syntax: str) -> NDArray[Any]:
    """Decode the first frame: (height, width) of samples or (height, width, 3) of RGB."""
    pixels = _native_frame(dataset, syntax) if syntax in NATIVE else _encapsulated_frame(dataset, syntax)
    is_ybr = str(dataset.PhotometricInterpretation).startswith("YBR_FULL")
    if is_ybr and _DECODERS.get(syntax) != "jpeg8_decode":  # libjpeg has converted it to RGB
        return _rgb(pixels)
    return pixels


def _rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert 8-bit YCbCr to RGB, a few rows at a time: Pillow takes 4 bytes per pixel for each of the two."""
    colours = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        colours[rows] = np.asarray(Image.fromarray(pixels[rows], mode="YCbCr").convert("RGB"))
    return colours


def _native_frame(dataset: Any, syntax: str) -> NDArray[Any]:
    """Return the samples of an uncompressed frame, unsigned; without a copy if possible."""
    height, width, components = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    samples = _native_samples(dataset, syntax)
    if dataset.PhotometricInterpretation == "YBR_FULL_422":  # Y, Y, Cb, Cr
        pairs = samples[: height * width * 2].reshape(height, width // 2, 1, 4)
        brightness, colours = pairs[..., :2].swapaxes(2, 3), pairs[..., 2:].repeat(2, axis=2)
        return np.concatenate([brightness, colours], axis=3).reshape(height, width, 3)
    samples = samples[: height * width * components]
    if components == 1:
        return samples.reshape(height, width)
    if int(dataset.get("PlanarConfiguration") or 0) == 1:
        return samples.reshape(components, height, width).transpose(1, 2, 0)
    return samples.reshape(height, width, components)


def _native_samples(dataset: Any, syntax: str) -> NDArray[Any]:
    """Return all samples in the order of the file; refuse fewer than the header states."""
    pixels = dataset.get_item("PixelData")
    if len(pixels.value or b"") < native_bytes(dataset):
        raise ImageError("unreadable_image")
    is_big, sample_bytes = syntax == BIG_ENDIAN, int(dataset.BitsAllocated) // 8
    whole = len(pixels.value) // sample_bytes
    if is_big and sample_bytes == 1 and pixels.VR == "OW":  # two pixels are a word
        return np.frombuffer(pixels.value, np.uint16, whole // 2).byteswap().view(np.uint8)
    return np.frombuffer(pixels.value, f"{'>' if is_big else '<'}u{sample_bytes}", whole)


def _encapsulated_frame(dataset: Any, syntax: str) -> NDArray[Any]:
    from pydicom.encaps import get_frame  # noqa: PLC0415

    if dataset.get_item("PixelData").length != 0xFFFFFFFF:  # its fragments were not counted while they were read
        raise ImageError("unreadable_image")
    frame = get_frame(dataset.PixelData, 0, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
    return _rle_frame(dataset, frame) if syntax == RLE else _compressed_frame(dataset, syntax, frame)


def _rle_frame(dataset: Any, frame: bytes) -> NDArray[Any]:
    """Decode the byte planes of an RLE frame, PS3.5 annex G; Pillow unpacks each, and never more than it holds."""
    height, width, components = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    sample_bytes = int(dataset.BitsAllocated) // 8
    count, *starts = struct.unpack_from("<16I", frame)
    if count != components * sample_bytes:
        raise ImageError("unreadable_image")
    ends = [*starts[1:count], len(frame)]
    one_row = (height * width, 1)
    planes = [
        np.asarray(Image.frombytes("L", one_row, frame[start:end], "packbits", "L")).reshape(height, width)
        for start, end in zip(starts[:count], ends, strict=True)
    ]
    order = f">u{sample_bytes}"  # the most significant plane of a sample comes first
    samples = [
        np.stack(planes[first : first + sample_bytes], axis=2).view(order)[..., 0].astype(order[1:])
        for first in range(0, count, sample_bytes)
    ]
    return samples[0] if components == 1 else np.stack(samples, axis=2)


def _compressed_frame(dataset: Any, syntax: str, frame: bytes) -> NDArray[Any]:
    """Decode a JPEG, JPEG-LS or JPEG 2000 frame; refuse, undecoded, one whose size differs from the header's."""
    import imagecodecs  # noqa: PLC0415

    is_jpeg = frame.startswith(jpeg.START)
    if is_jpeg:
        if not frame.rstrip(b"\0").endswith(b"\xff\xd9"):  # libjpeg fills what is missing with grey
            raise ImageError("unreadable_image")
        jpeg.check_header(frame)
        jpeg.check_scans(jpeg.count_scans(frame), int(dataset.Rows) * int(dataset.Columns))
    else:
        frame = frame[frame.index(jpeg_2000.START) :]  # without the boxes of a .jp2, which some files contain
    precision, *shape = jpeg.read_frame(frame) if is_jpeg else jpeg_2000.read_frame(frame)
    stated = [int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)]
    if shape != stated or precision > int(dataset.BitsAllocated):
        raise ImageError("unreadable_image")
    pixels = getattr(imagecodecs, _DECODERS[syntax])(frame)
    if pixels.shape not in (tuple(shape), tuple(shape[:2])):
        raise ImageError("unreadable_image")
    return np.asarray(pixels)
