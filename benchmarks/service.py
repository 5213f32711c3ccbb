"""A real server process: `python app.py`, or a rival, on a free port of the loopback address; its memory, its time."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

from benchmarks.children import environment
from benchmarks.machine import ROOT

START_SECONDS = 60
SERVICE = (sys.executable, "app.py")


@contextmanager
def serving(command: tuple[str, ...] = SERVICE, /, **settings: str) -> Iterator["RunningServer"]:
    """Run the service, or what the command starts, with these settings until the block ends."""
    server = RunningServer(settings, command=command)
    try:
        yield server
    finally:
        server.end()
        server.close()


class RunningServer:
    """One process, and whatever it starts; `BONE_*` variables of the caller do not reach it.

    `{port}` in the command stands for the port, which BONE_PORT names too.
    """

    def __init__(self, settings: dict[str, str], folder: Path = ROOT, command: tuple[str, ...] = SERVICE) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed by close; a pipe that nobody reads would fill up
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {"BONE_HOST": "127.0.0.1", "BONE_PORT": str(self.port)} | settings
        words = [word.replace("{port}", str(self.port)) for word in command]
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            words, cwd=folder, env=environment(settings), stdout=self._log, stderr=subprocess.STDOUT
        )

    @property
    def output(self) -> str:
        """What the process has printed so far."""
        return os.pread(self._log.fileno(), 1 << 30, 0).decode()

    def wait(self, route: str) -> "RunningServer":
        """Return once the route answers 200. Raise AssertionError where it never does."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if requests.get(self.url + route, timeout=5).status_code == 200:
                    return self
            except requests.ConnectionError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"{route} never answered 200: {self.output}")

    def family(self) -> list[int]:
        """Return the ids of the process and of all that descend from it. Linux alone."""
        parents = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile
                parents[int(entry.name)] = int(_stat(int(entry.name))[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Return the process's resident memory now, or its peak (VmHWM), in units of 1,000,000 bytes. Linux alone."""
        return _memory_mb(self.process.pid, field)

    def family_memory_mb(self) -> float:
        """Return the family's resident memory, what its members share counted once. Linux alone."""
        parts = [[_memory_mb(pid, f"{which}_Clean", f"{which}_Dirty") for pid in self.family()] for which in _PAGES]
        private, shared = parts
        return sum(private) + max(shared)

    def pause(self) -> None:
        """Let the family do nothing, not even wait."""
        self._signal(signal.SIGSTOP, self.family())

    def resume(self) -> None:
        """Let the family go on."""
        self._signal(signal.SIGCONT, self.family())

    def _signal(self, number: int, family: list[int]) -> None:
        """Send a signal to those of the family that are still there."""
        self.process.send_signal(number)
        for pid in family[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def reset_peak(self) -> None:
        """Let VmHWM begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")

    def cpu_seconds(self) -> float:
        """Return the processor time that the family has used so far. Linux alone."""
        fields = [_stat(pid) for pid in self.family()]
        return sum(int(user) + int(system) for _, _, *rest in fields for user, system in [rest[9:11]]) / _TICKS

    def end(self) -> int:
        """Stop the process, if it has not stopped yet, and what it leaves behind; return its exit code."""
        family = self.family()
        self._signal(signal.SIGCONT, family)
        self.process.terminate()
        code = self.process.wait(START_SECONDS)
        self._signal(signal.SIGKILL, family)
        return code

    def close(self) -> None:
        """Forget what the process printed."""
        self._log.close()


_TICKS = os.sysconf("SC_CLK_TCK")
_PAGES = ("Private", "Shared")


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat that follow the name: its state, its parent and so on."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()


def _memory_mb(pid: int, *fields: str) -> float:
    """Return the sum of some fields of the process's status or of the summary of its pages."""
    files = (
        Path(f"/proc/{pid}/{name}").read_text(encoding="ascii").splitlines() for name in ("status", "smaps_rollup")
    )
    kibibytes = {line.partition(":")[0]: line.split()[1] for file in files for line in file if line.endswith(" kB")}
    return sum(int(kibibytes[field]) for field in fields) * 1024 / 1e6
