"""Compare the service with classic Flask, the bare limit and, with --peers, LitServe and BentoML, in one run.

    python -m benchmarks.compare [--peers] [--short] [--rounds 3] [--seconds 3] [--requests 10000]

`make bench` and `make bench-peers` install what it needs and run it. Each round starts every contender and gives each
load to all of them in turn, while the others are stopped (SIGSTOP): the speed of a machine drifts within minutes, and
so it drifts for all. The images are drawn, or radiographs from BONE_DATA_DIR. The measurements go to
benchmarks/.cache/comparison.json, from which `python -m benchmarks.report` writes benchmarks/README.md and the plots.
"""

import argparse
import asyncio
import math
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import requests

from benchmarks import machine
from benchmarks.bare import Measure, bare_limit
from benchmarks.client import Client, closed_loop, prepared
from benchmarks.contenders import BARE, OURS, Contender, bentoml, classic, gunicorn, litserve, ours
from benchmarks.films import KINDS, LARGE, SMALL, films
from benchmarks.measurements import Comparison, Load, Visit, load_of, points_apart
from benchmarks.service import CACHE, START_SECONDS, RunningServer

Films = dict[str, list[bytes]]
Answers = dict[str, list[dict[str, Any]]]

RESULT: Final = CACHE / "comparison.json"
WARMING: Final = 0.25  # before each load, not measured
CONCURRENCIES: Final = (1, 8, 32, 128)
FEW: Final = 8  # callers up to which the bare limit is measured too: alone, and on all cores
AT_THE_LARGE: Final = (1, 8, 32)  # for the others: 128 callers of classic Flask would wait for a quarter of a minute
AGREE_WITHIN_POINTS: Final = 1.0


def cases(contender: str, films: Films, most: int) -> Iterator[tuple[str, int]]:
    """Yield (kind of film, concurrency up to `most`): every pair for the service, fewer for the others."""
    for kind in (kind for kind in KINDS if kind.name in films):
        if contender == OURS or kind == SMALL:
            chosen: tuple[int, ...] = CONCURRENCIES
        else:
            chosen = AT_THE_LARGE if kind == LARGE else (8,)
        yield from ((kind.name, concurrency) for concurrency in chosen if concurrency <= most)


@dataclass
class Bench:
    """One run: films, seconds per load, most callers, the measurements, and the answers of the first contender."""

    films: Films
    seconds: float
    most: int
    comparison: Comparison
    reference: Answers = field(default_factory=dict)

    def round(self, contenders: Sequence[Contender]) -> None:
        """Start, check and warm up all contenders, then give each load to all in turn, after the bare limit."""
        bodies = {name: [prepared("/predict", film) for film in files] for name, files in self.films.items()}
        with ExitStack() as stack:
            limit = stack.enter_context(bare_limit(self.films, ours().settings))
            servers, first = {}, {}
            for contender in contenders:
                server = servers[contender.name] = stack.enter_context(contender.serving())
                first[contender.name] = first_answer_seconds(server, self.films[SMALL.name][0])
                self.check(contender.name, answers(server, self.films))
                asyncio.run(load(server, (contender.name, SMALL.name, 8), bodies[SMALL.name], min(2.0, self.seconds)))
                server.pause()
            for film, concurrency in cases(OURS, self.films, self.most):
                if concurrency <= FEW:
                    self.note(self.limit(limit, film, concurrency))
                for name, server in servers.items():
                    if (film, concurrency) in cases(name, self.films, self.most):
                        self.note(self.load(server, (name, film, concurrency), bodies[film]))
            for name, server in servers.items():
                self.comparison.visits.append(Visit(name, first[name], server.family_memory_mb()))

    def load(self, server: RunningServer, case: tuple[str, str, int], bodies: list[bytes]) -> Load:
        """Resume a paused server, load it, at first without measuring, and pause it again."""
        server.resume()
        asyncio.run(load(server, case, bodies, WARMING * self.seconds))
        measured = asyncio.run(load(server, case, bodies, self.seconds))
        server.pause()
        return measured

    def limit(self, measure: Measure, film: str, concurrency: int) -> Load:
        """Measure the bare limit: one image at a time for a single caller, else one per core."""
        measure(film, concurrency, WARMING * self.seconds)
        rate = measure(film, concurrency, self.seconds)
        return Load(BARE, film, concurrency, *rate[:2], p99_ms=math.nan, cpu_ms=rate.cpu_ms, statuses={}, stages={})

    def note(self, measured: Load) -> None:
        """Record and print the result of a load."""
        self.comparison.loads.append(measured)
        print(
            f"{measured.contender}, {measured.film} × {measured.concurrency}: {measured.per_second:.1f}/s, "
            f"p50 {measured.p50_ms:.1f} ms, p99 {measured.p99_ms:.1f} ms, statuses {measured.statuses}",
            flush=True,
        )

    def check(self, contender: str, found: Answers) -> None:
        """Stop if a contender answers a grey JPEG file differently: it would not be doing the same work.

        For 16-bit files the difference is only recorded: most services clip them to white.
        """
        self.reference = self.reference or found
        apart = {
            name: max(points_apart(*pair) for pair in zip(found[name], self.reference[name], strict=True))
            for name in found
        }
        self.comparison.agreement[contender] = apart
        for kind in KINDS:
            if kind.bits == 8 and apart.get(kind.name, 0) > AGREE_WITHIN_POINTS:
                raise SystemExit(f"{contender}: {apart[kind.name]:.2f} percentage points off on {kind.name}")

    def starts(self) -> None:
        """Time the service's start to ready, first with an empty cache folder, then with the compiled model in it."""
        with tempfile.TemporaryDirectory() as models:
            first, *warm = [ready_seconds(ours(Path(models))) for _ in range(4)]
        self.comparison.ours |= {"first_start_seconds": first, "start_seconds": median(warm)}

    def endurance(self, requests_in_all: int) -> None:
        """Record the service's memory when it is ready and after so many requests, one in nine for a larger film."""
        small, *others = ([prepared("/predict", film) for film in files] for files in self.films.values())
        bodies = small * len(others) * 2 + [films[0] for films in others]
        count = 0
        with ours().serving() as server:
            before = server.wait("/ready").memory_mb()
            while count < requests_in_all:
                measured = asyncio.run(load(server, (OURS, "mixed", 8), bodies, 2 * self.seconds))
                count += sum(measured.statuses.values())
            self.comparison.ours |= {"requests": count, "memory_ready_mb": before, "memory_mb": server.memory_mb()}


