"""What an application holds besides its routes: settings, service, admissions, metrics; and what a request asks for."""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from flask import current_app, request

from config import Config
from web.admission import Admissions
from web.errors import ApiError
from web.messages import Language
from web.metrics import Metrics

EXTENSION = "bone"


@dataclass
class Service:
    """What changes while the process lives: the classifier arrives when it is ready, draining begins at the end."""

    classifier: Any = None  # a model_loader.Classifier, opaque to this room
    draining: bool = False

    def drain(self) -> None:
        """Refuse all requests from now on."""
        self.draining = True

    def require(self) -> Any:
        """Return the classifier. Raise ApiError: draining, not_ready."""
        if self.draining:
            raise ApiError("draining")
        if self.classifier is None:
            raise ApiError("not_ready")
        return self.classifier


class State(NamedTuple):
    """The parts that the routes and hooks of one application share."""

    config: Config
    service: Service
    admissions: Admissions
    metrics: Metrics


def state() -> State:
    """Return the state of the current application."""
    return cast("State", current_app.extensions[EXTENSION])


def language() -> Language:
    """Return the language of `?lang=`, with or without a country, or the configured one if it is another."""
    asked = request.args.get("lang", "").lower().replace("_", "-").partition("-")[0]
    return cast("Language", asked) if asked in ("es", "en") else state().config.language


def asks_for(extra: str) -> bool:
    """Tell whether the query string asks for an extra part of the answer, as in `?detail=1` or `?detail=true`."""
    return request.args.get(extra, "").lower() in ("1", "true")  # Python clients send True
