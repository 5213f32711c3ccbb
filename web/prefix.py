"""The path under which a proxy serves the application, as WSGI's SCRIPT_NAME, whether or not the proxy removes it."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from werkzeug.utils import redirect

from config import PREFIX

AUTO: Final = "auto"  # take the prefix from X-Forwarded-Prefix
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Prefixed:
    """A WSGI application that also answers under a prefix and builds its links with it."""

    def __init__(self, application: Application, prefix: str) -> None:
        self._application = application
        self._prefix = prefix

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request whose path has the prefix or has lost it; redirect the prefix itself to its slash."""
        prefix = _sent_prefix(environ) if self._prefix == AUTO else self._prefix
        path = environ.get("PATH_INFO", "")
        if prefix and path == prefix:  # the page's own links are relative to the slash
            query = environ.get("QUERY_STRING", "")
            return redirect(f"{prefix}/{'?' if query else ''}{query}", 308)(environ, start_response)
        environ["SCRIPT_NAME"] = prefix
        if path.startswith(f"{prefix}/"):
            environ["PATH_INFO"] = path.removeprefix(prefix)
        return self._application(environ, start_response)


def _sent_prefix(environ: dict[str, Any]) -> str:
    """Return the prefix that the proxy states, none if it is not a plain path: `//host` would lead elsewhere."""
    sent = str(environ.get("HTTP_X_FORWARDED_PREFIX", "")).strip().rstrip("/")
    return sent if PREFIX.fullmatch(sent) else ""
