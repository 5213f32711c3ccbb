"""Log records -> one line each: JSON for machines, columns on a terminal."""

import json
import logging
from datetime import UTC, datetime
from typing import IO, Any, Final

LOGGER: Final = "bone"
_FIELDS: Final = ("requestId", "method", "route", "status", "ms", "bytes", "outcome")


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


def configure_logs(stream: IO[str]) -> None:
    """Send this service's and the server's records to `stream`, as JSON where it is no terminal."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TerminalFormatter() if stream.isatty() else JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger(LOGGER).setLevel(logging.INFO)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _request_fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
