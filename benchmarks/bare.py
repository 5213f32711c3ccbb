"""The bare limit: decode, prepare and network in a loop, one thread for each core, no HTTP; prints JSON.

python -m benchmarks.bare FOLDER SECONDS
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from admission import available_cores
from app import decode, load
from benchmarks.films import read
from benchmarks.measurements import Bare
from benchmarks.rates import lone, throughput
from config import read_config
from model_loader import Classifier, Images
from preprocessing import prepare

MAX_PIXELS = 50_000_000


def inputs(classifier: Classifier, data: bytes) -> Images:
    """Decode and prepare one file."""
    image, _ = decode(data, MAX_PIXELS)
    return prepare(image, classifier.input_size, classifier.channels, classifier.scaling, classifier.resize)


def measure(classifier: Classifier, film: str, files: list[bytes], seconds: float) -> Bare:
    """Measure one kind of film, half a second of warming up first."""

    def work(thread: int, number: int) -> object:
        return classifier.predict(inputs(classifier, files[(thread + number) % len(files)]))

    prepared = inputs(classifier, files[0])
    throughput(work, available_cores(), 0.5)
    per_second, cpu_ms = throughput(work, available_cores(), seconds)
    lone_ms = lone(lambda number: work(0, number), seconds / 2)
    return Bare(film, per_second, lone_ms, lone(lambda _: classifier.predict(prepared), seconds / 4), cpu_ms)


def main(folder: str, seconds: str) -> None:
    """Load the network as the service does and print one JSON list."""
    classifier = load(read_config(os.environ))
    found = [measure(classifier, film, files, float(seconds)) for film, files in read(Path(folder)).items()]
    print(json.dumps([asdict(bare) for bare in found]))


if __name__ == "__main__":
    main(*sys.argv[1:])
