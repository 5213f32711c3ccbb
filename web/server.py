"""A WSGI application -> a bound server that answers in threads and, asked to stop, finishes what is in flight.

waitress does the serving. Ours are three things: a body over the limit is counted and thrown away, so that the
application can refuse it in its own words; what would keep the one thread that reads busy for long is refused; and a
stop waits for the requests that were in flight when it came.
"""

import ctypes
import functools
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

from waitress import wasyncore
from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import FixedStreamReceiver
from waitress.server import create_server
from waitress.task import WSGITask
from waitress.utilities import BadRequest

CONNECTION_LIMIT: Final = 2_000
SPARE_FILES: Final = 100  # open files besides connections
MAX_HEADER_BYTES: Final = 16_000
BODY_PIECE_BYTES: Final = 250_000  # of a body that are read at once; of all else a few kB
MAX_DISCARDED_BYTES: Final = 2_000_000_000
MAX_BUFFERED_BODIES: Final = 20  # of the largest size; more small ones fit
MAX_UNSENT_BYTES: Final = 64_000_000
IDLE_SECONDS: Final = 60
CROWD: Final = 0.5  # of the connections that may be open: from there on they are not kept for a next request
CROWDED_IDLE_SECONDS: Final = 5
RECEIVE_SECONDS: Final = 30  # for a request to arrive; longer only for a body that keeps its pace
MAX_RECEIVE_SECONDS: Final = 300
PACE_SECONDS: Final = 10
PACE_BYTES: Final = 100_000  # in each stretch of PACE_SECONDS
SMALL_BODY_BYTES: Final = 2_000_000
SHARE_FOR_SMALL_BODIES: Final = 0.25  # of the budget: large bodies that are slow to come cannot shut all others out
MAX_CHUNK_LINE_BYTES: Final = 8_000
MAX_CHUNKED_RATIO: Final = 1.25  # of the bytes that arrive to those of the body: 24 bytes in a chunk, on average
FREE_CHUNKED_BYTES: Final = 64_000  # before that counts
POLL_SECONDS: Final = 0.25
GIVE_BACK_SECONDS: Final = 5
MALLOC_OPTIONS: Final = ((-8, 2), (-3, 1 << 25), (-1, 1 << 28))  # M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
SHED_HEADER: Final = "X_BODY_SHED"
REQUEST_LINE: Final = re.compile(rb"[^ ]+ [^ ]+(?: HTTP/[0-9]\.[0-9])?")
MAX_SPACE_BYTES: Final = 255  # in a row; a line break that is followed by a space is part of the row
TOO_MUCH_SPACE: Final = re.compile(rb"(?<![ \t\r\n])[ \t\r\n]{%d}" % (MAX_SPACE_BYTES + 1))


