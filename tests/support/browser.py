"""Control Debian's Chromium with Playwright, or say what to install. No browser is ever downloaded."""

import importlib.util
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def missing() -> str | None:
    """Return a sentence that says what to install; None if a browser is available."""
    if importlib.util.find_spec("playwright") is None:
        return "install Playwright for the tests of the page: pip install playwright"
    if executable() is None:
        return "install Chromium for the tests of the page (Debian: apt-get install chromium), or name it in CHROMIUM"
    return None


def executable() -> str | None:
    """Return the path of Chromium."""
    named = os.environ.get("CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a running browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=FLAGS)
        yield browser
        browser.close()


class ThreadedServer:
    """An application behind a real socket on the loopback address, which can be stopped and started again."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.port = 0
        self.start()
        self.url = f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Serve, on the same port as before."""
        self._server = make_server("127.0.0.1", self.port, self._app, threaded=True, request_handler=_Quiet)
        self.port = self._server.port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Stop serving: connections are refused."""
        self._server.shutdown()
        self._server.server_close()


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Write nothing."""
