"""Measure what a heat map costs, and how it slows concurrent plain predictions.

    python -m benchmarks.explanations [--short] [MODEL.h5 …]

About half a minute per model, with a drawn film; without a model, the shipped one.
"""

import argparse
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import requests

from benchmarks.films import draw, encoded
from benchmarks.service import ROOT, RunningServer, serving

SHIPPED = ROOT / "bone_fracture_classifier.h5"
FILM = encoded(draw((1200, 960)), "PNG")
PLAIN, EXPLAINED = 60, 12  # requests that are timed


def ask(server: RunningServer, query: str) -> float:
    """Send the film; return the milliseconds until the complete answer has arrived."""
    started = time.perf_counter()
    response = requests.post(f"{server.url}/predict{query}", files={"image": FILM}, timeout=60)
    response.raise_for_status()
    return 1000 * (time.perf_counter() - started)


def p50(send: Callable[[], float], times: int) -> float:
    """Return the median of `times` calls."""
    return median(send() for _ in range(times))


def measure(name: str, server: RunningServer, share: float) -> None:
    """Print the times of plain and explained predictions, each alone, and of plain ones beside explained ones."""
    plain_times, explained_times = round(PLAIN * share), round(EXPLAINED * share)
    for query in ("", "?explain=1"):
        p50(lambda query=query: ask(server, query), 5)  # type: ignore[misc]
    plain = p50(lambda: ask(server, ""), plain_times)
    explained = p50(lambda: ask(server, "?explain=1"), explained_times)
    beside, alike = (p50_beside(server, query, plain_times) / plain for query in ("?explain=1", ""))
    print(f"| {name} | {plain:.1f} | {explained:.0f} | {explained / plain:.1f} | {beside:.2f} | {alike:.2f} |")


def p50_beside(server: RunningServer, query: str, times: int) -> float:
    """Return the median of plain predictions while another caller sends one request after the other."""
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            ask(server, query)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        time.sleep(0.2)
        return p50(lambda: ask(server, ""), times)
    finally:
        done.set()
        thread.join()


def main() -> None:
    """Time the service with each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, default=[SHIPPED], metavar="MODEL.h5")
    parser.add_argument("--short", action="store_true", help="a sixth of the requests")
    arguments = parser.parse_args()
    print("| model | plain, p50 ms | explain=1, p50 ms | ratio | plain beside explain=1, ratio | beside plain, ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for path in arguments.models:
        with serving(BONE_MODEL_PATH=str(path.resolve())) as server:
            measure(path.stem, server.wait("/ready"), 1 / 6 if arguments.short else 1)


if __name__ == "__main__":
    main()
