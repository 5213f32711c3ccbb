"""HTTP face of the service: the routes, errors as JSON, one log line a request. `python app.py` serves."""

import dataclasses
import hmac
import logging
import os
import re
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from flask import Flask, Response, current_app, g, jsonify, request
from flask_cors import CORS
from PIL.Image import Image
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge
from werkzeug.http import HTTP_STATUS_CODES

import explanation
from config import LOGGER, VERSION, Config, ConfigError, read_config, unknown_variables
from model_loader import VARIABLES, Classifier, Images, ModelError, Outputs, inspect, load
from prediction import Verdict, answer, judge, nothing_known
from preprocessing import ACCEPTED_FORMATS, DecoderFacts, ImageError, content_of, decode, is_blank, prepare
from web import openapi, pages
from web.admission import Admission, AdmissionError, Admissions
from web.logs import configure_logs
from web.messages import ERRORS, INTENDED_USE, Language, caveat, error_message, none_of_them
from web.metrics import CONTENT_TYPE, Metrics
from web.server import SHED_HEADER, BodyLimits, Server, ServerError, bind, keep_memory_flat
from web.uploads import RAW_TYPES, StrictRequest, UploadError, checked, one_image, several_images

MAX_FORM_PARTS: Final = 8
MAX_FORM_MEMORY_BYTES: Final = 200_000  # of text fields; Werkzeug counts the piece that it reads too
ALWAYS_ANSWERED: Final = ("health",)
RUNS_THE_NETWORK: Final = ("predict", "predict_batch")
SHED: Final = "HTTP_" + SHED_HEADER
SPARE_THREADS: Final = 16  # besides those that work or wait: for probes, and to refuse
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

_ORIGINS: Final = {
    "environment": "as the environment says",
    "file": "as the file says",
    "network": "as the network is built",
    "default": "by default",
}

logger = logging.getLogger(LOGGER)


class RequestError(Exception):
    """A request that cannot be answered: a code of the API's error table and the facts its sentence states."""

    def __init__(self, code: str, **facts: object) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts


@dataclass
class Service:
    """What changes while the process lives: the classifier arrives when it is ready, draining begins at the end."""

    classifier: Classifier | None = None
    draining: bool = False

    def drain(self) -> None:
        """Refuse what comes from now on."""
        self.draining = True


def create_app(config: Config, service: Service) -> Flask:
    """Build the application around its settings and a service whose classifier may arrive later."""
    app = Flask(__name__)
    app.request_class = StrictRequest
    admissions = Admissions(config.slots, config.max_queue, config.deadline_seconds)
    app.config.update(
        BONE=config,
        SERVICE=service,
        ADMISSIONS=admissions,
        METRICS=Metrics(in_flight=lambda: admissions.predictions.working, queue_depth=lambda: admissions.waiting),
        MAX_CONTENT_LENGTH=config.max_body_bytes,
        MAX_FORM_MEMORY_SIZE=MAX_FORM_MEMORY_BYTES,
        MAX_FORM_PARTS=MAX_FORM_PARTS,
    )
    provider = cast("Any", app.json)
    provider.sort_keys = False
    provider.ensure_ascii = False
    _allow_origins(app, config.cors_origins)
    app.before_request(begin_request)
    app.after_request(end_request)
    app.get("/")(page)
    app.get("/docs")(docs)
    app.get("/openapi.json")(openapi_document)
    app.get("/health")(health)
    app.get("/ready")(ready)
    app.get("/model")(model)
    app.get("/metrics")(prometheus)
    app.post("/predict")(predict)
    app.post("/predict/batch")(predict_batch)
    app.register_error_handler(Exception, problem)
    return app


def _allow_origins(app: Flask, origins: tuple[str, ...]) -> None:
    CORS(
        app,
        origins=list(origins),
        methods=["GET", "POST"],
        allow_headers=["Content-Type", "X-API-Key", "X-Request-ID"],
        expose_headers=["Retry-After", "X-Request-ID", "Server-Timing"],
        send_wildcard=True,
        max_age=600,
    )


