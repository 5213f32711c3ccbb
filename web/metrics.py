"""Metrics as Prometheus text: requests, stages, queues, verdicts, drift, the model."""

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "Metrics"]

SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
TENTHS: Final = tuple(tenth / 10 for tenth in range(1, 11))


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
        self._model = Info("bone_model", "The model that is loaded.", registry=registry)
        self._ready = Gauge("bone_ready", "1 once the model has been verified.", registry=registry)
        Gauge("bone_in_flight", "Images being worked on.", registry=registry).set_function(in_flight)
        Gauge("bone_queue_depth", "Requests waiting for a slot.", registry=registry).set_function(queue_depth)

    def count_request(self, route: str, status: int, code: str, seconds: float) -> None:
        """Count an answered request; `code` is that of an error, or empty."""
        self._requests.labels(route, str(status), code).inc()
        self._seconds.labels(route).observe(seconds)

    def observe_stages(self, stages: Mapping[str, float]) -> None:
        """Record the seconds of each stage."""
        for stage, seconds in stages.items():
            self._stages.labels(stage).observe(seconds)

    def count_verdict(self, outcome: str, confidence: float, brightness: float | None) -> None:
        """Record a verdict; brightness is None for a blank image."""
        self._verdicts.labels(outcome).inc()
        self._confidence.observe(confidence)
        if brightness is not None:
            self._brightness.observe(brightness)

    def name_model(self, facts: Mapping[str, str]) -> None:
        """State which model is loaded, and that it is ready."""
        self._model.info(dict(facts))
        self._ready.set(1)

    def text(self) -> bytes:
        """Return all series in Prometheus's text format."""
        return generate_latest(self._registry)
