"""The bare limit: decode, prepare and network in a loop, no HTTP; one thread for a lone image, else one for each core.

`python -m benchmarks.bare FOLDER` answers each line `[film, callers, seconds]` with a line of JSON, to the last one.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from benchmarks.children import environment
from benchmarks.films import read, write
from benchmarks.machine import ROOT
from benchmarks.rates import Rate, throughput
from config import available_cores, read_config
from model_loader import Classifier, load
from preprocessing import decode, prepare

MAX_PIXELS: Final = 50_000_000

Measure = Callable[[str, int, float], Rate]


@contextmanager
def bare_limit(films: dict[str, list[bytes]], settings: dict[str, str]) -> Iterator[Measure]:
    """Start a process that holds the network and the films; measure a film, so many callers, so many seconds there."""
    with tempfile.TemporaryDirectory() as folder:
        write(films, Path(folder))
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare", folder],
            cwd=ROOT,
            env=environment(settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:

            def measure_there(film: str, callers: int, seconds: float) -> Rate:
                print(json.dumps([film, callers, seconds]), file=child.stdin, flush=True)
                return Rate(*json.loads(cast("IO[str]", child.stdout).readline()))

            yield measure_there


def classify(classifier: Classifier, data: bytes) -> object:
    """Take one file to its probabilities, as the service does."""
    image, _ = decode(data, MAX_PIXELS)
    size, channels = classifier.input_size, classifier.channels
    return classifier.predict(prepare(image, size, channels, classifier.scaling, classifier.resize))


def measure(classifier: Classifier, files: list[bytes], callers: int, seconds: float) -> Rate:
    """Loop over the files in as many threads as the callers could keep busy."""

    def work(thread: int, number: int) -> object:
        return classify(classifier, files[(thread + number) % len(files)])

    return throughput(work, min(callers, available_cores()), seconds)


def main(folder: str) -> None:
    """Load the network as the service does and answer the lines of standard input."""
    classifier = load(read_config(os.environ))
    films = read(Path(folder))
    for line in sys.stdin:
        film, callers, seconds = json.loads(line)
        print(json.dumps(measure(classifier, films[film], callers, seconds)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