def begin_request() -> None:
    """Give the request its id and refuse it while the service is not ready or drains; /health always answers."""
    g.started = time.perf_counter()
    sent_id = request.headers.get("X-Request-ID", "")
    g.request_id = sent_id if REQUEST_ID.fullmatch(sent_id) else uuid.uuid4().hex
    g.outcome = None
    g.code = ""
    g.stages = {}
    if request.method == "OPTIONS" or request.endpoint in ALWAYS_ANSWERED:
        return
    if _service().draining:
        raise RequestError("draining")
    if _service().classifier is None:
        raise RequestError("not_ready")
    if request.endpoint == "predict_batch":
        request.max_content_length = _config().max_batch_bytes
        request.max_form_parts = _config().max_batch + MAX_FORM_PARTS
    if request.endpoint in RUNS_THE_NETWORK:
        _check_key()
        if SHED in request.environ:
            raise AdmissionError("overloaded", _admission().retry_after_seconds())


def _check_key() -> None:
    """Compare the caller's key with every configured one, in constant time."""
    keys = _config().api_keys
    sent = request.headers.get("X-API-Key", "").encode()
    if keys and not any([hmac.compare_digest(sent, key.encode()) for key in keys]):  # noqa: C419 all, in constant time
        raise RequestError("unauthorized")


def end_request(response: Response) -> Response:
    """Set the headers that every answer carries and write the request's log line."""
    response.headers["X-Request-ID"] = g.request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    if g.stages:
        response.headers["Server-Timing"] = ", ".join(f"{stage};dur={ms}" for stage, ms in _stages().items())
    seconds = time.perf_counter() - g.started
    route = request.url_rule.rule if request.url_rule else None  # never the path as sent: it may hold a name
    _metrics().count_request(route or "none", response.status_code, g.code, seconds)
    _metrics().observe_stages(g.stages)
    logger.info(
        "request",
        extra={
            "requestId": g.request_id,
            "method": request.method,
            "route": route,
            "status": response.status_code,
            "ms": round(seconds * 1000, 1),
            "bytes": request.content_length or 0,
            "outcome": g.outcome,
        },
    )
    return response


def page() -> Response:
    """Show the web page, which calls /predict as any client does; `?lang=` says in which language it comes."""
    return pages.main_page(_language(), ACCEPTED_FORMATS, _config().max_upload_bytes)


def docs() -> Response:
    """Show a page to read about the API and to try it."""
    return pages.docs_page()


def openapi_document() -> Response:
    """Give the description of this API."""
    config = _config()
    keys_wanted = config.api_keys is not None
    return jsonify(openapi.describe(VERSION, ERRORS, sorted(RAW_TYPES), config.max_batch, keys_wanted=keys_wanted))


def health() -> Response:
    """Answer 200 while the process lives."""
    return jsonify(status="alive")


def ready() -> Response:
    """Answer 200 once the model reproduces its golden outputs, 503 before that and while draining."""
    return jsonify(status="ready")


def model() -> Response:
    """Say what is loaded, each setting with where it came from, and what it is for."""
    return jsonify(_classifier().describe() | {"serviceVersion": VERSION, "intendedUse": INTENDED_USE[_language()]})


def prometheus() -> Response:
    """Give the series that Prometheus scrapes."""
    classifier = _classifier()
    facts = {"sha256": classifier.sha256, "version": classifier.stated.get("version"), "engine": classifier.engine}
    _metrics().name_model({name: str(fact) for name, fact in facts.items()} | {"service_version": VERSION})
    return Response(_metrics().text(), content_type=CONTENT_TYPE)


