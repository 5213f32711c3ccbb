"""The API described: OpenAPI 3.1, its error table and limits taken from the code that enforces them."""

from collections.abc import Sequence
from typing import Any, Final

from config import SCALINGS, VERSION, Config
from web.messages import ERRORS
from web.uploads import RAW_TYPES

Schema = dict[str, Any]

PERCENT: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 100, "description": "At most two decimals"}
SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
TEXT: Final[Schema] = {"type": "string"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
REFUSED_BY_ALL: Final = ("not_ready", "draining", "internal_error")
NOT_OF_PREDICT: Final = ("not_found", "method_not_allowed")


def describe(config: Config, root: str = "") -> Schema:
    """Return the document, as JSON types; `root` is the path under which the routes are reached."""
    security: list[Schema] = [{"apiKey": []}] if config.api_keys else []
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bone Fracture Classifier API",
            "version": VERSION,
            "summary": "Does a radiograph show a fisura, a fractura, or neither?",
            "description": "Research and triage aid; not a medical device, no substitute for a radiologist's reading.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": root or "/"}],
        "paths": {
            "/predict": {"post": _predict() | {"security": security}},
            "/predict/batch": {"post": _batch(config.max_batch) | {"security": security}},
            "/model": {"get": _get("getModel", "What is loaded", "Model", [_LANGUAGE])},
            "/ready": {"get": _get("getReady", "Whether the model is verified and requests are taken", "Status")},
            "/health": {"get": _health()},
            "/metrics": {"get": _text("getMetrics", "Prometheus series")},
            "/openapi.json": {"get": _get("getOpenapi", "This document", "Document")},
        },
        "components": {
            "schemas": _schemas(sorted(ERRORS)),
            "securitySchemes": {"apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
            "headers": {"X-Request-ID": {"schema": TEXT, "description": "The request's id, the caller's own if sent"}},
        },
    }


