"""A real server process: `python app.py` on a free port of the loopback address, its output, its memory, its time."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

ROOT = Path(__file__).parents[1]
START_SECONDS = 60


@contextmanager
def serving(**environment: str) -> Iterator["RunningServer"]:
    """Run the service with these settings until the block ends."""
    server = RunningServer(environment)
    try:
        yield server
    finally:
        server.end()
        server.close()


class RunningServer:
    """One process; `BONE_*` variables of the caller do not reach it."""

    def __init__(self, environment: dict[str, str], folder: Path = ROOT, python: Path | str = sys.executable) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed by close; a pipe that nobody reads would fill up
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BONE_")}
        settings = {"BONE_HOST": "127.0.0.1", "BONE_PORT": str(self.port)} | environment
        self.process = subprocess.Popen(
            [python, "app.py"], cwd=folder, env=clean | settings, stdout=self._log, stderr=subprocess.STDOUT
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

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Return the resident memory now, or its peak (VmHWM), in units of 1,000,000 bytes. Linux alone."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024 / 1e6

    def reset_peak(self) -> None:
        """Let VmHWM begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")

    def cpu_seconds(self) -> float:
        """Return the processor time used so far. Linux alone."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> int:
        """Stop the process, if it has not stopped yet; return its exit code."""
        self.process.terminate()
        return self.process.wait(START_SECONDS)

    def close(self) -> None:
        """Forget what the process printed."""
        self._log.close()