class ServerError(Exception):
    """The server cannot start; the message says why."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on host and port. Raise ServerError where it cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except UnicodeError:
        raise ServerError(f"Cannot listen on {host} port {port}: it is no name of a host.") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ServerError(f"Cannot listen on {host} port {port}: {reason}.") from None


def keep_memory_flat() -> None:
    """Tell glibc to share two arenas among all threads and to keep what is freed, for `give_memory_back` to give back.

    Left alone it keeps an arena for each of many threads, and the process grows by 100 MB and more over 100,000
    requests, though nothing leaks. Giving each large block back at once would cost a large film its pages anew.
    """
    for option, value in MALLOC_OPTIONS:
        _glibc("mallopt", option, value)


def give_memory_back() -> None:
    """Give the pages of freed blocks back to the system, where glibc can."""
    _glibc("malloc_trim", 0)


def _glibc(function: str, *arguments: int) -> None:
    """Call a function of glibc; elsewhere do nothing."""
    if sys.platform.startswith("linux"):
        getattr(ctypes.CDLL(None), function, lambda *_: None)(*arguments)


def connection_limit() -> int:
    """Return how many connections may be open, having asked the system for as many open files as that takes.

    Past the limit waitress stops accepting; past the system's it would spin on errors.
    """
    if sys.platform == "win32":
        return CONNECTION_LIMIT
    import resource  # noqa: PLC0415 not there on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTION_LIMIT + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTION_LIMIT if soft == resource.RLIM_INFINITY else min(CONNECTION_LIMIT, max(1, soft - SPARE_FILES))


class BodyLimits(NamedTuple):
    """The largest body of a request in bytes: the usual one, and those of certain paths."""

    usual: int
    at_paths: Mapping[str, int]


class Server:
    """Serve an application from a bound socket until a signal or `stop` ends it."""

    def __init__(
        self,
        application: Any,
        listener: socket.socket,
        *,
        threads: int,
        body_limits: BodyLimits,
        drain_seconds: float,
        on_drain: Callable[[], None],
    ) -> None:
        self._drain_seconds = drain_seconds
        self._on_drain = on_drain
        self._stop_requests = 0
        self._exit_code: int | None = None
        self._map: dict[int, Any] = {}
        server = create_server(
            application,
            map=self._map,
            sockets=[listener],
            threads=threads,
            ident="",
            connection_limit=connection_limit(),
            asyncore_use_poll=True,
            max_request_header_size=MAX_HEADER_BYTES,
            max_request_body_size=MAX_DISCARDED_BYTES,
            outbuf_overflow=MAX_UNSENT_BYTES,  # more than any answer: nothing spills to disk
            channel_timeout=IDLE_SECONDS,
            cleanup_interval=5,
        )
        self._waitress = cast("Any", server)
        self._waitress.channel_class = _Channel
        self._waitress.draining = False
        self._waitress.adj.body_limits = body_limits
        self._waitress.adj.body_budget = _Budget(MAX_BUFFERED_BODIES * body_limits.usual)
        self._next_cleanup = self._next_give_back = 0.0
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)

    def run(self) -> int:
        """Serve until SIGINT, SIGTERM or `stop`, and return the exit code. Runs in the main thread.

        The first signal calls `on_drain` and lets what is in flight finish, for at most `drain_seconds`; the
        application goes on answering meanwhile. A second signal ends the wait.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        while self._stop_requests == 0 and self._exit_code is None:
            self._poll()
        if self._exit_code is None:
            self._drain()
        return self._exit_code or 0

    def stop(self, exit_code: int) -> None:
        """End `run` without a drain; from any thread."""
        self._exit_code = exit_code
        self._waitress.pull_trigger()

    def _on_signal(self, *_: object) -> None:
        self._stop_requests += 1
        self._waitress.pull_trigger()

    def _poll(self) -> None:
        wasyncore.loop(timeout=POLL_SECONDS, use_poll=True, map=self._map, count=1)
        now = time.monotonic()
        if now >= self._next_cleanup:
            self._next_cleanup = now + 1
            crowded = _is_crowded(self._waitress)
            for channel in list(self._waitress.active_channels.values()):
                if _is_too_slow(channel.request, now) or (crowded and _is_idle(channel)):
                    channel.will_close = True
        if now >= self._next_give_back:
            self._next_give_back = now + GIVE_BACK_SECONDS
            give_memory_back()

    def _drain(self) -> None:
        """Wait for what is in flight now; then refuse connections and wait for what came in meanwhile."""
        deadline = time.monotonic() + self._drain_seconds
        self._waitress.draining = True
        self._on_drain()
        in_flight = self._busy()
        while in_flight and self._may_wait(deadline):
            self._poll()
            in_flight &= self._busy()
        self._waitress.accepting = False
        while self._busy() and self._may_wait(deadline):
            self._poll()

    def _may_wait(self, deadline: float) -> bool:
        return self._stop_requests < 2 and time.monotonic() < deadline

    def _busy(self) -> set[HTTPChannel]:
        """Return the connections that hold a request: arriving, queued, being worked on, or its answer unsent."""
        return {
            channel
            for channel in list(self._waitress.active_channels.values())
            if channel.requests or channel.total_outbufs_len or _is_receiving_body(channel.request)
        }


def _is_crowded(server: Any) -> bool:
    """Tell whether idle connections, if they were kept, might soon leave no room for new ones."""
    return bool(len(server.active_channels) > CROWD * server.adj.connection_limit)


def _is_idle(channel: Any) -> bool:
    """Tell whether a connection has held nothing of a request or an answer for a while."""
    holds = channel.request or channel.requests or channel.total_outbufs_len
    return not holds and time.time() - channel.last_activity > CROWDED_IDLE_SECONDS


def _is_receiving_body(request: HTTPRequestParser | None) -> bool:
    return request is not None and request.headers_finished


def _is_too_slow(request: Any, now: float) -> bool:
    """Tell whether a request arrives more slowly than any upload: early bytes do not excuse a silence later."""
    if request is None:
        return False
    if now - request.pace_began >= PACE_SECONDS:
        request.keeps_pace = request.body_bytes_received - request.pace_bytes >= PACE_BYTES
        request.pace_began, request.pace_bytes = now, request.body_bytes_received
    age = now - request.began
    return bool(age > MAX_RECEIVE_SECONDS or (age > RECEIVE_SECONDS and not request.keeps_pace))