def _responses(*codes: str) -> Schema:
    """Return the responses of these error codes and of those that any route may give, by status."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*codes, *REFUSED_BY_ALL)):
        by_status.setdefault(ERRORS[code].status, []).append(code)
    return {str(status): _response(of_status) for status, of_status in sorted(by_status.items())}


def _response(codes: list[str]) -> Schema:
    content = {"application/problem+json": {"schema": _reference("Problem")}}
    return {"description": "\n\n".join(f"`{code}`: {ERRORS[code].en}" for code in codes), "content": content}


_LANGUAGE: Final[Schema] = {
    "name": "lang", "in": "query", "schema": TEXT, "example": "en",
    "description": "Language of messages: es or en; anything else is ignored",
}  # fmt: skip


def _flag(name: str, description: str) -> Schema:
    return {"name": name, "in": "query", "schema": TEXT, "example": "1", "description": description}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _ok(description: str, schema: Schema, media: str = "application/json") -> Schema:
    headers = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    return {"200": {"description": description, "headers": headers, "content": {media: {"schema": schema}}}}


def _get(identifier: str, summary: str, schema: str, parameters: Sequence[Schema] = ()) -> Schema:
    responses = _ok(summary, _reference(schema)) | _responses()
    return {"operationId": identifier, "summary": summary, "parameters": list(parameters), "responses": responses}


def _health() -> Schema:
    responses = _ok("The process lives", _reference("Status"))
    return {"operationId": "getHealth", "summary": "Whether the process lives", "responses": responses}


def _text(identifier: str, summary: str) -> Schema:
    responses = _ok(summary, TEXT, "text/plain") | _responses()
    return {"operationId": identifier, "summary": summary, "responses": responses}


def _predict() -> Schema:
    form = {
        "type": "object", "required": ["image"],
        "properties": {"image": {"type": "string", "contentMediaType": "application/octet-stream"}},
    }  # fmt: skip
    content: Schema = {"multipart/form-data": {"schema": form}}
    content |= {media: {"schema": {}} for media in sorted(RAW_TYPES)}
    codes = (code for code in ERRORS if code not in NOT_OF_PREDICT)
    verdict = {"oneOf": [_reference("Success"), _reference("Failure")]}
    return {
        "operationId": "predict",
        "summary": "Classify one radiograph",
        "parameters": [
            _LANGUAGE,
            _flag("detail", "1: how the answer came about"),
            _flag("explain", "1: where the network looked"),
        ],
        "requestBody": {"required": True, "content": content},
        "responses": _ok("The verdict, sure or not", verdict) | _responses(*codes),
    }


def _batch(max_batch: int) -> Schema:
    image = {"type": "string", "contentMediaType": "application/octet-stream"}
    form = {
        "type": "object", "required": ["image"],
        "properties": {"image": {"type": "array", "items": image, "minItems": 1, "maxItems": max_batch}},
    }  # fmt: skip
    codes = ("missing_image", "malformed_request", "unauthorized", "request_too_large", "overloaded")
    return {
        "operationId": "predictBatch",
        "summary": f"Classify up to {max_batch} radiographs; a bad image does not affect the others",
        "parameters": [_LANGUAGE, _flag("detail", "1: how each answer came about")],
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
        "responses": _ok("Answers or errors, in the order of the images", _reference("Batch")) | _responses(*codes),
    }


def _object(required: Schema, optional: Schema | None = None, *, closed: bool = True) -> Schema:
    properties = required | (optional or {})
    return {
        "type": "object", "required": list(required), "properties": properties, "additionalProperties": not closed,
    }  # fmt: skip


def _schemas(codes: list[str]) -> Schema:
    extras = {"explanation": _reference("Explanation"), "detail": _reference("Detail")}
    shares = {"type": "array", "minItems": 2, "items": _reference("ClassProbability")}
    numbers = {"confidence": PERCENT, "allProbabilities": shares}
    problem = {
        "success": {"const": 0}, "message": TEXT, "type": {"const": "about:blank"}, "title": TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599}, "code": {"enum": codes}, "requestId": TEXT,
    }  # fmt: skip
    results = {"anyOf": [_reference("Success"), _reference("Failure"), _reference("Problem")]}
    return {
        "ClassProbability": _object({"class": TEXT, "probability": PERCENT}),
        "Success": _object({"success": {"const": 1}, "predictedClass": TEXT} | numbers, extras),
        "Failure": _object({"success": {"const": 0}, "message": TEXT} | numbers, extras),
        "Batch": _object({"results": {"type": "array", "items": results}}),
        "Problem": _object(problem),
        "Status": _object({"status": {"enum": ["alive", "ready"]}}),
        "Document": {"type": "object"},
        "Explanation": _explanation(),
        "Detail": _detail(),
        "Model": _model(),
    }


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _explanation() -> Schema:
    picture = {"type": "string", "pattern": "^data:image/png;base64,"}
    sides = {"x": SHARE, "y": SHARE, "width": SHARE, "height": SHARE}
    return _object(
        {
            "image": picture,
            "map": picture,
            "peak": _nullable(_object({"x": SHARE, "y": SHARE})),
            "box": _nullable(_object(sides)),
            "boxes": {"type": "array", "maxItems": 5, "items": _object(sides | {"strength": SHARE})},
            "method": {"enum": ["evidence", "occlusion", "none"]},
            "caveat": TEXT,
        }
    )


def _detail() -> Schema:
    decoder = {
        "format": TEXT, "bits": _nullable(COUNT), "inverted": {"type": "boolean"},
        "rotated": {"enum": [0, 90, 180, 270]}, "mirrored": {"type": "boolean"}, "frames": COUNT,
        "originalSize": _object({"height": COUNT, "width": COUNT}),
    }  # fmt: skip
    milliseconds = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
    return _object(
        {
            "reason": {"enum": ["blank", "none", "low_confidence", None]},
            "noneProbability": _nullable(PERCENT),
            "fractured": _nullable(PERCENT),
            "certainty": {"enum": ["sure", "doubtful", "unfamiliar"]},
            "threshold": {"type": "number", "minimum": 0},
            "decoder": _object(decoder),
            "model": _object({"sha256": TEXT, "version": _nullable(TEXT)}),
            "milliseconds": milliseconds,
        },
        {"possible": {"type": "array", "items": TEXT, "uniqueItems": True}},
    )


def _model() -> Schema:
    source = {"enum": ["environment", "file", "labels", "network", "default"]}
    required = {
        "classNames": {"type": "array", "items": TEXT, "minItems": 2},
        "noneOutput": {"type": "boolean"},
        "evidenceOutput": {"type": "boolean"},
        "inputSize": _object({"height": COUNT, "width": COUNT, "channels": {"enum": [1, 3]}}),
        "threshold": SHARE,
        "prevalence": _nullable({"type": "object", "additionalProperties": SHARE}),
        "scaling": {"enum": list(SCALINGS)},
        "resize": {"enum": ["letterbox", "stretch"]},
        "sources": {"type": "object", "additionalProperties": source},
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "engine": TEXT,
        "serviceVersion": TEXT,
        "intendedUse": TEXT,
    }
    return _object(required, closed=False)