def predict() -> Response:
    """Classify the radiograph in the form field `image`; `?detail=1` and `?explain=1` add how and where."""

    def upload() -> bytes:
        return one_image(request, _config().max_upload_bytes)

    if not _asks_for("explain"):
        return jsonify(_predict(upload, explain=False))
    with _admissions().explanations.slot():
        return jsonify(_predict(upload, explain=True, always_wait=True))


def predict_batch() -> Response:
    """Classify several radiographs in repeated form fields `image`: answers or errors, in their order."""
    with _admissions().batches.slot():  # the images of a batch lie in memory from its first to its last answer
        results = [_answer_or_problem(data) for data in several_images(request, _config().max_batch)]
    g.outcome = f"{sum('code' not in result for result in results)} of {len(results)} answered"
    return jsonify(results=results)


def _answer_or_problem(data: bytes) -> dict[str, Any]:
    """Return what /predict would answer for one image of several; an error stays its own."""
    try:
        return _predict(lambda: checked(data, _config().max_upload_bytes), explain=False, always_wait=True)
    except Exception as error:  # noqa: BLE001 whatever it is, it must not harm the other images
        return _problem_of(error)


def _predict(upload: Callable[[], bytes], *, explain: bool, always_wait: bool = False) -> dict[str, Any]:
    """Decode, prepare, predict, answer; the upload is read once there is a slot."""
    classifier = _classifier()
    with _admitted(always_wait=always_wait):
        with _timed("decode"):
            image, facts = decode(upload(), _config().max_pixels)
            blank = is_blank(image)
        inputs, outputs = (None, None) if blank else _run(classifier, image)
    verdict = _judge(classifier, outputs)
    g.outcome = verdict.predicted_class or "none"
    _metrics().count_verdict(g.outcome, verdict.confidence / 10_000, _brightness(classifier, inputs))
    body = answer(verdict, none_of_them(classifier.class_names, _language()))
    if explain:
        with _timed("explain"):
            body["explanation"] = _explain(classifier, image, inputs, outputs, verdict)
    if _asks_for("detail"):
        body["detail"] = _detail(classifier, verdict, facts)
    return body


def classify(classifier: Classifier, image: Image) -> Verdict:
    """Judge a decoded image; the network is not asked about a blank one. Raise OutputError."""
    return _judge(classifier, None if is_blank(image) else classifier.predict(_inputs(classifier, image)))


def _inputs(classifier: Classifier, image: Image) -> Images:
    return prepare(image, classifier.input_size, classifier.channels, classifier.scaling, classifier.resize)


def _run(classifier: Classifier, image: Image) -> tuple[Images, Outputs]:
    with _timed("prepare"):
        inputs = _inputs(classifier, image)
    with _timed("network"):
        return inputs, classifier.predict(inputs)


def _judge(classifier: Classifier, outputs: Outputs | None) -> Verdict:
    if outputs is None:
        return nothing_known(classifier.class_names, has_none=classifier.has_none_output)
    return judge(outputs.probabilities[0], classifier.class_names, classifier.threshold)


def _brightness(classifier: Classifier, inputs: Images | None) -> float | None:
    """Return the mean of what the network saw, 0 to 1."""
    return None if inputs is None else float(inputs.mean()) / (1 if classifier.scaling == "unit" else 255)


def _explain(
    classifier: Classifier, image: Image, inputs: Images | None, outputs: Outputs | None, verdict: Verdict
) -> dict[str, Any]:
    """Return where the network found what speaks for the likeliest known class; nowhere in a blank image."""
    relevance = explanation.NOTHING
    if inputs is not None and outputs is not None:
        content = content_of((image.height, image.width), classifier.input_size, classifier.resize)
        question = explanation.Question(inputs, outputs, content, verdict.best, classifier.evidence_scale)
        relevance = explanation.find_relevance(classifier.predict, question, _admission().give_way)
    drawn = explanation.draw(relevance, image, classifier.channels)
    name = verdict.class_names[verdict.best]
    return explanation.answer(drawn, caveat(name, _language(), asked=outputs is not None))


