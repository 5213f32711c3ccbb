"""What waitress lets a client do to a server that faces the internet, and how it is limited.

For each limit: what it prevents, and whether a reverse proxy that buffers requests, as nginx does by default, makes it
unnecessary.

- CONNECTION_LIMIT, BUSY_SHARE, BUSY_IDLE_SECONDS, IDLE_SECONDS: idle connections that keep out new ones. Unnecessary.
- RECEIVE_SECONDS, MAX_RECEIVE_SECONDS, PACE_SECONDS, PACE_BYTES: requests that never end arriving. Unnecessary.
- MAX_CHUNK_LINE_BYTES, MAX_CHUNKED_RATIO, FREE_CHUNKED_BYTES: minutes of parsing tiny chunks. Unnecessary.
- REQUEST_LINE, TOO_MUCH_SPACE: minutes in waitress's regular expressions for a header of 60 kB. Needed.
- MAX_HEADER_BYTES: headers of up to 256 kB, waitress's default. Unnecessary if the proxy's limit is as low.
- CappedBuffer: bodies spooled to disk, and a 413 that is not JSON. Unnecessary if the proxy's own 413 will do.
- BodyBudget: memory filled by many bodies at once. Needed.
- Expect: 100-continue, in Parser: sending a body that will be refused anyway. Unnecessary.
- Connection: close while draining, in Task: kept connections that hold up a stop. Needed.
- MAX_UNSENT_BYTES: responses spooled to disk. Needed.
- BODY_PIECE_BYTES, in Channel, prevents nothing; it makes uploads faster.
"""

import functools
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Final, NamedTuple, cast

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import FixedStreamReceiver
from waitress.task import WSGITask
from waitress.utilities import BadRequest

CONNECTION_LIMIT: Final = 2_000
SPARE_FILES: Final = 100  # open files besides connections
BUSY_SHARE: Final = 0.5  # of the connection limit: above it connections are not kept for a next request
BUSY_IDLE_SECONDS: Final = 5
IDLE_SECONDS: Final = 60
RECEIVE_SECONDS: Final = 30  # for a request to arrive; longer only for a body that keeps its pace
MAX_RECEIVE_SECONDS: Final = 300
PACE_SECONDS: Final = 10
PACE_BYTES: Final = 100_000  # in each PACE_SECONDS
MAX_HEADER_BYTES: Final = 16_000
REQUEST_LINE: Final = re.compile(rb"[^ ]+ [^ ]+(?: HTTP/[0-9]\.[0-9])?")
MAX_SPACE_BYTES: Final = 255  # in a row; a line break that is followed by a space is part of the row
TOO_MUCH_SPACE: Final = re.compile(rb"(?<![ \t\r\n])[ \t\r\n]{%d}" % (MAX_SPACE_BYTES + 1))
MAX_DISCARDED_BYTES: Final = 2_000_000_000
MAX_BUFFERED_BODIES: Final = 20  # of the largest size; more small ones fit
SMALL_BODY_BYTES: Final = 2_000_000
SMALL_BODIES_SHARE: Final = 0.25  # of the budget: slow large bodies cannot keep out all others
MAX_CHUNK_LINE_BYTES: Final = 8_000
MAX_CHUNKED_RATIO: Final = 1.25  # of the bytes received to those of the body: 24 bytes per chunk, on average
FREE_CHUNKED_BYTES: Final = 64_000  # before the ratio counts
BODY_PIECE_BYTES: Final = 250_000  # of a body that are read at once; of all else a few kB
MIN_PIECE_BYTES: Final = 8_000  # of a body that are kept as one object: a body sent byte by byte is not a million
MAX_UNSENT_BYTES: Final = 64_000_000
SHED_HEADER: Final = "X_BODY_SHED"


class BodyLimits(NamedTuple):
    """The largest body of a request in bytes: the usual one, and those of paths that end so, whatever the prefix."""

    usual: int
    at_endings: Mapping[str, int]

    def at(self, path: str) -> int:
        """Return the limit of a path."""
        return next((limit for ending, limit in self.at_endings.items() if path.endswith(ending)), self.usual)


def connection_limit() -> int:
    """Return how many connections may be open, after asking the system for as many open files as they need.

    Above the limit waitress stops accepting; above the system's it would spin on errors.
    """
    if sys.platform == "win32":
        return CONNECTION_LIMIT
    import resource  # noqa: PLC0415 not there on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTION_LIMIT + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTION_LIMIT if soft == resource.RLIM_INFINITY else min(CONNECTION_LIMIT, max(1, soft - SPARE_FILES))


def is_busy(server: Any) -> bool:
    """Tell whether idle connections, if they were kept, might soon leave no room for new ones."""
    return bool(len(server.active_channels) > BUSY_SHARE * server.adj.connection_limit)


def is_idle(channel: Any) -> bool:
    """Tell whether a connection has held nothing of a request or a response for a while."""
    holds = channel.request or channel.requests or channel.total_outbufs_len
    return not holds and time.time() - channel.last_activity > BUSY_IDLE_SECONDS


def is_too_slow(request: Any, now: float) -> bool:
    """Tell whether a request arrives more slowly than any upload: early bytes do not excuse a later silence."""
    if request is None:
        return False
    if now - request.pace_began >= PACE_SECONDS:
        request.keeps_pace = request.body_bytes_received - request.pace_bytes >= PACE_BYTES
        request.pace_began, request.pace_bytes = now, request.body_bytes_received
    age = now - request.began
    return bool(age > MAX_RECEIVE_SECONDS or (age > RECEIVE_SECONDS and not request.keeps_pace))


