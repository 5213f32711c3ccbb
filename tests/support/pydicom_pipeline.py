"""What pydicom's own functions make of a DICOM file, in 8 bits: the reference for ours."""

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

USUAL_BITS = (8, 10, 12, 14, 16)


def show(dataset: Dataset) -> NDArray[np.float64]:
    """Return the first frame as pydicom shows it: (height, width) or (height, width, 3), 0 to 255.

    Where the file has no window and no table, 2^bits - 1 is white, see `dicom_display._unwindowed`; pydicom leaves
    that to its caller.
    """
    pixels = dataset.pixel_array
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        pixels = pixels[0]
    if dataset.SamplesPerPixel == 3:
        return (pixels >> max(int(dataset.BitsStored) - 8, 0)).astype(float)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(pixels, dataset)
        return (colours >> (8 * (colours.itemsize - 1))).astype(float)
    shares = _shares(dataset, pixels)
    return 255 * (1 - shares if dataset.PhotometricInterpretation == "MONOCHROME1" else shares)


def _shares(dataset: Dataset, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    values = apply_modality_lut(pixels, dataset)
    shown = apply_voi_lut(values, dataset)
    if dataset.get("VOILUTSequence"):
        low, high = 0.0, 2.0 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
    elif dataset.get("ModalityLUTSequence"):
        low, high = 0.0, 2.0 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    elif dataset.get("WindowWidth") not in (None, ""):
        low, high = _range(dataset)
    else:
        shown, low, high = pixels, *_range_without_window(dataset, pixels)
    return np.clip((shown - low) / (high - low), 0, 1)


def _range(dataset: Dataset) -> tuple[float, float]:
    """Return the smallest and the largest value that samples can have after the rescale: black and white."""
    bits = int(dataset.BitsStored)
    stored = (0, 2**bits - 1) if dataset.PixelRepresentation == 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    low, high = sorted(value * slope + intercept for value in stored)
    return low, high


def _range_without_window(dataset: Dataset, pixels: NDArray[np.int64]) -> tuple[float, float]:
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0:
        return low, high
    bits = int(dataset.BitsStored)
    white = 2**bits - 1 if dataset.PixelRepresentation == 0 else 2 ** (bits - 1) - 1
    if bits == 16:
        white = min(white, next(2**usual - 1 for usual in USUAL_BITS if high <= 2**usual - 1))
    return 0.0, float(white)
