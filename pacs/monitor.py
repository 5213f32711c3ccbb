"""`/health`, `/ready` and `/metrics` of the node, by the standard library's HTTP server."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from config import ConfigError

TIMEOUT_SECONDS: Final = 10
JSON: Final = "application/json"
Answer = tuple[int, str, bytes]
READY: Final = (200, JSON, b'{"status":"ready"}\n')
NOT_READY: Final = (503, JSON, b'{"status":"not ready"}\n')


def start_monitor(
    host: str, port: int, is_ready: Callable[[], bool], metrics: Callable[[], bytes]
) -> ThreadingHTTPServer:
    """Answer in threads until the server is shut down. Raise ConfigError where the port is unavailable."""
    routes: dict[str, Callable[[], Answer]] = {
        "/health": lambda: (200, JSON, b'{"status":"alive"}\n'),
        "/ready": lambda: (
            (200, JSON, b'{"status":"ready"}\n') if is_ready() else (503, JSON, b'{"status":"not ready"}\n')
        ),
        "/metrics": lambda: (200, CONTENT_TYPE_LATEST, metrics()),
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_SECONDS

        def do_GET(self) -> None:
            route = routes.get(self.path.partition("?")[0])
            status, content_type, body = route() if route else (404, JSON, b'{"code":"not_found"}\n')
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 http.server's name
            """Log nothing: probes come every few seconds."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"Cannot listen on {host} port {port}: {reason}.") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
