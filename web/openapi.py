"""The API described: OpenAPI 3.1, its errors and limits taken from the code that enforces them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from config import VERSION, Config
from web.messages import ERRORS, INTENDED_USE, error_message
from web.problems import problem_body
from web.schemas import REQUEST_ID, TEXT, Schema, reference, schemas
from web.uploads import MAX_FORM_MEMORY_BYTES, MAX_FORM_PARTS, RAW_TYPES

WHEN: Final[Mapping[str, str]] = {
    "missing_image": "no file in the field `image`",
    "empty_image": "the file has 0 bytes",
    "several_images": "more than one file; use `/predict/batch`",
    "malformed_request": "the multipart body is broken or has no boundary",
    "unauthorized": "keys are configured and the request carries none of them",
    "not_found": "there is no such route",
    "method_not_allowed": "the route exists, the method does not; see the header `Allow`",
    "image_too_large": "the file is over `BONE_MAX_UPLOAD_MB`",
    "request_too_large": "too many parts, fields or images",
    "too_many_pixels": "the image is over `BONE_MAX_PIXELS`",
    "unsupported_image": "the content is not in an accepted format, or has a `Content-Encoding`",
    "unreadable_image": "the image is damaged or incomplete, or too expensive to decode",
    "image_too_small": "a side is under 32 pixels",
    "overloaded": "the queue is full, or another explanation is being computed",
    "internal_error": "a fault of the service; its log has the details under the `requestId`",
    "not_ready": "the model is loading",
    "draining": "the service is stopping",
    "deadline_exceeded": "the request waited too long; nothing was computed",
}
OF_ANY_ROUTE: Final = ("not_found", "method_not_allowed", "internal_error")
UNAVAILABLE: Final = ("not_ready", "draining")
OF_A_BATCH: Final = (
    "missing_image", "malformed_request", "unauthorized", "request_too_large", "unsupported_image", "overloaded",
    "deadline_exceeded",
)  # fmt: skip
ERROR_HEADERS: Final[Mapping[int, str]] = {
    401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After", 504: "Retry-After",
}  # fmt: skip
ACCEPTED: Final = "PNG, JPEG, WebP, TIFF, BMP and DICOM are recognised by their content."
EXAMPLE_ID: Final = "5f0c2a7e9b1d4c38a6e4d2f1b7c90a53"
EXAMPLE_FACTS: Final[Mapping[str, Mapping[str, object]]] = {
    "method_not_allowed": {"allowed": "OPTIONS, POST"},
    "image_too_large": {"limit_mb": 20.0},
    "request_too_large": {"limit": MAX_FORM_PARTS, "limit_kb": MAX_FORM_MEMORY_BYTES / 1000},
    "too_many_pixels": {"limit_megapixels": 50.0},
    "unsupported_image": {"formats": ("PNG", "JPEG", "WebP", "TIFF", "BMP", "DICOM")},
    "image_too_small": {"limit": 32},
    "overloaded": {"seconds": 2},
    "deadline_exceeded": {"seconds": 2},
}
SUCCESS: Final = {
    "success": 1,
    "predictedClass": "fractura",
    "confidence": 77.82,
    "allProbabilities": [{"class": "fisura", "probability": 6.06}, {"class": "fractura", "probability": 93.94}],
}
FAILURE: Final = {
    "success": 0,
    "message": "La imagen no corresponde a ninguna de las clases conocidas (fisura o fractura).",
    "confidence": 3.82,
    "allProbabilities": [{"class": "fisura", "probability": 48.12}, {"class": "fractura", "probability": 51.88}],
}


def describe(config: Config, root: str = "") -> Schema:
    """Return the document, as JSON types; `root` is the path under which the routes are reached."""
    keys = {"apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bone Fracture Classifier API",
            "version": VERSION,
            "summary": "Does a radiograph show a fisura, a fractura, or neither?",
            "description": INTENDED_USE["en"],
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": root or "/"}],
        "tags": [
            {"name": "predictions", "description": "Classify radiographs"},
            {"name": "service", "description": "What is loaded, and how the service is doing"},
        ],
        "security": [],
        "paths": _paths(config),
        "components": {
            "schemas": schemas(),
            "parameters": _parameters(),
            "headers": _headers(),
            **({"securitySchemes": keys} if config.api_keys else {}),
        },
    }


def _paths(config: Config) -> Schema:
    security: Schema = {"security": [{"apiKey": []}] if config.api_keys else []}
    return {
        "/predict": {"post": _predict(config) | security},
        "/predict/batch": {"post": _batch(config) | security},
        "/model": {"get": _model()},
        "/ready": {"get": _ready()},
        "/health": {"get": _health()},
        "/metrics": {"get": _metrics()},
        "/openapi.json": {"get": _document()},
    }


def _predict(config: Config) -> Schema:
    form = {"type": "object", "required": ["image"], "properties": {"image": reference("Image")}}
    examples = {"fracture": {"value": SUCCESS}, "noneOfThem": {"value": FAILURE}}
    return {
        "operationId": "predict",
        "tags": ["predictions"],
        "summary": "Classify one radiograph",
        "description": f"{ACCEPTED} Send it in a form, or as the body itself. It may have up to "
        f"{config.max_upload_bytes / 1e6:g} MB and {config.max_pixels / 1e6:g} megapixels.",
        "parameters": _chosen("lang", "detail", "explain"),
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": form}}
            | {media: {"schema": reference("Image")} for media in sorted(RAW_TYPES)},
        },
        "responses": _answered("The verdict", _json("Success", "Failure", examples=examples), timed=True)
        | _problems(WHEN),
    }


def _batch(config: Config) -> Schema:
    images = {"type": "array", "items": reference("Image"), "minItems": 1, "maxItems": config.max_batch}
    form = {"type": "object", "required": ["image"], "properties": {"image": images}}
    fault = _example("unsupported_image")
    examples = {"threeImages": {"value": {"results": [SUCCESS, FAILURE, fault]}}}
    return {
        "operationId": "predictBatch",
        "tags": ["predictions"],
        "summary": "Classify several radiographs",
        "description": f"{ACCEPTED} Up to {config.max_batch} images, together at most "
        f"{config.max_batch_bytes / 1e6:.0f} MB. One bad image does not affect the others.",
        "parameters": _chosen("lang", "detail"),
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
        "responses": _answered("The verdict or an error for each image, in order", _json("Batch", examples=examples))
        | _problems([*OF_A_BATCH, *OF_ANY_ROUTE, *UNAVAILABLE]),
    }


def _model() -> Schema:
    told = "Return the classes, the input size, the threshold, where each setting comes from, the measured quality."
    return _get("getModel", "What is loaded", told, _json("Model")) | {"parameters": _chosen("lang")}


def _ready() -> Schema:
    told = "Answer 200 once the model reproduces its golden outputs, 503 before that and while the service stops."
    return _get("getReady", "Whether the model is verified", told, _json("Ready"))


def _health() -> Schema:
    told = "Answer 200 as long as the process is alive, also while the model loads."
    return _get("getHealth", "Whether the process is alive", told, _json("Alive"), unavailable=())


def _metrics() -> Schema:
    told = "Return counters, gauges and histograms of requests, stages, verdicts and the model as Prometheus text."
    return _get("getMetrics", "The series that Prometheus scrapes", told, {"text/plain": {"schema": TEXT}})


def _document() -> Schema:
    return _get("getOpenapi", "This document", "Return the OpenAPI description.", _json("Document"))


def _get(
    identifier: str, summary: str, description: str, content: Schema, unavailable: Sequence[str] = UNAVAILABLE
) -> Schema:
    return {
        "operationId": identifier,
        "tags": ["service"],
        "summary": summary,
        "description": description,
        "responses": _answered(summary, content) | _problems([*OF_ANY_ROUTE, *unavailable]),
    }


def _answered(description: str, content: Schema, *, timed: bool = False) -> Schema:
    names = ("X-Request-ID", "Server-Timing") if timed else ("X-Request-ID",)
    headers = {name: reference(name, "headers") for name in names}
    return {"200": {"description": description, "headers": headers, "content": content}}


def _json(*names: str, examples: Schema | None = None) -> Schema:
    """Return the content of an answer that fits one of these schemas."""
    one, *others = [reference(name) for name in names]
    schema = {"oneOf": [one, *others]} if others else one
    return {"application/json": {"schema": schema} | ({"examples": examples} if examples else {})}


def _problems(codes: Iterable[str]) -> Schema:
    """Return the responses of error codes, by status."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(ERRORS[code].status, []).append(code)
    return {str(status): _problem(status, of_status) for status, of_status in sorted(by_status.items())}


