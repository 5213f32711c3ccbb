"""What happens around every request: its id, its admission, its headers, its metrics and its log line."""

import hmac
import logging
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from flask import Flask, Response, g, request
from flask_cors import CORS

from config import LOGGER, Config
from web.admission import Admissions
from web.errors import ApiError
from web.limits import SHED_HEADER
from web.messages import ERRORS
from web.metrics import Metrics
from web.prefix import Prefixed
from web.problems import problem
from web.state import EXTENSION, Service, State, state
from web.uploads import MAX_FORM_MEMORY_BYTES, MAX_FORM_PARTS, StrictRequest

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
PROBES: Final = ("/health", "/ready", "/metrics")
MONITORING: Final = "monitoring"  # the blueprint whose routes check themselves whether the model is ready

logger = logging.getLogger(LOGGER)


def install(app: Flask, config: Config, service: Service) -> None:
    """Give an application its state, its limits, its hooks and its error handler."""
    admissions = Admissions(config.slots, config.max_queue, config.deadline_seconds)
    metrics = Metrics(in_flight=lambda: admissions.predictions.working, queue_depth=lambda: admissions.waiting)
    app.extensions[EXTENSION] = State(config, service, admissions, metrics)
    app.request_class = StrictRequest
    app.config.update(
        MAX_CONTENT_LENGTH=config.max_body_bytes,
        MAX_FORM_MEMORY_SIZE=MAX_FORM_MEMORY_BYTES,
        MAX_FORM_PARTS=MAX_FORM_PARTS,
    )
    provider = cast("Any", app.json)
    provider.sort_keys = provider.ensure_ascii = False
    _allow_origins(app, config.cors_origins)
    if config.url_prefix:
        cast("Any", app).wsgi_app = Prefixed(app.wsgi_app, config.url_prefix)
    app.before_request(begin_request)
    app.after_request(end_request)
    app.register_error_handler(Exception, problem)


def start_series(app: Flask) -> None:
    """Show every route's series from the start: its answers, its faults, and on the API's routes every error."""
    metrics = app.extensions[EXTENSION].metrics
    for rule in app.url_map.iter_rules():
        is_api = rule.endpoint.startswith("api.")
        codes = ERRORS if is_api else ("internal_error",)
        metrics.start_route(rule.rule, [(200, ""), *((ERRORS[code].status, code) for code in codes)])


def _allow_origins(app: Flask, origins: tuple[str, ...]) -> None:
    CORS(
        app,
        origins=list(origins),
        methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID", "X-Requested-With"],
        expose_headers=["Retry-After", "X-Request-ID", "Server-Timing"],
        send_wildcard=True,
        max_age=600,
    )


def begin_request() -> None:
    """Give the request its id and refuse it while the service is not ready or drains."""
    g.started = time.perf_counter()
    sent_id = request.headers.get("X-Request-ID", "")
    g.request_id = sent_id if REQUEST_ID.fullmatch(sent_id) else uuid.uuid4().hex
    g.outcome = g.key = None
    g.code = ""
    g.stages = {}
    if request.method != "OPTIONS" and request.blueprint != MONITORING:
        state().service.require()


def admit_client() -> None:
    """Refuse a request without a valid key, or whose body the server had to drop. For routes that run the network."""
    if request.method == "OPTIONS":
        return
    _check_key()
    if "HTTP_" + SHED_HEADER in request.environ:
        raise ApiError("overloaded", seconds=state().admissions.predictions.retry_after_seconds())


def _check_key() -> None:
    """Compare the client's key with every configured one, in constant time, and note which it is."""
    keys = state().config.api_keys
    if not keys:
        return
    sent = request.headers.get("X-API-Key", "").encode()
    matches = [hmac.compare_digest(sent, key.encode()) for key in keys]
    if True not in matches:
        raise ApiError("unauthorized")
    g.key = matches.index(True) + 1


@contextmanager
def admitted(*, always_wait: bool) -> Iterator[None]:
    """Hold a slot for decoding and the network; the wait for it is a stage like the others. Raise ApiError."""
    asked = time.perf_counter()
    with state().admissions.predictions.slot(always_wait=always_wait):
        g.stages["queue"] = time.perf_counter() - asked
        yield


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Record how long a stage of the request takes, unless it fails."""
    started = time.perf_counter()
    yield
    g.stages[stage] = time.perf_counter() - started


def milliseconds() -> dict[str, float]:
    """Return how long each stage took so far, and the request as a whole."""
    stages = g.stages | {"total": time.perf_counter() - g.started}
    return {stage: round(1000 * seconds, 1) for stage, seconds in stages.items()}


def end_request(response: Response) -> Response:
    """Set the headers of every response, count it and write the request's log line."""
    response.headers["X-Request-ID"] = g.request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    if g.stages:
        response.headers["Server-Timing"] = ", ".join(f"{stage};dur={ms}" for stage, ms in milliseconds().items())
    seconds = time.perf_counter() - g.started
    route = request.url_rule.rule if request.url_rule else None  # never the path as sent: it may contain a name
    state().metrics.count_request(route or "none", response.status_code, g.code, seconds)
    state().metrics.observe_stages(g.stages)
    _log_request(route, response.status_code, seconds)
    return response


def _log_request(route: str | None, status: int, seconds: float) -> None:
    """Write the request's line, that of a probe at debug level; of a key its number, never its text."""
    fields = {
        "requestId": g.request_id,
        "method": request.method,
        "route": route,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "bytes": request.content_length or 0,
        "outcome": g.outcome,
    }
    key = {} if g.key is None else {"key": g.key}
    logger.log(logging.DEBUG if route in PROBES else logging.INFO, "request", extra=fields | key)
