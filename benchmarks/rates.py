"""How long a call takes alone, and how many there are a second from several threads."""

import threading
import time
from collections.abc import Callable
from statistics import median


def lone(work: Callable[[int], object], seconds: float) -> float:
    """Return the median ms of calls one after the other; each gets its number."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        started = time.perf_counter()
        work(len(times))
        times.append(time.perf_counter() - started)
    return 1000 * median(times)


def throughput(work: Callable[[int, int], object], threads: int, seconds: float) -> tuple[float, float]:
    """Return calls a second from so many threads, and the processor's ms of each; each gets (thread, number)."""
    counts = [0] * threads
    cpu, started = time.process_time(), time.perf_counter()

    def loop(thread: int) -> None:
        while counts[thread] == 0 or time.perf_counter() < started + seconds:
            work(thread, counts[thread])
            counts[thread] += 1

    workers = [threading.Thread(target=loop, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - started), 1000 * (time.process_time() - cpu) / sum(counts)
