"""The bare limit: decode, prepare and network in a loop, without HTTP; one thread for one caller, else one per core.

`python -m benchmarks.bare FOLDER` answers each line `[film, callers, seconds]` with a line of JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, Final, NamedTuple, cast

from benchmarks.films import read, write
from benchmarks.service import ROOT, environment
from config import available_cores, read_config
from model_loader import Classifier, load
from preprocessing import decode, prepare

MAX_PIXELS: Final = 50_000_000


class Rate(NamedTuple):
    """Calls per second, the median ms of a call, and the processor time of each in ms."""

    per_second: float
    p50_ms: float
    cpu_ms: float


Measure = Callable[[str, int, float], Rate]


@contextmanager
def bare_limit(films: dict[str, list[bytes]], settings: dict[str, str]) -> Iterator[Measure]:
    """Start a process that holds the network and the films; yield a function that measures there."""
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
    """Return the probabilities of one file, as the service computes them."""
    image, _ = decode(data, MAX_PIXELS)
    size, channels = classifier.input_size, classifier.channels
    return classifier.predict(prepare(image, size, channels, classifier.scaling, classifier.resize))


def measure(classifier: Classifier, files: list[bytes], callers: int, seconds: float) -> Rate:
    """Loop over the files for the given seconds, in as many threads as the callers can keep busy."""
    times: list[list[float]] = [[] for _ in range(min(callers, available_cores()))]
    cpu, started = time.process_time(), time.perf_counter()

    def loop(thread: int) -> None:
        began = started
        while not times[thread] or began < started + seconds:
            classify(classifier, files[(thread + len(times[thread])) % len(files)])
            ended = time.perf_counter()
            times[thread].append(ended - began)
            began = ended

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(len(times))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    calls = [call for of_thread in times for call in of_thread]
    return Rate(len(calls) / took, 1000 * median(calls), 1000 * cpu / len(calls))


def main(folder: str) -> None:
    """Load the network as the service does and answer the lines of standard input."""
    classifier = load(read_config(os.environ))
    films = read(Path(folder))
    for line in sys.stdin:
        film, callers, seconds = json.loads(line)
        print(json.dumps(measure(classifier, films[film], callers, seconds)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
