"""A real server process: `python app.py`, or a peer, on a free port of the loopback address. Linux only."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

import requests

ROOT: Final = Path(__file__).parents[1]
CACHE: Final = ROOT / "benchmarks" / ".cache"
SERVICE: Final = (sys.executable, "app.py")
START_SECONDS: Final = 120
STOP_SECONDS: Final = 60

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(command: tuple[str, ...] = SERVICE, /, **settings: str) -> Iterator["RunningServer"]:
    """Run the service, or another command, with these settings until the block ends.

    From then on SIGTERM raises SystemExit in this process: the block ends, and so does the server.
    """
    signal.signal(signal.SIGTERM, _exit)
    server = RunningServer(settings, command)
    try:
        yield server
    finally:
        server.stop()


def _exit(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the clean-up
    raise SystemExit(128 + number)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's environment with these settings; its own `BONE_*` variables are left out."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BONE_")}
    return clean | dict(settings)


class RunningServer:
    """A process and its descendants, here called its family.

    `{port}` in the command stands for the port, which BONE_PORT also holds.
    """

    def __init__(self, settings: Mapping[str, str], command: Sequence[str] = SERVICE) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed by stop; a pipe that nobody reads would fill up
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [word.replace("{port}", str(self.port)) for word in command],
            cwd=ROOT,
            env=environment({"BONE_HOST": "127.0.0.1", "BONE_PORT": str(self.port)} | dict(settings)),
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def output(self) -> str:
        """The output of the process so far."""
        return os.pread(self._log.fileno(), 1 << 30, 0).decode()

    def wait(self, route: str) -> "RunningServer":
        """Return once the route answers 200. Raise AssertionError if it never does."""
        while time.perf_counter() < self.started + START_SECONDS and self.process.poll() is None:
            with suppress(requests.ConnectionError):
                if requests.get(self.url + route, timeout=5).ok:
                    return self
            time.sleep(0.02)
        raise AssertionError(f"{route} never answered 200: {self.output[-2000:]}")

    def family(self) -> list[int]:
        """Return the ids of the process and of all its descendants."""
        parents = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                parents[int(entry.name)] = int(_stat(int(entry.name))[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Return the process's resident memory now, or its peak (VmHWM), in units of 1,000,000 bytes."""
        return _memory_mb(self.process.pid, field)

    def family_memory_mb(self) -> float:
        """Return the family's resident memory, shared memory counted once.

        The kernel's proportional set size would count only part of a library that another contender has loaded too.
        """
        family = self.family()
        private, shared = (
            [_memory_mb(pid, f"{kind}_Clean", f"{kind}_Dirty") for pid in family] for kind in ("Private", "Shared")
        )
        return sum(private) + max(shared)

    def cpu_seconds(self) -> float:
        """Return the processor time that the family has used so far."""
        return sum(sum(map(int, _stat(pid)[11:13])) for pid in self.family()) / _TICKS_PER_SECOND

    def reset_peak(self) -> None:
        """Reset VmHWM to the present memory."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")

    def pause(self) -> None:
        """Stop the family with SIGSTOP, so that it uses no processor time at all."""
        self._signal(signal.SIGSTOP, self.family())

    def resume(self) -> None:
        """Continue after `pause`."""
        self._signal(signal.SIGCONT, self.family())

    def stop(self) -> None:
        """Resume the family, end its process by SIGTERM, then kill what is left. Raise TimeoutExpired if it hangs."""
        family = self.family()
        self._signal(signal.SIGCONT, family)
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        finally:
            self._signal(signal.SIGKILL, family)
            self._log.close()

    def _signal(self, number: int, family: list[int]) -> None:
        """Send a signal to the members of the family that are still running."""
        self.process.send_signal(number)
        for pid in family[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat that follow the name: its state, its parent and so on."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()


def _memory_mb(pid: int, *fields: str) -> float:
    """Return the sum of some fields of the process's status or of its memory map's summary."""
    text = "".join(Path(f"/proc/{pid}/{name}").read_text(encoding="ascii") for name in ("status", "smaps_rollup"))
    kibibytes = {line.partition(":")[0]: line.split()[1] for line in text.splitlines() if line.endswith(" kB")}
    return sum(int(kibibytes[field]) for field in fields) * 1024 / 1e6
