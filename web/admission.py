"""Who may use the processor now, who waits for it, and who is refused: a bounded number in flight, a bounded queue."""

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SMOOTHING: Final = 0.1  # weight of the newest service time in the running mean
FIRST_GUESS_SECONDS: Final = 0.1
GIVE_WAY_SECONDS: Final = 0.1


class AdmissionError(Exception):
    """A request that is not served: a code of the API's error table, the facts, when to try again in whole seconds."""

    def __init__(self, code: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.facts: dict[str, object] = {"seconds": retry_after_seconds}
        self.retry_after_seconds = retry_after_seconds


class Admission:
    """Let at most `places` requests work at once and `queue_length` more wait, first come, first served."""

    def __init__(self, places: int, queue_length: int, deadline_seconds: float) -> None:
        self._places = places
        self._queue_length = queue_length
        self._deadline_seconds = deadline_seconds
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._working = 0
        self._idle = threading.Event()
        self._idle.set()
        self._mean_seconds = FIRST_GUESS_SECONDS

    @property
    def working(self) -> int:
        """How many requests hold a place."""
        return self._working

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return len(self._waiting)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place while the block runs. Raise AdmissionError.

        overloaded: as many wait as may; the caller is told when the present queue will have been worked off.
        deadline_exceeded: it waited longer than the limit, and nothing was spent on it.
        """
        self._enter()
        started = time.monotonic()
        try:
            yield
        finally:
            self._leave(time.monotonic() - started)

    def retry_after_seconds(self) -> int:
        """Return when to try again: what waits and works now, at the measured pace, at least 1."""
        pending = len(self._waiting) + self._working
        return max(1, math.ceil(pending * self._mean_seconds / self._places))

    def give_way(self) -> None:
        """Let those who hold or wait for a place go first, for at most a tenth of a second."""
        self._idle.wait(GIVE_WAY_SECONDS)

    def _enter(self) -> None:
        with self._lock:
            if self._working < self._places:
                self._working += 1
                self._idle.clear()
                return
            if len(self._waiting) >= self._queue_length:
                raise AdmissionError("overloaded", self.retry_after_seconds())
            turn = threading.Event()
            self._waiting.append(turn)
        if not turn.wait(self._deadline_seconds):
            self._give_up(turn)

    def _give_up(self, turn: threading.Event) -> None:
        with self._lock:
            if turn.is_set():  # its turn came at the very last moment: take the place
                return
            self._waiting.remove(turn)
            raise AdmissionError("deadline_exceeded", self.retry_after_seconds())

    def _leave(self, seconds: float) -> None:
        """Hand the place to whoever has waited longest."""
        with self._lock:
            self._mean_seconds += SMOOTHING * (seconds - self._mean_seconds)
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._working -= 1
                if self._working == 0:
                    self._idle.set()
