"""An error -> application/problem+json (RFC 9457), in the language of the request."""

import logging
from typing import Any, Final

from flask import Response, g, jsonify, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge
from werkzeug.http import HTTP_STATUS_CODES

from config import LOGGER
from web.errors import ApiError
from web.messages import error_message
from web.state import language, state
from web.uploads import form_limits

TITLES: Final = HTTP_STATUS_CODES | {413: "Content Too Large", 422: "Unprocessable Content"}  # as in RFC 9110
RETRY_SECONDS: Final = 5  # while the model loads or the service stops

logger = logging.getLogger(LOGGER)


def problem(error: Exception) -> Response:
    """Answer an error."""
    body = describe(error)
    g.outcome = g.code = body["code"]
    response = jsonify(body)
    response.status = f"{body['status']} {body['title']}"
    response.content_type = "application/problem+json"
    response.headers.update(_headers(error))
    return response


def describe(error: Exception) -> dict[str, Any]:
    """Return the JSON object of an error; an unexpected one is logged in full."""
    code, facts = _code_and_facts(error)
    if code == "internal_error":
        logger.error("internal_error", exc_info=error, extra={"requestId": g.request_id})
        state().metrics.count_internal_error()
    status, message = error_message(code, language(), facts)
    return problem_body(code, status, message, g.request_id)


def problem_body(code: str, status: int, message: str, request_id: str) -> dict[str, Any]:
    """Return the JSON object of an error, keys in the contract's order."""
    return {
        "success": 0,
        "message": message,
        "type": "about:blank",
        "title": TITLES[status],
        "status": status,
        "code": code,
        "requestId": request_id,
    }


def _headers(error: Exception) -> dict[str, str]:
    match error:
        case MethodNotAllowed():
            return {"Allow": ", ".join(_allowed(error))}
        case ApiError(code="overloaded" | "deadline_exceeded"):
            return {"Retry-After": str(error.facts["seconds"])}
        case ApiError(code="not_ready" | "draining"):
            return {"Retry-After": str(RETRY_SECONDS)}
        case ApiError(code="unauthorized"):
            return {"WWW-Authenticate": 'ApiKey realm="bone-fracture-classifier"'}
        case _:
            return {}


def _code_and_facts(error: Exception) -> tuple[str, dict[str, Any]]:
    match error:
        case ApiError():
            return error.code, error.facts
        case MethodNotAllowed():
            return "method_not_allowed", {"allowed": _allowed(error)}
        case RequestEntityTooLarge():
            return _too_large()
        case HTTPException(code=404):
            return "not_found", {}
        case HTTPException(code=int(code)) if 400 <= code < 500:
            return "malformed_request", {}
        case _:
            return "internal_error", {}


def _allowed(error: MethodNotAllowed) -> tuple[str, ...]:
    return tuple(sorted(error.valid_methods or ()))


def _too_large() -> tuple[str, dict[str, Any]]:
    """Distinguish a body that can only hold too large an image from a form of too many parts or fields."""
    config = state().config
    if (request.content_length or 0) > config.max_body_bytes:
        return "image_too_large", {"limit_mb": config.max_upload_bytes / 1e6}
    return "request_too_large", form_limits(request)
