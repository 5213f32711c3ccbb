"""One line on standard error that says how far a long job is."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def show_progress(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    """Pass the items on and say every five seconds how many have passed."""
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if done == total or time.monotonic() - last > 5:
            last = time.monotonic()
            print(f"{name}: {done} of {total}, {last - start:.0f} s", file=sys.stderr, flush=True)
