"""The cores of one machine: one process each, spawned, because a fork would copy locks that other threads hold."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from itertools import chain, repeat
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Final

from bulk.scoring import BulkError, Row, Scorer, empty_row
from config import Config

MAX_TRIES: Final = 2  # a file that ends its process this often is listed as an error
MAX_LOADS: Final = 3
ONE_CORE: Final = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")


def score_locally(folder: Path, names: list[str], config: Config, workers: int) -> Generator[Row, None, None]:
    """Yield a row for each file as it is finished, in no fixed order. Raise ModelError or BulkError."""
    stopping = threading.Event()
    log_levels = chain([logging.WARNING], repeat(logging.ERROR))  # the first process says what all would repeat
    worker = _Worker(folder, config, log_levels, stopping)
    with ThreadPool(min(workers, len(names))) as threads:
        try:
            yield from threads.imap_unordered(worker.score, names)
        finally:
            stopping.set()
            for process in multiprocessing.active_children():
                process.terminate()
                process.join()


class _Worker(threading.local):
    """A process of its own for each thread, with the network loaded: a file that ends it stops no other file."""

    def __init__(self, folder: Path, config: Config, log_levels: Iterator[int], stopping: threading.Event) -> None:
        self._folder, self._config, self._log_levels, self._stopping = folder, config, log_levels, stopping
        self._process: ProcessPoolExecutor | None = None
        self._class_names: tuple[str, ...] = ()

    def score(self, name: str) -> Row:
        """Return the row of a file, or of an error once it has ended two processes."""
        for _ in range(MAX_TRIES):
            self._process = self._process or self._start()
            try:
                return self._process.submit(_score, self._folder, self._config, name).result()
            except BrokenProcessPool:
                self._process = None
        return empty_row(name, self._class_names, "internal_error")

    def _start(self) -> ProcessPoolExecutor:
        for _ in range(MAX_LOADS):
            if self._stopping.is_set():
                break
            context, level = multiprocessing.get_context("spawn"), next(self._log_levels)
            process = ProcessPoolExecutor(1, context, _prepare_process, (level,))
            _leave_ctrl_c_to_main_thread()
            try:
                self._class_names = process.submit(_load_class_names, self._config).result()
            except BrokenProcessPool:
                continue
            return process
        raise BulkError("Processes end while they load the model; fewer --workers need less memory.")


def _leave_ctrl_c_to_main_thread() -> None:
    """Block SIGINT in this thread and in the processes that it starts, which inherit the mask before they run a line.

    The executor must exist by now: multiprocessing clears the mask while it starts its resource tracker.
    """
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _prepare_process(log_level: int) -> None:
    """Use one core, leave Ctrl-C to the parent, and print nothing but our own log."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.environ.update(ONE_CORE)
    logging.basicConfig(stream=os.fdopen(os.dup(2), "w"), format="%(message)s", level=log_level)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # TensorFlow greets each process with ten lines


def _exit_with_parent() -> None:
    """End this process when its parent is killed: an executor's process would wait for its next file for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


_load = cache(Scorer)


def _load_class_names(config: Config) -> tuple[str, ...]:
    return _load(config).class_names


def _score(folder: Path, config: Config, name: str) -> Row:
    return _load(config).score(folder, name)
