"""Time the decoding of the JPEG 2000 frames of some DICOM files: one thread, all cores, and Pillow's OpenJPEG, in turn.

    python -m benchmarks.jpeg_2000 FILE …

Prints the median of 5 rounds in seconds, and the processor time.
"""

import statistics
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import imagecodecs
import pydicom
from PIL import Image
from pydicom.encaps import get_frame

from config import available_cores

ROUNDS: Final = 5
DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "one thread": lambda frame: imagecodecs.jpeg2k_decode(frame, numthreads=1),
    f"{available_cores()} threads": lambda frame: imagecodecs.jpeg2k_decode(frame, numthreads=available_cores()),
    "Pillow": lambda frame: Image.open(BytesIO(frame)).load(),
}


def main(paths: list[str]) -> None:
    """Print a line for each file and decoder."""
    print(imagecodecs.jpeg2k_version())
    print("| file | size | decoder | seconds | processor seconds |\n| --- | --- | --- | --- | --- |")
    for path in map(Path, paths):
        dataset = pydicom.dcmread(path)
        frame = get_frame(dataset.PixelData, 0, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in DECODERS}
        for _ in range(ROUNDS):
            for name, decode in DECODERS.items():
                times[name].append(_timed(decode, frame))
        for name, pairs in times.items():
            seconds, processor = (statistics.median(values) for values in zip(*pairs, strict=True))
            print(f"| {path.name} | {len(frame) / 1e6:.1f} MB | {name} | {seconds:.2f} | {processor:.2f} |")


def _timed(decode: Callable[[bytes], Any], frame: bytes) -> tuple[float, float]:
    started, processor = time.perf_counter(), time.process_time()
    decode(frame)
    return time.perf_counter() - started, time.process_time() - processor


if __name__ == "__main__":
    main(sys.argv[1:])