class BodyBudget:
    """The bytes that all bodies together may hold in memory."""

    def __init__(self, free_bytes: int) -> None:
        self._free_bytes = free_bytes
        self._reserved_for_small = int(SMALL_BODIES_SHARE * free_bytes)
        self._lock = threading.Lock()

    def take(self, count: int, held: int) -> bool:
        """Take bytes for a body that already holds some; a large body cannot take what is reserved for small ones."""
        reserved = self._reserved_for_small if held + count > SMALL_BODY_BYTES else 0
        with self._lock:
            if count > self._free_bytes - reserved:
                return False
            self._free_bytes -= count
            return True

    def give(self, count: int) -> None:
        """Return bytes that a body no longer holds."""
        with self._lock:
            self._free_bytes += count


class CappedBuffer:
    """Keep a body in memory while it is within its own limit and the budget; else keep nothing, and count."""

    def __init__(self, limit: int, budget: BodyBudget, on_shed: Callable[[], None]) -> None:
        self._limit = limit
        self._budget = budget
        self._on_shed = on_shed
        self._pieces: list[bytes] = []
        self._received = 0
        self._held = 0
        self._keeps = True

    def __len__(self) -> int:
        return self._received

    def __del__(self) -> None:
        self.close()

    def append(self, data: bytes) -> None:
        """Keep or count a piece of the body; where the budget is exhausted, call `on_shed`."""
        self._received += len(data)
        if not self._keeps:
            return
        if self._received > self._limit:
            self._drop()
        elif self._budget.take(len(data), self._held):
            self._held += len(data)
            self._add(data)
        else:
            self._drop()
            self._on_shed()

    def getfile(self) -> BytesIO:
        """Return the body. Joining it here costs the thread that answers it, not the loop that serves everyone."""
        self._pieces = [b"".join(self._pieces)]
        return BytesIO(self._pieces[0])

    def close(self) -> None:
        """Free the memory."""
        self._pieces.clear()
        held, self._held = self._held, 0
        self._budget.give(held)

    def _add(self, data: bytes) -> None:
        if self._pieces and len(self._pieces[-1]) < MIN_PIECE_BYTES:
            self._pieces[-1] += data
        else:
            self._pieces.append(data)

    def _drop(self) -> None:
        self._keeps = False
        self.close()


def _check_header(header: bytes) -> None:
    """Refuse what waitress's regular expressions take quadratic time to match. Raise ParsingError."""
    request_line = header.partition(b"\r\n")[0].rstrip()
    if not REQUEST_LINE.fullmatch(request_line):
        raise ParsingError("The request line must be a method, an address and a version.")
    if TOO_MUCH_SPACE.search(header):
        raise ParsingError(f"A header may not hold more than {MAX_SPACE_BYTES} spaces in a row.")


class Parser(HTTPRequestParser):
    """A request as it arrives, with the limits of its header, its chunks and its body."""

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.began = self.pace_began = time.monotonic()
        self.pace_bytes = 0
        self.keeps_pace = False

    def received(self, data: bytes) -> int:
        """Parse a piece of the request and return how many of its bytes belong to it."""
        consumed = super().received(data)
        fault = self._fault_of_chunks() if self.chunked else None
        if fault:
            self.error = BadRequest(fault)
            self.completed = True
        return consumed

    def _fault_of_chunks(self) -> str | None:
        """Return what makes the chunks more expensive to parse than the body is worth; waitress sets no limit."""
        body = cast("Any", self.body_rcv)
        if max(len(body.control_line), len(body.trailer)) > MAX_CHUNK_LINE_BYTES:
            return "The line of a chunk is too long."
        if self.body_bytes_received > MAX_CHUNKED_RATIO * len(body) + FREE_CHUNKED_BYTES:
            return "The chunks are too small."
        return None

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the header and prepare the buffer of the body. Raise ParsingError."""
        _check_header(header_plus)
        try:
            super().parse_header(header_plus)
        except ValueError:  # a host in brackets that is not an address; a length of more digits than Python parses
            raise ParsingError("The address or the Content-Length is invalid.") from None
        headers = cast("dict[str, str]", self.headers)
        adj = cast("Any", self.adj)
        headers.pop(SHED_HEADER, None)
        limit = adj.body_limits.at(cast("Any", self).path)
        if self.body_rcv is not None:
            on_shed = functools.partial(headers.__setitem__, SHED_HEADER, "1")
            cast("Any", self.body_rcv).buf = CappedBuffer(limit, adj.body_budget, on_shed)
        if self.expect_continue and self.content_length > limit:
            # The client asked before sending the body: answer at once, without it.
            self.expect_continue = False
            headers["CONNECTION"] = "close"
            self.completed = True


class Task(WSGITask):
    """A response that closes its connection while the server drains or is busy."""

    def build_response_header(self) -> bytes:
        """Return the response's header."""
        server = cast("Any", self.channel.server)
        if server.draining or is_busy(server):
            cast("Any", self.request).headers["CONNECTION"] = "close"
        return super().build_response_header()


class Channel(HTTPChannel):
    """A connection that parses and answers with the classes above."""

    parser_class = Parser
    task_class = Task

    def recv(self, buffer_size: int) -> bytes:
        """Read more at once of a body of known length, and nothing after it; else `buffer_size` bytes."""
        body = cast("Any", self.request and self.request.body_rcv)
        if isinstance(body, FixedStreamReceiver):
            buffer_size = max(1, min(body.remain, BODY_PIECE_BYTES))
        return super().recv(buffer_size)