def _problem(status: int, codes: Sequence[str]) -> Schema:
    names = ["X-Request-ID", *([ERROR_HEADERS[status]] if status in ERROR_HEADERS else [])]
    content = {"schema": reference("Problem"), "examples": {code: {"value": _example(code)} for code in codes}}
    return {
        "description": "\n\n".join(f"`{code}`: {WHEN[code]}" for code in codes),
        "headers": {name: reference(name, "headers") for name in names},
        "content": {"application/problem+json": content},
    }


def _example(code: str) -> Schema:
    status, message = error_message(code, "en", EXAMPLE_FACTS.get(code, {}))
    return problem_body(code, status, message, EXAMPLE_ID)


def _parameters() -> Schema:
    flag = {"type": "string", "enum": ["0", "1", "false", "true"], "default": "0"}
    return {
        "lang": _query("lang", "The language of messages", {"type": "string", "enum": ["es", "en"]}),
        "detail": _query("detail", "Add how the answer came about", flag),
        "explain": _query("explain", "Add where the network looked; one such request is processed at a time", flag),
    }


def _query(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": f"{description}. Other values are ignored.", "schema": schema}


def _chosen(*names: str) -> list[Schema]:
    return [reference(name, "parameters") for name in names]


def _headers() -> Schema:
    def header(description: str, schema: Schema, example: object) -> Schema:
        return {"description": description, "required": True, "schema": schema, "example": example}

    return {
        "X-Request-ID": header("The request's id: the caller's own, if it sent a valid one", REQUEST_ID, EXAMPLE_ID),
        "Server-Timing": header("The duration of each stage in milliseconds", TEXT, "queue;dur=0.1, total;dur=27.3"),
        "Retry-After": header("After how many seconds to retry", {"type": "integer", "minimum": 1}, 2),
        "WWW-Authenticate": header("How to authenticate", TEXT, 'ApiKey realm="bone-fracture-classifier"'),
        "Allow": header("The methods of the route", TEXT, "OPTIONS, POST"),
    }
