"""What the service answers to a film, as the results need it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from explanation import Box

Body = dict[str, Any]  # the service's JSON, which the spool keeps as it is

MAX_NAME_LENGTH: Final = 64


class AnswerError(Exception):
    """An answer that is not the service's; the message is one sentence."""


@dataclass(frozen=True)
class Answer:
    """A verdict on a film, numbers in percent, or the code of the error with which it was refused."""

    predicted_class: str | None = None
    confidence: float = 0.0
    probabilities: Mapping[str, float] | None = None
    certainty: str = "sure"
    fractured: float | None = None
    model_sha256: str = ""
    model_version: str = ""
    boxes: tuple[Box, ...] = ()
    refusal: str | None = None


def read_answer(body: Body) -> Answer:
    """Read what POST /predict answers with `detail=1`, and perhaps `explain=1`, or an error. Raise AnswerError."""
    try:
        if "code" in body:
            return Answer(refusal=str(body["code"]))
        detail = body["detail"]
        return Answer(
            predicted_class=body.get("predictedClass"),
            confidence=float(body["confidence"]),
            probabilities={str(one["class"]): float(one["probability"]) for one in body["allProbabilities"]},
            certainty=str(detail["certainty"]),
            fractured=None if detail["fractured"] is None else float(detail["fractured"]),
            model_sha256=str(detail["model"]["sha256"]),
            model_version=str(detail["model"]["version"] or ""),
            boxes=tuple(_box(box) for box in body.get("boxes", ())),
        )
    except (KeyError, TypeError, ValueError):
        raise AnswerError("The service's answer is not one that POST /predict gives.") from None


def _box(box: Mapping[str, Any]) -> Box:
    read = Box(*(float(box[name]) for name in ("x", "y", "width", "height", "strength")))
    if not all(0 <= value <= 1 for value in (read.x, read.y, read.width, read.height, read.strength)):
        raise ValueError("a box outside the film")
    return read