def _detail(classifier: Classifier, verdict: Verdict, facts: DecoderFacts) -> dict[str, Any]:
    """Return how the answer came about; numbers in percent, as in the rest of it."""
    height, width = facts.original_size
    return {
        "reason": verdict.reason,
        "noneProbability": None if verdict.none is None else verdict.none / 100,
        "threshold": round(100 * classifier.threshold, 4),
        "decoder": {
            "format": facts.format,
            "bits": facts.bits,
            "inverted": facts.inverted,
            "rotated": facts.rotated,
            "mirrored": facts.mirrored,
            "frames": facts.frames,
            "originalSize": {"height": height, "width": width},
        },
        "model": {"sha256": classifier.sha256, "version": classifier.stated.get("version")},
        "milliseconds": _stages(),
    }


@contextmanager
def _admitted(*, always_wait: bool) -> Iterator[None]:
    """Hold a slot for decoding and the network; the wait for it is a stage like the others."""
    asked = time.perf_counter()
    with _admission().slot(always_wait=always_wait):
        g.stages["queue"] = time.perf_counter() - asked
        yield


@contextmanager
def _timed(stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    g.stages[stage] = time.perf_counter() - started


def _stages() -> dict[str, float]:
    """Return what each stage took so far, and all of them with what lay between, in ms."""
    stages = g.stages | {"total": time.perf_counter() - g.started}
    return {stage: round(1000 * seconds, 1) for stage, seconds in stages.items()}


def _asks_for(extra: str) -> bool:
    return request.args.get(extra) == "1"


def problem(error: Exception) -> Response:
    """Turn an error into application/problem+json (RFC 9457)."""
    body = _problem_of(error)
    g.outcome = g.code = body["code"]
    response = jsonify(body)
    response.status_code = body["status"]
    response.content_type = "application/problem+json"
    response.headers.update(_headers(error))
    return response


def _problem_of(error: Exception) -> dict[str, Any]:
    """Return the JSON object of an error; one that nobody foresaw is logged in full."""
    code, facts = _code_and_facts(error)
    if code == "internal_error":
        logger.error("internal_error", exc_info=error, extra={"requestId": g.request_id})
    status, message = error_message(code, _language(), facts)
    return {
        "success": 0,
        "message": message,
        "type": "about:blank",
        "title": HTTP_STATUS_CODES[status],
        "status": status,
        "code": code,
        "requestId": g.request_id,
    }


def _headers(error: Exception) -> dict[str, str]:
    match error:
        case MethodNotAllowed():
            return {"Allow": ", ".join(sorted(error.valid_methods or ()))}
        case AdmissionError(code="overloaded"):
            return {"Retry-After": str(error.retry_after_seconds)}
        case RequestError(code="unauthorized"):
            return {"WWW-Authenticate": 'ApiKey realm="bone-fracture-classifier"'}
        case _:
            return {}


def _code_and_facts(error: Exception) -> tuple[str, dict[str, Any]]:
    match error:
        case RequestError() | UploadError() | ImageError() | AdmissionError():
            return error.code, error.facts
        case MethodNotAllowed():
            return "method_not_allowed", {"allowed": ", ".join(sorted(error.valid_methods or ()))}
        case RequestEntityTooLarge():
            return _too_large()
        case HTTPException(code=404):
            return "not_found", {}
        case HTTPException(code=int(code)) if 400 <= code < 500:
            return "malformed_request", {}
        case _:
            return "internal_error", {}


def _too_large() -> tuple[str, dict[str, Any]]:
    """Tell a body that can only hold too large an image from a form of too many parts or fields."""
    if request.endpoint != "predict_batch" and (request.content_length or 0) > _config().max_body_bytes:
        return "image_too_large", {"limit_mb": _config().max_upload_bytes / 1e6}
    return "request_too_large", {}


def _config() -> Config:
    return cast("Config", current_app.config["BONE"])


def _admissions() -> Admissions:
    return cast("Admissions", current_app.config["ADMISSIONS"])


def _admission() -> Admission:
    return _admissions().predictions


def _metrics() -> Metrics:
    return cast("Metrics", current_app.config["METRICS"])


def _service() -> Service:
    return cast("Service", current_app.config["SERVICE"])


def _classifier() -> Classifier:
    classifier = _service().classifier
    if classifier is None:
        raise RequestError("not_ready")
    return classifier


def _language() -> Language:
    """Return the language of `?lang=`, or the configured one where it is absent or neither es nor en."""
    asked = request.args.get("lang")
    return cast("Language", asked) if asked in ("es", "en") else _config().language


def main(arguments: list[str]) -> int:
    """Serve, or check a model file; return the exit code. What stops the start is said in one sentence on stderr."""
    try:
        config = read_config(os.environ)
        match arguments:
            case []:
                return serve(config)
            case ["check", path]:
                return check(dataclasses.replace(config, model_path=Path(path)))
            case _:
                print("Usage: python app.py, to serve, or python app.py check FILE.", file=sys.stderr)
                return 2
    except (ConfigError, ServerError, ModelError) as error:
        print(error, file=sys.stderr)
        return 1


def serve(config: Config) -> int:
    """Bind the port, answer at once, load the model meanwhile, until asked to stop. Raise ServerError."""
    keep_memory_flat()
    configure_logs(sys.stdout)
    warnings.filterwarnings("ignore", module=r"PIL\b")  # what it warns of in a file, decode mends or refuses
    for name, resembled in unknown_variables(os.environ).items():
        logger.warning("%s is no setting%s.", name, f"; did you mean {resembled}?" if resembled else "")
    listener = bind(config.host, config.port)
    service = Service()
    app = create_app(config, service)
    server = Server(
        app,
        listener,
        threads=app.config["ADMISSIONS"].max_held_threads + SPARE_THREADS,
        body_limits=BodyLimits(config.max_body_bytes, {"/predict/batch": config.max_batch_bytes}),
        drain_seconds=config.drain_seconds,
        on_drain=service.drain,
    )
    threading.Thread(target=_load_into, args=(service, config, server), daemon=True).start()
    logger.info("listening on http://%s:%d", config.host, config.port)
    exit_code = server.run()
    logger.info("stopped")
    return exit_code


def check(config: Config) -> int:
    """Say in plain words what the model file is and how it would be served. Raise ModelError."""
    file = inspect(config)
    print(f"{config.model_path}: written by Keras {file.keras_version}, {len(file.layers)} kinds of layer:")
    print(f"  {', '.join(sorted(file.layers))}")
    classifier = load(config)
    height, width = classifier.input_size
    print(f"It fits: {height} × {width} pixels, {classifier.channels} channel(s), {classifier.outputs} outputs.")
    for name, setting in classifier.settings.items():
        print(f"  {VARIABLES[name]} {setting.value!r}, {_ORIGINS[setting.source]}")
    print(f"  none of them: {'the last output' if classifier.has_none_output else 'no output of its own'}")
    print(f"  golden outputs: {'reproduced' if classifier.has_golden else 'none in the file'}")
    return 0


def _load_into(service: Service, config: Config, server: Server) -> None:
    """Load the classifier while the server already answers; end the server where that fails."""
    started = time.perf_counter()
    try:
        service.classifier = load(config)
    except ModelError as error:
        print(error, file=sys.stderr)
        server.stop(1)
    except Exception:
        logger.exception("The model could not be loaded.")
        print(f"{config.model_path} cannot be used: loading it failed; the log says how.", file=sys.stderr)
        server.stop(1)
    else:
        logger.info("ready after %.1f s: %s", time.perf_counter() - started, service.classifier.sha256)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # threads of TensorFlow may still be at work, and nothing of theirs is worth waiting for
