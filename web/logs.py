"""Log records -> one line each: JSON for machines, columns on a terminal."""

import json
import logging
import threading
from collections import deque
from datetime import UTC, datetime
from typing import IO, Any, Final

from config import LOGGER

MAX_PENDING_LINES: Final = 10_000  # while nobody reads the log; the oldest are dropped
_FIELDS: Final = ("requestId", "method", "route", "status", "ms", "bytes", "outcome", "key")


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object: time (UTC), level, message, the request's fields, the traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its line break."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= _request_fields(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TerminalFormatter(logging.Formatter):
    """Format a record for a person: time, message, the request's fields, the traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the lines of a traceback below it."""
        fields = " ".join(f"{name}={value}" for name, value in _request_fields(record).items())
        line = f"{_time(record)} {record.levelname:<7} {record.getMessage()} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class LineHandler(logging.Handler):
    """Write each record as a line of its own to a stream, without making one thread wait for another.

    `logging.StreamHandler` holds a lock while it writes. Under overload all threads queued for it, each in turn for
    the GIL too, and refusals took seconds. Here the thread that is writing also writes the lines that others add.
    """

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=MAX_PENDING_LINES)
        self._writing = threading.Lock()

    def createLock(self) -> None:  # noqa: N802 logging's name
        """Do without the lock that would be held around `emit`."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record's line; write all lines unless another thread does already."""
        try:
            self._lines.append(self.format(record) + "\n")
            while self._lines and self._writing.acquire(blocking=False):
                try:
                    self._write()
                finally:
                    self._writing.release()
        except Exception:  # noqa: BLE001 a log that cannot be written must not fail a request
            self.handleError(record)

    def flush(self) -> None:
        """Write what is left; `logging` calls it at the end of the process."""
        with self._writing:
            self._write()

    def _write(self) -> None:
        self._stream.write("".join(self._lines.popleft() for _ in range(len(self._lines))))
        self._stream.flush()


def configure_logs(stream: IO[str], level: str) -> None:
    """Send this service's records from a level on, and the server's warnings, to `stream`: JSON unless a terminal."""
    handler = LineHandler(stream)
    handler.setFormatter(TerminalFormatter() if stream.isatty() else JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger(LOGGER).setLevel(level.upper())


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _request_fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
