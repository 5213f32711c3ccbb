"""A WSGI application -> a server that answers in threads and finishes the requests in flight before it stops.

waitress does the serving; `web.limits` adds what it lacks.
"""

import ctypes
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final, cast

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import create_server

from config import LOGGER, ConfigError
from web.limits import (
    IDLE_SECONDS,
    MAX_BUFFERED_BODIES,
    MAX_DISCARDED_BYTES,
    MAX_HEADER_BYTES,
    MAX_UNSENT_BYTES,
    BodyBudget,
    BodyLimits,
    Channel,
    connection_limit,
    is_busy,
    is_idle,
    is_too_slow,
)

SPARE_THREADS: Final = 16  # besides those that work or wait: for probes and refusals
POLL_SECONDS: Final = 0.25
TRIM_SECONDS: Final = 5
MALLOC_OPTIONS: Final = ((-8, 2), (-3, 1 << 25), (-1, 1 << 28))  # M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD

logger = logging.getLogger(LOGGER)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on host and port. Raise ConfigError where it is unavailable."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except UnicodeError:
        raise ConfigError(f"Cannot listen on {host} port {port}: it is not a host name.") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ConfigError(f"Cannot listen on {host} port {port}: {reason}.") from None


def limit_malloc_arenas() -> None:
    """Tell glibc to share two arenas among all threads and to keep what is freed until `trim_memory` returns it.

    By default it keeps an arena for each of many threads, and the process grows by 100 MB and more over 100,000
    requests, though nothing leaks. Returning large blocks at once would make each large image fault in its pages again.
    """
    for option, value in MALLOC_OPTIONS:
        _glibc("mallopt", option, value)


def trim_memory() -> None:
    """Return the pages of freed blocks to the system, where glibc can."""
    _glibc("malloc_trim", 0)


def _glibc(function: str, *arguments: int) -> None:
    """Call a function of glibc; elsewhere do nothing."""
    if sys.platform.startswith("linux"):
        getattr(ctypes.CDLL(None), function, lambda *_: None)(*arguments)


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
            outbuf_overflow=MAX_UNSENT_BYTES,  # more than any response: nothing spills to disk
            channel_timeout=IDLE_SECONDS,
            cleanup_interval=5,
        )
        self._waitress = cast("Any", server)
        self._waitress.channel_class = Channel
        self._waitress.draining = False
        self._waitress.adj.body_limits = body_limits
        self._waitress.adj.body_budget = BodyBudget(MAX_BUFFERED_BODIES * body_limits.usual)
        self._next_cleanup = self._next_trim = 0.0
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)

    def run(self) -> int:
        """Serve until SIGINT, SIGTERM or `stop`, and return the exit code. Call it in the main thread.

        The first signal calls `on_drain` and lets the requests in flight finish, for at most `drain_seconds`; the
        application keeps answering meanwhile. A second signal ends the wait.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        while self._stop_requests == 0 and self._exit_code is None:
            self._poll()
        if self._exit_code is None:
            self._drain()
        return self._exit_code or 0

    def stop(self, exit_code: int) -> None:
        """End `run` without a drain. Call it from any thread."""
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
            self._close_slow_and_idle(now)
        if now >= self._next_trim:
            self._next_trim = now + TRIM_SECONDS
            trim_memory()

    def _close_slow_and_idle(self, now: float) -> None:
        busy = is_busy(self._waitress)
        for channel in list(self._waitress.active_channels.values()):
            if is_too_slow(channel.request, now) or (busy and is_idle(channel)):
                channel.will_close = True

    def _drain(self) -> None:
        """Wait for the requests in flight; then refuse connections and wait for those that came in meanwhile."""
        deadline = time.monotonic() + self._drain_seconds
        self._waitress.draining = True
        self._on_drain()
        in_flight = self._in_flight()
        logger.info("draining: %d requests in flight, for at most %g s", len(in_flight), self._drain_seconds)
        while in_flight and self._may_wait(deadline):
            self._poll()
            in_flight &= self._in_flight()
        self._waitress.accepting = False
        while self._in_flight() and self._may_wait(deadline):
            self._poll()

    def _may_wait(self, deadline: float) -> bool:
        return self._stop_requests < 2 and time.monotonic() < deadline

    def _in_flight(self) -> set[HTTPChannel]:
        """Return the connections that hold a request: arriving, queued, being processed, or its response unsent."""
        return {
            channel
            for channel in list(self._waitress.active_channels.values())
            if channel.requests or channel.total_outbufs_len or _is_receiving_body(channel.request)
        }


def _is_receiving_body(request: HTTPRequestParser | None) -> bool:
    return request is not None and request.headers_finished
