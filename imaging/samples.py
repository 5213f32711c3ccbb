"""Samples of more than 8 bits, or real numbers -> 8 bits, as bright as an 8-bit copy of the same radiograph."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.limits import ROWS_AT_ONCE

USUAL_BITS: Final = (8, 10, 12, 14, 16)  # films of 10, 12 or 14 bits come in 16-bit files


def scale_to_8_bit(samples: NDArray[Any]) -> tuple[NDArray[np.uint8], int | None]:
    """Scale integers or real numbers to uint8, same shape; return also the bits whose 2^bits - 1 became white, or None.

    White is 2^b - 1 for the fewest usual bits b that hold the largest sample, 1 for real numbers up to 1. Samples
    below 0 have no such scale: smallest to largest. NaN becomes the smallest, infinity the largest finite sample.
    """
    is_real = samples.dtype.kind == "f"
    finite: Any = np.isfinite(samples) if is_real else True
    low, high = (float(edge(samples, where=finite, initial=0)) for edge in (np.min, np.max))
    white = high if low < 0 else 1.0 if is_real and high <= 1 else float(white_of(high) or high)
    brightness = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), ROWS_AT_ONCE):
        rows = samples[top : top + ROWS_AT_ONCE].astype(np.float32)
        if is_real:
            np.nan_to_num(rows, copy=False, nan=low, posinf=high, neginf=low)
        rows -= low
        rows *= 255 / (white - low)
        brightness[top : top + ROWS_AT_ONCE] = np.rint(rows, out=rows)
    return brightness, next((bits for bits in USUAL_BITS if white == 2**bits - 1), None)


def white_of(largest: float) -> int | None:
    """Return 2^b - 1 for the fewest usual bits b that hold the largest sample; None beyond 16 bits."""
    return next((2**bits - 1 for bits in USUAL_BITS if largest <= 2**bits - 1), None)
