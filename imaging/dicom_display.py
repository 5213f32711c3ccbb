"""The samples of a DICOM frame -> what a viewer shows: modality LUT, VOI LUT or window, polarity, palette."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging.dicom_reading import check_element
from imaging.image import ImageError
from imaging.limits import ROWS_AT_ONCE
from imaging.samples import white_of


def show(dataset: Any, pixels: NDArray[Any]) -> Image.Image:
    """Turn decoded samples into what a viewer shows."""
    bits = int(dataset.BitsStored)
    if pixels.ndim == 3:
        return Image.fromarray(pixels if pixels.itemsize == 1 else (pixels >> max(bits - 8, 0)).astype(np.uint8))
    shift = max(int(dataset.get("HighBit", bits - 1)) + 1 - bits, 0)
    samples = pixels.astype(np.uint16)
    samples >>= shift
    samples &= 2**bits - 1  # the bits above the stored ones may hold an overlay
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return Image.fromarray(_shown(_palette(dataset, bits), samples))
    return Image.fromarray(_shown(_brightness(dataset, bits, samples), samples))


def _shown(table: NDArray[np.uint8], samples: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Look up each pixel in a table that has one row per possible sample."""
    pixels = np.empty(samples.shape + table.shape[1:], np.uint8)
    for top in range(0, len(samples), ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        table.take(samples[rows], axis=0, out=pixels[rows], mode="clip")  # the default mode would copy `out`
    return pixels


def _palette(dataset: Any, bits: int) -> NDArray[np.uint8]:
    """Return the colour of each possible sample: (2^bits, 3)."""
    from pydicom.pixels.processing import apply_color_lut  # noqa: PLC0415

    samples = np.arange(2**bits, dtype=np.uint8 if bits <= 8 else np.uint16)
    colours = apply_color_lut(samples, dataset)
    return (colours >> (8 * (colours.itemsize - 1))).astype(np.uint8)


def _brightness(dataset: Any, bits: int, samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the brightness of each possible sample: modality LUT, then VOI LUT or the first window, then polarity.

    The formulas are those of PS3.3 C.11.1 and C.11.2, applied to the 2^bits possible samples, not to every pixel.
    """
    stored = np.arange(2**bits, dtype=np.int64)
    if int(dataset.get("PixelRepresentation", 0)) == 1:
        stored[2 ** (bits - 1) :] -= 2**bits
    padding = _padding(dataset, stored)
    values, white = _modality_values(dataset, stored)
    window = _window(dataset)
    if dataset.get("VOILUTSequence"):
        values, white = _look_up(dataset.VOILUTSequence[0], np.rint(values).astype(np.int64))
        shares = values / white
    elif window:
        shares = _windowed(values, *window)
    elif white:
        shares = values / white
    else:
        shares = _unwindowed(stored, samples, bits, padding)
        shares = shares if values[1] >= values[0] else 1 - shares
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shares = 1 - shares
    shares = np.where(padding, 0, shares)
    if not np.all(np.isfinite(shares)):
        raise ImageError("unreadable_image")
    return np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)


def _modality_values(dataset: Any, stored: NDArray[np.int64]) -> tuple[NDArray[Any], float | None]:
    """Apply the modality LUT or the rescale; the second value is the LUT's white, None where there is no LUT."""
    if dataset.get("ModalityLUTSequence"):
        return _look_up(dataset.ModalityLUTSequence[0], stored)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    return stored * slope + intercept, None


def _look_up(item: Any, values: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """Look up values in a table; return its white too. Values outside take its first or last entry."""
    check_element(item.get_item("LUTDescriptor"), "LUTDescriptor")
    check_element(item.get_item("LUTData"), "LUTData")
    _, first, bits = item.LUTDescriptor
    data = item.LUTData
    if isinstance(data, bytes):
        entries = int(item.LUTDescriptor[0]) or 2**16
        order = ">" if item.original_encoding[1] is False else "<"
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * entries else f"{order}u2")[:entries]
    table = np.asarray(data, dtype=np.float64)
    return table[np.clip(values - int(first), 0, len(table) - 1)], 2.0 ** int(bits) - 1


def _window(dataset: Any) -> tuple[float, float, str] | None:
    """Return centre, width and function of the first window; None if there is none or its width is invalid."""
    try:
        centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    except (ValueError, TypeError):  # not a number
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if centre is None or width is None or not width >= (1 if function == "LINEAR" else 1e-6):
        return None
    return centre, width, function


def _first(value: Any) -> float | None:
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = next(iter(value), None)
    return None if value in (None, "") else float(value)


def _windowed(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Return the share of white, 0 to 1, that a window gives each value."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return np.clip((values - centre) / max(width, 1e-9) + 0.5, 0, 1)


def _unwindowed(
    stored: NDArray[np.int64], samples: NDArray[Any], bits: int, padding: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the share of white of each stored value if the file does not say how to show it.

    White is 2^b - 1 for the bits stored; where all 16 are, for the fewest usual bits that hold the largest sample,
    since films of 10, 12 or 14 bits come that way. Samples below 0 have no such scale: smallest to largest. Padding
    is not a sample.
    """
    sign = 2 ** (bits - 1) if stored[-1] < 0 else 0
    ordered = samples ^ sign if sign else samples  # without it, negative samples would come after the others
    counted: Any = ~padding[samples] if padding.any() else True
    edges = ordered.min(initial=2**bits - 1, where=counted), ordered.max(initial=0, where=counted)
    low, high = (int(stored[edge ^ sign]) for edge in edges)
    if low < 0:
        return (stored - low) / max(high - low, 1)
    white = float(stored.max())
    if bits == 16:
        white = min(white, float(white_of(high) or white))
    return stored / white


def _padding(dataset: Any, stored: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell for each stored value whether it fills what was not exposed, PS3.3 C.7.5.1.1.2."""
    value = dataset.get("PixelPaddingValue")
    if value is None or not isinstance(value, int):
        return np.zeros(len(stored), np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    edges = [int(stored[edge % len(stored)]) for edge in (value, value if limit is None else limit)]
    return (stored >= min(edges)) & (stored <= max(edges))
