"""Samples of more than 8 bits, or real numbers -> 8 bits, as bright as an 8-bit copy of the same radiograph."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.limits import ROWS_AT_ONCE

USUAL_BITS: Final = (8, 10, 12, 14, 16)  # films of 10, 12 or 14 bits come in 16-bit files


def scale_to_8_bit(samples: NDArray[Any], white: float | None = None) -> tuple[NDArray[np.uint8], int | None]:
    """Scale integers or real numbers to uint8, same shape; return also the bits whose 2^bits - 1 became white, or None.

    White is `white` or else what `_find_white` says. Samples below 0 have no such scale: smallest to largest. NaN
    becomes the smallest, infinity the largest finite sample.
    """
    is_real = samples.dtype.kind == "f"
    finite: Any = np.isfinite(samples) if is_real else True
    low, high = (float(edge(samples, where=finite, initial=0)) for edge in (np.min, np.max))
    white = high if low < 0 else white or _find_white(samples.dtype, high)
    real = np.float64 if samples.itemsize == 8 else np.float32
    brightness = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), ROWS_AT_ONCE):
        rows: NDArray[Any] = samples[top : top + ROWS_AT_ONCE].astype(real)
        if is_real:
            np.nan_to_num(rows, copy=False, nan=low, posinf=high, neginf=low)
        np.subtract(rows, low, out=rows)
        np.multiply(rows, 255 / (white - low), out=rows)
        brightness[top : top + ROWS_AT_ONCE] = np.rint(rows, out=rows)
    return brightness, next((bits for bits in (*range(2, 17), 32) if white == 2**bits - 1), None)


def _find_white(dtype: np.dtype[Any], largest: float) -> float:
    """Return 2^b - 1 for the fewest usual bits b that hold the largest sample, 1 for real numbers up to 1.

    Beyond 16 bits, the largest that the type can hold where that is less than twice the largest sample, else that.
    """
    if dtype.kind == "f":
        return 1.0 if largest <= 1 else float(white_of(largest) or largest)
    held = float(np.iinfo(dtype).max)
    return min(held, white_of(largest) or (held if 2 * largest > held else largest))


def white_of(largest: float) -> int | None:
    """Return 2^b - 1 for the fewest usual bits b that hold the largest sample; None beyond 16 bits."""
    return next((2**bits - 1 for bits in USUAL_BITS if largest <= 2**bits - 1), None)
