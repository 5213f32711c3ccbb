"""What has been scored so far, on disk: one JSON line a file, only ever appended to. A kill loses no finished line.

The first line says what the scores were made with; a run that would mix two models or settings is refused.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from bulk.scoring import Row

SYNC_SECONDS: Final = 1.0  # a killed process loses nothing; a machine that loses power, what is younger than this


class JournalError(Exception):
    """A journal that cannot be gone on with; the message is one sentence."""


class Journal:
    """The rows scored so far, and where each begins in the file."""

    def __init__(self, path: Path, made_with: Mapping[str, Any]) -> None:
        """Open the journal, or begin one. A line that a kill cut short is dropped. Raise JournalError."""
        self._path = path
        self._starts: dict[str, int] = {}
        self._file: IO[bytes] = path.open("a+b")
        self._synced = time.monotonic()
        try:
            self._lock()
            self._recover(json.dumps({"madeWith": made_with}, sort_keys=True))
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._starts)

    def __contains__(self, name: str) -> bool:
        return name in self._starts

    def append(self, row: Row) -> None:
        """Write one row through to the operating system; to the disk at most a second later."""
        self._starts[row["path"]] = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def rows(self, names: list[str]) -> Iterator[Row]:
        """Yield the rows of these files in this order, one at a time."""
        for name in names:
            self._file.seek(self._starts[name])
            yield json.loads(self._file.readline())

    def close(self) -> None:
        """Put what was written on the disk."""
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Take the journal away: its rows stand in the table."""
        self._file.close()
        self._path.unlink()

    def _lock(self) -> None:
        """Keep a second run away from the same journal, where the system can."""
        try:
            import fcntl  # noqa: PLC0415 not there on Windows

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            return
        except OSError:
            raise JournalError(f"{self._path} is being written by another run.") from None

    def _recover(self, header: str) -> None:
        self._file.seek(0)
        found = self._file.readline()
        if not found.endswith(b"\n"):
            self._file.truncate(0)
            self._file.write(header.encode() + b"\n")
            self._file.flush()
            return
        if found.decode(errors="replace").strip() != header:
            raise JournalError(
                f"{self._path} was begun with another model or other settings; take it away to begin anew."
            )
        start = self._file.tell()
        while (line := self._file.readline()).endswith(b"\n"):
            self._starts[json.loads(line)["path"]] = start
            start = self._file.tell()
        self._file.truncate(start)
