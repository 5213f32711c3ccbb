"""How long a call takes alone, and how many there are a second from several threads."""

import threading
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple


class Rate(NamedTuple):
    """Calls a second, the median ms of a call, and the processor's ms of each."""

    per_second: float
    p50_ms: float
    cpu_ms: float


def throughput(work: Callable[[int, int], object], threads: int, seconds: float) -> Rate:
    """Call from so many threads for so long; each call gets (thread, number)."""
    times: list[list[float]] = [[] for _ in range(threads)]
    cpu, started = time.process_time(), time.perf_counter()

    def loop(thread: int) -> None:
        began = started
        while not times[thread] or began < started + seconds:
            work(thread, len(times[thread]))
            ended = time.perf_counter()
            times[thread].append(ended - began)
            began = ended

    workers = [threading.Thread(target=loop, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    calls = [call for of_thread in times for call in of_thread]
    return Rate(len(calls) / took, 1000 * median(calls), 1000 * cpu / len(calls))


def lone(work: Callable[[int], object], seconds: float) -> float:
    """Return the median ms of calls one after the other; each gets its number."""
    return throughput(lambda _, number: work(number), 1, seconds).p50_ms
