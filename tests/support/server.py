"""The service as a process of its own, on a free port of the loopback address."""

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

ROOT = Path(__file__).parents[2]
SERVICE = (sys.executable, "app.py")
START_SECONDS = 120


@contextmanager
def serving(command: tuple[str, ...] = SERVICE, folder: Path = ROOT, /, **settings: str) -> Iterator["RunningServer"]:
    """Run the command in the folder with these variables until the block ends; no other `BONE_*` reaches it."""
    server = RunningServer(command, folder, settings)
    try:
        yield server
    finally:
        server.stop()


class RunningServer:
    """A running service: its port, its process, what it printed, its memory."""

    def __init__(self, command: tuple[str, ...], folder: Path, settings: dict[str, str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed by stop; a pipe that nobody reads would fill up
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BONE_")}
        environment = clean | {"BONE_HOST": "127.0.0.1", "BONE_PORT": str(self.port)} | settings
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )

    @property
    def output(self) -> str:
        """The output of the process so far."""
        return os.pread(self._log.fileno(), 1 << 30, 0).decode()

    def wait(self, route: str) -> "RunningServer":
        """Return once the route answers 200. Raise AssertionError if it never does."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if requests.get(self.url + route, timeout=5).status_code == 200:
                    return self
            except (requests.ConnectionError, requests.Timeout):
                pass
            time.sleep(0.05)
        raise AssertionError(f"{route} never answered 200: {self.output[-2000:]}")

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Return the resident memory now, or its peak (VmHWM), in units of 1,000,000 bytes. Linux only."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition(f"{field}:")[2].split()[0]) * 1024 / 1e6

    def reset_peak(self) -> None:
        """Reset VmHWM to the present memory. Linux only."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")

    def stop(self) -> None:
        """End the process by SIGTERM, or by SIGKILL if that does not help."""
        self.process.terminate()
        try:
            self.process.wait(START_SECONDS)
        finally:
            self.process.kill()
            self._log.close()