def first_answer_seconds(server: RunningServer, film: bytes) -> float:
    """Return the seconds from the start of the process to its first answer. Raise AssertionError if none comes."""
    while time.perf_counter() < server.started + START_SECONDS and server.process.poll() is None:
        try:
            if requests.post(f"{server.url}/predict", files={"image": ("image", film)}, timeout=60).ok:
                return time.perf_counter() - server.started
        except requests.ConnectionError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"no answer: {server.output[-2000:]}")


def ready_seconds(contender: Contender) -> float:
    """Return the seconds from the start of the process until it is ready."""
    with contender.serving() as server:
        server.wait("/ready")
        return time.perf_counter() - server.started


def answers(server: RunningServer, kinds: Films) -> Answers:
    """Send every film, one after the other, and return the answers."""
    return {name: [_answer(server, film) for film in films] for name, films in kinds.items()}


def _answer(server: RunningServer, film: bytes) -> dict[str, Any]:
    response = requests.post(f"{server.url}/predict", files={"image": ("image", film)}, timeout=60)
    response.raise_for_status()
    answer = response.json()
    found: dict[str, Any] = answer[0] if isinstance(answer, list) else answer  # BentoML answers a batch of one
    return found


async def load(server: RunningServer, case: tuple[str, str, int], bodies: list[bytes], seconds: float) -> Load:
    """Let the callers of the case each send their next request after their last answer."""
    client = Client(server.port)
    cpu, started = server.cpu_seconds(), time.perf_counter()
    found = [answer for _, answer in await closed_loop(client, case[2], seconds, bodies)]
    took = time.perf_counter() - started
    client.close()
    return load_of(case, found, took, server.cpu_seconds() - cpu)


def run(arguments: argparse.Namespace) -> Comparison:
    """Measure everything; a short run has one round of half a second each and only checks that all works."""
    rounds, seconds, count, most = arguments.rounds, arguments.seconds, arguments.requests, max(CONCURRENCIES)
    if arguments.short:
        rounds, seconds, count, most = 1, 0.5, 100, 8
    folder = os.environ.get("BONE_DATA_DIR")
    comparison = Comparison(
        machine.facts()
        | {
            "command": shlex.join(["python", "-m", "benchmarks.compare", *sys.argv[1:]]),
            "images": "radiographs from BONE_DATA_DIR" if folder else "drawn",
            "loads": f"{rounds} × {seconds:g} s each",
        }
    )
    bench = Bench(films(arguments.films, Path(folder) if folder else None), seconds, most, comparison)
    contenders = [ours(), classic(), gunicorn()] + ([litserve(), bentoml()] if arguments.peers else [])
    bench.starts()
    for _ in range(rounds):
        bench.round(contenders)
    bench.endurance(count)
    return comparison


def main() -> None:
    """Read the options, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="LitServe and BentoML too")
    parser.add_argument(
        "--short", action="store_true", help="one round, half a second for each load, at most 8 callers"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="how long each load lasts")
    parser.add_argument("--requests", type=int, default=10_000, help="after which the service's memory is read")
    parser.add_argument("--films", type=int, default=8, help="different images of each kind")
    started = time.perf_counter()
    comparison = run(parser.parse_args())
    comparison.facts["took"] = f"{(time.perf_counter() - started) / 60:.0f} minutes"
    comparison.save(RESULT)


if __name__ == "__main__":
    main()
