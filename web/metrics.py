"""Metrics as Prometheus text: requests, stages, queues, verdicts, drift, the model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

from config import TENTHS

__all__ = ["CONTENT_TYPE", "Metrics"]

SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
STAGES: Final = ("queue", "decode", "prepare", "network", "explain")


class Metrics:
    """The series of one application, in a registry of its own."""

    def __init__(self, in_flight: Callable[[], int], queue_depth: Callable[[], int]) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter("bone_requests", "Requests answered.", ("route", "status", "code"), registry=registry)
        self._seconds = Histogram(
            "bone_request_seconds", "Seconds from a request's arrival to its answer.", ("route",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self._stages = Histogram(
            "bone_stage_seconds", "Seconds of a prediction's stages.", ("stage",), buckets=SECONDS, registry=registry
        )
        self._verdicts = Counter("bone_verdicts", "Verdicts on images.", ("outcome",), registry=registry)
        self._confidence = Histogram(
            "bone_confidence", "Confidence of verdicts, 0 to 1: watch it drift.", buckets=TENTHS, registry=registry
        )
        self._brightness = Histogram(
            "bone_brightness", "Mean brightness of inputs, 0 to 1: watch it drift.", buckets=TENTHS, registry=registry
        )
        self._scores = Histogram(
            "bone_score", "Scores of films, 0 to 1: compare their distribution with bone_score_reference.", ("score",),
            buckets=TENTHS, registry=registry,
        )  # fmt: skip
        self._reference = Gauge(
            "bone_score_reference", "Share of films up to each edge, as in hospitals that the network never saw.",
            ("score", "le"), registry=registry,
        )  # fmt: skip
        self._internal_errors = Counter(
            "bone_internal_errors", "Images and requests that failed because of a fault in the service.",
            registry=registry,
        )  # fmt: skip
        self._model = Info("bone_model", "The model that is loaded.", registry=registry)
        Gauge("bone_in_flight", "Images being worked on.", registry=registry).set_function(in_flight)
        Gauge("bone_queue_depth", "Requests waiting for a slot.", registry=registry).set_function(queue_depth)

        for stage in STAGES:
            self._stages.labels(stage)

    def start_route(self, route: str, answers: Iterable[tuple[int, str]]) -> None:
        """Show a route's series from the start, at 0, since an increase is not seen in a series that begins with 1."""
        self._seconds.labels(route)
        for status, code in answers:
            self._requests.labels(route, str(status), code)

    def count_request(self, route: str, status: int, code: str, seconds: float) -> None:
        """Count an answered request; `code` is that of an error, or empty."""
        self._requests.labels(route, str(status), code).inc()
        self._seconds.labels(route).observe(seconds)

    def observe_stages(self, stages: Mapping[str, float]) -> None:
        """Record the seconds of each stage."""
        for stage, seconds in stages.items():
            self._stages.labels(stage).observe(seconds)

    def count_internal_error(self) -> None:
        """Count a fault of the service, in a request or in one image of a batch."""
        self._internal_errors.inc()

    def count_verdict(
        self, outcome: str, confidence: float, brightness: float | None, scores: Mapping[str, float]
    ) -> None:
        """Record a verdict; for a blank image brightness is None and there are no scores."""
        self._verdicts.labels(outcome).inc()
        self._confidence.observe(confidence)
        if brightness is not None:
            self._brightness.observe(brightness)

        for name, score in scores.items():
            self._scores.labels(name).observe(score)

    def describe_model(
        self, facts: Mapping[str, Any], outcomes: Iterable[str], reference: Mapping[str, Sequence[float]]
    ) -> None:
        """State which model is loaded, and what is expected of it: the share of films in each tenth, for each score."""
        self._model.info({name: str(fact) for name, fact in facts.items()})
        for outcome in outcomes:
            self._verdicts.labels(outcome)
        for score, shares in reference.items():
            self._scores.labels(score)
            for edge, share in zip(TENTHS, accumulate(shares), strict=True):
                self._reference.labels(score, str(edge)).set(share)

    def text(self) -> bytes:
        """Return all series in Prometheus's text format."""
        return generate_latest(self._registry)
