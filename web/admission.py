"""Who works now, who waits, who is refused: slots for each kind of request and one bounded queue for all of them."""

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from web.errors import ApiError

BATCHES_AT_ONCE: Final = 2
EXPLANATIONS_AT_ONCE: Final = 1
SMOOTHING: Final = 0.1  # weight of the newest service time in the running mean
FIRST_GUESS_SECONDS: Final = 0.1
GIVE_WAY_SECONDS: Final = 0.1


class Admission:
    """Let at most `slots` requests work at once, first come, first served; whoever waits takes a permit of `queue`."""

    def __init__(self, slots: int, queue: threading.Semaphore, deadline_seconds: float) -> None:
        self._slots = slots
        self._queue = queue
        self._deadline_seconds = deadline_seconds
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._working = 0
        self._idle = threading.Event()
        self._idle.set()
        self._mean_seconds = FIRST_GUESS_SECONDS

    @property
    def working(self) -> int:
        """How many requests hold a slot."""
        return self._working

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        return len(self._waiting)

    @contextmanager
    def slot(self, *, always_wait: bool = False) -> Iterator[None]:
        """Hold a slot while the block runs. Raise ApiError.

        overloaded: the queue is full; the caller is told when the requests before it will be done.
        deadline_exceeded: it waited longer than the limit, and nothing was spent on it.
        With `always_wait` it waits for its turn, however long; for a request that holds a slot of another kind already.
        """
        self._enter(always_wait=always_wait)
        started = time.monotonic()
        try:
            yield
        finally:
            self._leave(time.monotonic() - started)

    def retry_after_seconds(self) -> int:
        """Return after how many seconds to retry: as long as the present requests will take, at least 1."""
        pending = len(self._waiting) + self._working
        return max(1, math.ceil(pending * self._mean_seconds / self._slots))

    def give_way(self) -> None:
        """Let those who hold or wait for a slot go first, for at most a tenth of a second."""
        self._idle.wait(GIVE_WAY_SECONDS)

    def _enter(self, *, always_wait: bool) -> None:
        with self._lock:
            if self._working < self._slots:
                self._working += 1
                self._idle.clear()
                return
            if not always_wait and not self._queue.acquire(blocking=False):
                raise ApiError("overloaded", seconds=self.retry_after_seconds())
            turn = threading.Event()
            self._waiting.append(turn)
        try:
            if not turn.wait(None if always_wait else self._deadline_seconds):
                self._give_up(turn)
        finally:
            if not always_wait:
                self._queue.release()

    def _give_up(self, turn: threading.Event) -> None:
        with self._lock:
            if turn.is_set():  # its turn came at the very last moment: take the slot
                return
            self._waiting.remove(turn)
            raise ApiError("deadline_exceeded", seconds=self.retry_after_seconds())

    def _leave(self, seconds: float) -> None:
        """Hand the slot to whoever has waited longest."""
        with self._lock:
            self._mean_seconds += SMOOTHING * (seconds - self._mean_seconds)
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._working -= 1
                if self._working == 0:
                    self._idle.set()


class Admissions:
    """The slots of predictions, batches and explanations, and the one queue in which all of them wait.

    An explanation never queues: while another one is computed, it is refused.
    """

    def __init__(self, slots: int, max_queue: int, deadline_seconds: float) -> None:
        queue = threading.Semaphore(max_queue)
        self.predictions = Admission(slots, queue, deadline_seconds)
        self.batches = Admission(BATCHES_AT_ONCE, queue, deadline_seconds)
        self.explanations = Admission(EXPLANATIONS_AT_ONCE, threading.Semaphore(0), deadline_seconds)
        self.max_held_threads = slots + BATCHES_AT_ONCE + EXPLANATIONS_AT_ONCE + max_queue

    @property
    def waiting(self) -> int:
        """How many requests wait, of all kinds."""
        return self.predictions.waiting + self.batches.waiting
