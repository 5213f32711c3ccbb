"""The JSON that this API sends, as JSON schemas: the components of the OpenAPI document."""

from collections.abc import Sequence
from typing import Any, Final

from config import SCALINGS
from web.messages import ERRORS
from web.problems import TITLES

Schema = dict[str, Any]

PERCENT: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 100, "description": "At most two decimals"}
SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
TEXT: Final[Schema] = {"type": "string", "minLength": 1}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
FLAG: Final[Schema] = {"type": "boolean"}
SHA256: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
REQUEST_ID: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}
# Without a type, as OpenAPI 3.1 describes bytes, so that generated clients take a file and not a string.
IMAGE: Final[Schema] = {"contentMediaType": "application/octet-stream", "minLength": 1, "description": "An image file"}
IMAGE_FAULTS: Final = (
    "empty_image", "image_too_large", "too_many_pixels", "unsupported_image", "unreadable_image", "image_too_small",
    "internal_error",
)  # fmt: skip


def reference(name: str, kind: str = "schemas") -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def schemas() -> Schema:
    """Return the schemas by name."""
    extras = {"explanation": reference("Explanation"), "detail": reference("Detail")}
    shares = {"type": "array", "minItems": 2, "items": reference("ClassProbability")}
    numbers = {"confidence": PERCENT, "allProbabilities": shares}
    result = {"anyOf": [reference(name) for name in ("Success", "Failure", "ImageProblem")]}
    return {
        "Image": IMAGE,
        "ClassProbability": _object({"class": TEXT, "probability": PERCENT}),
        "Success": _object({"success": _constant(1), "predictedClass": TEXT} | numbers, extras),
        "Failure": _object({"success": _constant(0), "message": TEXT} | numbers, extras),
        "Batch": _object({"results": {"type": "array", "minItems": 1, "items": result}}),
        "Problem": _problem(sorted(ERRORS)),
        "ImageProblem": _problem(IMAGE_FAULTS),
        "Alive": _object({"status": {"type": "string", "const": "alive"}}),
        "Ready": _object({"status": {"type": "string", "const": "ready"}}),
        "Document": _object({"openapi": {"type": "string", "pattern": "^3[.]1[.]"}}, closed=False),
        "Explanation": _explanation(),
        "Detail": _detail(),
        "Model": _model(),
    }


def _object(required: Schema, optional: Schema | None = None, *, closed: bool = True) -> Schema:
    properties = required | (optional or {})
    return {
        "type": "object", "required": list(required), "properties": properties, "additionalProperties": not closed,
    }  # fmt: skip


def _constant(value: int) -> Schema:
    return {"type": "integer", "const": value}


def _names(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _problem(codes: Sequence[str]) -> Schema:
    """Return the schema of an error (RFC 9457) with one of these codes."""
    statuses = sorted({ERRORS[code].status for code in codes})
    return _object(
        {
            "success": _constant(0),
            "message": TEXT,
            "type": {"type": "string", "const": "about:blank"},
            "title": _names(*(TITLES[status] for status in statuses)),
            "status": {"type": "integer", "enum": statuses},
            "code": _names(*codes),
            "requestId": REQUEST_ID,
        }
    )


def _explanation() -> Schema:
    picture = {"type": "string", "pattern": "^data:image/(jpeg|png|webp);base64,"}
    sides = {"x": SHARE, "y": SHARE, "width": SHARE, "height": SHARE}
    return _object(
        {
            "image": picture,
            "map": picture,
            "peak": _nullable(_object({"x": SHARE, "y": SHARE})),
            "box": _nullable(_object(sides)),
            "boxes": {"type": "array", "maxItems": 5, "items": _object(sides | {"strength": SHARE})},
            "method": _names("evidence", "occlusion", "none"),
            "caveat": TEXT,
        }
    )


def _detail() -> Schema:
    decoder = {
        "format": TEXT, "bits": _nullable(COUNT), "inverted": FLAG,
        "rotated": {"type": "integer", "enum": [0, 90, 180, 270]}, "mirrored": FLAG, "frames": COUNT,
        "originalSize": _object({"height": COUNT, "width": COUNT}),
    }  # fmt: skip
    milliseconds = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
    return _object(
        {
            "reason": _nullable(_names("blank", "none", "low_confidence")),
            "noneProbability": _nullable(PERCENT),
            "fractured": _nullable(PERCENT),
            "certainty": _names("sure", "doubtful", "unfamiliar"),
            "threshold": {"type": "number", "minimum": 0},
            "decoder": _object(decoder),
            "model": _object({"sha256": SHA256, "version": _nullable({"type": "string"})}),
            "milliseconds": milliseconds,
        },
        {"possible": {"type": "array", "items": TEXT, "uniqueItems": True}},
    )


def _model() -> Schema:
    sources = _names("environment", "file", "labels", "network", "default")
    by_name = {"type": "object", "additionalProperties": SHARE}
    required = {
        "classNames": {"type": "array", "items": TEXT, "minItems": 2},
        "noneOutput": FLAG,
        "evidenceOutput": FLAG,
        "familiarityOutput": FLAG,
        "inputSize": _object({"height": COUNT, "width": COUNT, "channels": {"type": "integer", "enum": [1, 3]}}),
        "threshold": SHARE,
        "scaling": _names(*SCALINGS),
        "resize": _names("letterbox", "stretch"),
        "sources": {"type": "object", "additionalProperties": sources},
        "sha256": SHA256,
        "version": _nullable({"type": "string"}),
        "prior": {"description": "The shares of the classes that its confidence is calibrated for, or null"},
        "prevalence": _nullable(by_name),
        "conformal": _nullable(by_name),
        "evidenceScale": _nullable(_object({"from": {"type": "number"}, "to": {"type": "number"}})),
        "quality": {"description": "Its measured quality as the file states it, or null"},
        "kerasVersion": TEXT,
        "engine": TEXT,
        "serviceVersion": TEXT,
        "intendedUse": TEXT,
    }
    return _object(required, closed=False)
