"""Run Debian's nginx and Prometheus on free ports of the loopback address, in a folder of their own."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_SECONDS = 30


def need(program: str, package: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test where a program is missing, and says which package has it."""
    reason = f"install {program} for this test (Debian: apt-get install {package})"
    return pytest.mark.skipif(shutil.which(program) is None, reason=reason)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], log: Path, answers: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends. Raise AssertionError, with its output, if `answers` never holds."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            wait_for(answers, START_SECONDS, lambda: log.read_text(errors="replace")[-2000:])
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            finally:
                process.kill()


def wait_for(holds: Callable[[], bool], seconds: float, describe: Callable[[], str] = str) -> None:
    """Return once something holds. Raise AssertionError if it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, describe()
        time.sleep(0.1)
