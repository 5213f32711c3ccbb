"""The pixels of a DICOM file -> the samples of its first frame."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging import jpeg, jpeg_2000
from imaging.dicom_reading import BIG_ENDIAN, JPEG, JPEG_2000, JPEG_LS, NATIVE, RLE, native_bytes
from imaging.image import ImageError
from imaging.limits import ROWS_AT_ONCE


def first_frame(dataset: Any, syntax: str) -> NDArray[Any]:
    """Decode the first frame: (height, width) of samples or (height, width, 3) of RGB."""
    if syntax in NATIVE:
        return _as_rgb(dataset, _native_frame(dataset, syntax))
    return _encapsulated_frame(dataset, syntax)


def _as_rgb(dataset: Any, pixels: NDArray[Any]) -> NDArray[Any]:
    return _rgb(pixels) if str(dataset.PhotometricInterpretation).startswith("YBR_FULL") else pixels


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
    if syntax == RLE:
        return _as_rgb(dataset, _rle_frame(dataset, frame))
    return _compressed_frame(dataset, syntax, frame)


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
    height, width, components = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    if syntax in JPEG_2000:
        frame = frame[frame.index(jpeg_2000.START) :]  # without the boxes of a .jp2, which some files contain
        found = jpeg_2000.read_frame(frame)
    else:
        frame = _whole_stream(frame, height * width)
        found = jpeg.read_frame(frame)
    is_as_stated = found[1:] == (height, width, components) and found.precision <= int(dataset.BitsAllocated)
    if not is_as_stated or (syntax in JPEG_LS) != jpeg.is_ls(frame):
        raise ImageError("unreadable_image")
    pixels = jpeg_2000.decode(frame) if syntax in JPEG_2000 else jpeg.decode(frame, _stored_colours(dataset, frame))
    if pixels.shape != (height, width, 3)[: 2 if components == 1 else 3]:
        raise ImageError("unreadable_image")
    is_rgb = syntax in JPEG and not jpeg.is_lossless(frame)  # libjpeg has converted it
    return pixels if is_rgb else _as_rgb(dataset, pixels)


def _whole_stream(frame: bytes, pixels: int) -> bytes:
    """Return a JPEG or JPEG-LS stream without the padding behind it; refuse one that is too expensive to decode."""
    jpeg.check_header(frame)
    headers, end = jpeg.read_scans(frame)
    jpeg.check_scans(len(headers), pixels)
    if len(headers) > 1:
        jpeg.check_all_scans(frame, headers)
    return frame[:end]


def _stored_colours(dataset: Any, frame: bytes) -> str | None:
    """Return how a JPEG's colours are stored, as the header says, unless the stream itself does."""
    if int(dataset.SamplesPerPixel) == 1 or jpeg.is_lossless(frame) or jpeg.states_colours(frame):
        return None
    return "RGB" if dataset.PhotometricInterpretation == "RGB" else "YCBCR"