class _Budget:
    """The bytes that all bodies together may hold in memory."""

    def __init__(self, free_bytes: int) -> None:
        self._free_bytes = free_bytes
        self._kept_for_small = int(SHARE_FOR_SMALL_BODIES * free_bytes)
        self._lock = threading.Lock()

    def take(self, count: int, held: int) -> bool:
        """Take bytes for a body that holds so many already; what is kept for small ones a large one cannot have."""
        kept = self._kept_for_small if held + count > SMALL_BODY_BYTES else 0
        with self._lock:
            if count > self._free_bytes - kept:
                return False
            self._free_bytes -= count
            return True

    def give(self, count: int) -> None:
        with self._lock:
            self._free_bytes += count


class _CappedBuffer(OverflowableBuffer):
    """Keep a body in memory while it is within its own limit and the common budget; else keep nothing, and count."""

    def __init__(self, limit: int, budget: _Budget, on_shed: Callable[[], None]) -> None:
        super().__init__(limit + 1)  # waitress spills to disk at what it is given: never reached
        self._limit = limit
        self._budget = budget
        self._on_shed = on_shed
        self._received = 0
        self._held = 0
        self._keeps = True

    def __len__(self) -> int:
        return self._received

    def __del__(self) -> None:
        self._release()

    def append(self, data: bytes) -> None:
        self._received += len(data)
        if not self._keeps:
            return
        if self._received > self._limit:
            self._drop()
        elif self._budget.take(len(data), self._held):
            self._held += len(data)
            super().append(data)
        else:
            self._drop()
            self._on_shed()

    def close(self) -> None:
        super().close()
        self._release()

    def _drop(self) -> None:
        self._keeps = False
        self.close()
        self.buf, self.strbuf = None, b""

    def _release(self) -> None:
        held, self._held = self._held, 0
        self._budget.give(held)


def _check_header(header: bytes) -> None:
    """Raise ParsingError for what waitress's regular expressions take quadratic time to read: minutes, for 60 kB."""
    request_line = header.partition(b"\r\n")[0].rstrip()
    if not REQUEST_LINE.fullmatch(request_line):
        raise ParsingError("The request line must be a method, an address and a version.")
    if TOO_MUCH_SPACE.search(header):
        raise ParsingError(f"A header may not hold more than {MAX_SPACE_BYTES} spaces in a row.")


class _Parser(HTTPRequestParser):
    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.began = self.pace_began = time.monotonic()
        self.pace_bytes = 0
        self.keeps_pace = False

    def received(self, data: bytes) -> int:
        consumed = super().received(data)
        fault = self._fault_of_chunks() if self.chunked else None
        if fault:
            self.error = BadRequest(fault)
            self.completed = True
        return consumed

    def _fault_of_chunks(self) -> str | None:
        """Say what makes the chunks costlier to take apart than a body is worth; waitress sets no limit."""
        body = cast("Any", self.body_rcv)
        if max(len(body.control_line), len(body.trailer)) > MAX_CHUNK_LINE_BYTES:
            return "The line of a chunk is too long."
        if self.body_bytes_received > MAX_CHUNKED_RATIO * len(body) + FREE_CHUNKED_BYTES:
            return "The chunks are too small."
        return None

    def parse_header(self, header_plus: bytes) -> None:
        _check_header(header_plus)
        try:
            super().parse_header(header_plus)
        except ValueError:  # a host in brackets that is no address; a length of more digits than Python reads
            raise ParsingError("The address or the Content-Length is invalid.") from None
        headers = cast("dict[str, str]", self.headers)
        adj = cast("Any", self.adj)
        headers.pop(SHED_HEADER, None)
        limit = adj.body_limits.at_paths.get(cast("Any", self).path, adj.body_limits.usual)
        if self.body_rcv is not None:
            on_shed = functools.partial(headers.__setitem__, SHED_HEADER, "1")
            self.body_rcv.buf = _CappedBuffer(limit, adj.body_budget, on_shed)
        if self.expect_continue and self.content_length > limit:
            # The sender asked before sending the body: answer at once, without it.
            self.expect_continue = False
            headers["CONNECTION"] = "close"
            self.completed = True


class _Task(WSGITask):
    def build_response_header(self) -> bytes:
        server = cast("Any", self.channel.server)
        if server.draining or _is_crowded(server):
            cast("Any", self.request).headers["CONNECTION"] = "close"
        return super().build_response_header()


class _Channel(HTTPChannel):
    parser_class = _Parser
    task_class = _Task

    def recv(self, buffer_size: int) -> bytes:
        """Read more at once of a body of stated length, and nothing that follows it; ask for `buffer_size` else."""
        body = cast("Any", self.request and self.request.body_rcv)
        if isinstance(body, FixedStreamReceiver):
            buffer_size = max(1, min(body.remain, BODY_PIECE_BYTES))
        return super().recv(buffer_size)
