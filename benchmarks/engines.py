"""The shipped network under each runtime: time of a call, calls a second, memory, start, distance from Keras.

    python -m benchmarks.engines [--short] [--rounds 3]

It wants benchmarks/environments/engines.txt, which `make bench-engines` installs. Each runtime is measured in processes
of its own, in turn, first with all cores for a call, then with one core for each of as many calls as there are cores.
The medians over the rounds go to benchmarks/.cache/engines.json, of which `python -m benchmarks.report` makes a table.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from benchmarks import machine
from benchmarks.children import last_line
from benchmarks.rates import lone, throughput
from benchmarks.runtimes import FILES, OPENERS, REFERENCE, Images, build
from config import available_cores
from tests.support.phantoms import phantom

RESULT: Final = FILES.parent / "engines.json"
MODULE: Final = "benchmarks.engines"
BATCH: Final = 8
SIDE: Final = 384

Figures = dict[str, float]


def inputs() -> Images:
    """Return phantoms and noise, half of each: float32, (2 × BATCH, SIDE, SIDE, 1), 0 to 1."""
    drawn = [np.asarray(phantom("fractura", (SIDE, SIDE), seed), np.float32) / 255 for seed in range(BATCH)]
    noise = np.random.default_rng(0).random((BATCH, SIDE, SIDE), np.float32)
    return np.concatenate([np.stack(drawn), noise])[..., np.newaxis]


def measure_all_cores(name: str, seconds: float) -> Figures:
    """Measure one call at a time on all cores; the start is that of the runtime, from its import to an answer."""
    images, started = inputs(), time.perf_counter()
    (call,) = OPENERS[name](available_cores(), 1)
    call(images[:1])
    figures = {"start_seconds": time.perf_counter() - started}
    answers = np.concatenate([call(image[np.newaxis]) for image in images])
    np.save(FILES / f"{_slug(name)}.npy", answers)
    figures["one_ms"] = lone(lambda number: call(images[number % BATCH][np.newaxis]), seconds)
    figures["memory_mb"] = _memory_mb()
    call(images[:BATCH])
    figures["batch_ms"] = lone(lambda _: call(images[:BATCH]), seconds)
    return figures


def measure_each_core(name: str, seconds: float) -> Figures:
    """Measure a call on one core, alone and with as many at once as there are cores."""
    images, cores = inputs(), available_cores()
    calls = OPENERS[name](1, cores)
    for call in calls:
        call(images[:1])
    alone = lone(lambda number: calls[0](images[number % BATCH][np.newaxis]), seconds)
    rate = throughput(lambda which, number: calls[which](images[number % BATCH][np.newaxis]), cores, seconds)
    return {"one_core_ms": alone, "per_second": rate.per_second}


MEASURES: Final = {measure.__name__: measure for measure in (measure_all_cores, measure_each_core)}


def _memory_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in status if line.startswith("VmRSS:")).split()[1]) * 1024 / 1e6


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def distance(name: str) -> float:
    """Return the largest difference of a probability from what Keras says."""
    ours, wanted = (np.load(FILES / f"{_slug(one)}.npy") for one in (name, REFERENCE))
    return float(np.abs(ours - wanted).max())


def compare(rounds: int, seconds: float) -> dict[str, Figures]:
    """Measure every runtime in each round; return the medians by name."""
    found: dict[str, list[Figures]] = {name: [] for name in OPENERS}
    for _ in range(rounds):
        for name in OPENERS:
            figures: Figures = {}
            for measure in MEASURES:
                figures |= json.loads(last_line(MODULE, "--measure", measure, name, "--seconds", str(seconds)))
            print(name, {figure: round(value, 2) for figure, value in figures.items()}, flush=True)
            found[name].append(figures)
    return {
        name: {figure: median(row[figure] for row in rows) for figure in rows[0]} | {"distance": distance(name)}
        for name, rows in found.items()
    }


def main() -> None:
    """Build the files, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one round, 0.3 seconds a figure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="how long each figure is measured")
    parser.add_argument("--measure", nargs=2, metavar=("HOW", "RUNTIME"), help=argparse.SUPPRESS)
    parser.add_argument("--build", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        build()
    elif arguments.measure:
        how, name = arguments.measure
        print(json.dumps(MEASURES[how](name, arguments.seconds)))
    else:
        rounds, seconds = (1, 0.3) if arguments.short else (arguments.rounds, arguments.seconds)
        facts = machine.facts() | {"measured": f"{rounds} × {seconds:g} s for each figure"}
        last_line(MODULE, "--build")
        RESULT.write_text(json.dumps({"facts": facts, "engines": compare(rounds, seconds)}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
