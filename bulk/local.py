"""The cores of one machine: one process each, spawned, since a fork would share whatever threads there are."""

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

from bulk.scoring import Row, Scorer, be_quiet, failed
from config import Config

TRIES: Final = 2  # a file that ends its process twice is listed as an error
MAX_DEATHS_WHILE_LOADING: Final = 3
THREAD_VARIABLES: Final = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


class WorkerError(Exception):
    """No process could load the model; the message says why."""


def score_locally(folder: Path, names: Iterable[str], config: Config, workers: int) -> Iterator[Row]:
    """Yield a row for each file as it is finished, in no fixed order. Raise WorkerError."""
    pool = _Pool(folder, deque((name, 1) for name in names), config)
    try:
        for _ in range(min(workers, len(pool.waiting))):
            pool.start()
        yield from pool.rows()
    finally:
        pool.stop()


class _Worker:
    """A process, our end of its pipe, and the file that it works on with how often that was tried."""

    def __init__(self, process: SpawnProcess, pipe: Connection) -> None:
        self.process = process
        self.pipe = pipe
        self.task: tuple[str, int] | None = None
        self.is_ready = False


class _Pool:
    """Processes that work through a queue; one that dies is replaced, and its file tried once more."""

    def __init__(self, folder: Path, waiting: deque[tuple[str, int]], config: Config) -> None:
        self.waiting = waiting
        self._folder = folder
        self._config = config
        self._workers: dict[Any, _Worker] = {}
        self._started = self._deaths_while_loading = 0
        self._class_names: tuple[str, ...] = ()

    def start(self) -> None:
        """Start one more process."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._folder, self._config, self._started)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self._started += 1
        self._workers[ours] = _Worker(process, ours)

    def rows(self) -> Iterator[Row]:
        """Yield rows until nothing waits and nobody works."""
        while self._workers:
            for ready in wait(list(self._workers)):
                worker = self._workers[ready]
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    yield from self._bury(worker)
                    continue
                if isinstance(message, WorkerError):
                    raise message
                if isinstance(message, tuple):
                    self._class_names, worker.is_ready = message, True
                else:
                    yield message
                self._hand_out(worker)

    def stop(self) -> None:
        """End every process now."""
        for worker in self._workers.values():
            worker.process.terminate()
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def _hand_out(self, worker: _Worker) -> None:
        worker.task = self.waiting.popleft() if self.waiting else None
        with suppress(BrokenPipeError):  # it died meanwhile: the next wait tells
            worker.pipe.send(worker.task and worker.task[0])
        if worker.task is None:
            del self._workers[worker.pipe]
            worker.process.join()
            worker.pipe.close()

    def _bury(self, worker: _Worker) -> Iterator[Row]:
        """Replace a process that died; give its file another try, or list it."""
        del self._workers[worker.pipe]
        worker.pipe.close()
        worker.process.join()
        self._deaths_while_loading += not worker.is_ready
        if self._deaths_while_loading > MAX_DEATHS_WHILE_LOADING:
            raise WorkerError(f"Processes end with code {worker.process.exitcode} while they load the model.")
        if worker.task:
            name, tries = worker.task
            if tries < TRIES:
                self.waiting.append((name, tries + 1))
            else:
                yield failed(name, self._class_names, "internal_error")
        if self.waiting:
            self.start()


def _work(pipe: Connection, folder: Path, config: Config, number: int) -> None:
    """Load the network, say its classes, then answer each name with its row until None comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to hear
    threading.Thread(target=_die_with_parent, daemon=True).start()
    for variable in THREAD_VARIABLES:
        os.environ.setdefault(variable, "1")
    _keep_stderr_for_us()
    if number > 0:
        be_quiet()
    try:
        scorer = Scorer(config)
    except Exception as error:  # noqa: BLE001 the parent says it
        pipe.send(WorkerError(str(error)))
        return
    pipe.send(scorer.class_names)
    while (name := pipe.recv()) is not None:
        pipe.send(scorer.score(folder, name))
    os._exit(0)  # threads of TensorFlow may still be there, and nothing of theirs is worth waiting for


def _keep_stderr_for_us() -> None:
    """Let warnings of ours through and nothing else: TensorFlow greets each process with ten lines."""
    stream = os.fdopen(os.dup(2), "w")
    logging.basicConfig(stream=stream, format="%(message)s", level=logging.WARNING)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def _die_with_parent() -> None:
    """End this process when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
    os._exit(1)
