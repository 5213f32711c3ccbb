"""Metrics of the node as Prometheus text."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from pacs.spool import Spool

RECEIVED: Final = ("accepted", "known", "duplicate", "refused", "full", "own", "failed", "rejected")
ANSWERS: Final = ("class", "none", "refused", "poisoned")
SECONDS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The series of one node, in a registry of its own."""

    def __init__(self, spool: Spool) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._films = Counter(
            "bone_pacs_films", "Films and associations by what came of them.", ("outcome",), registry=registry
        )
        self._answers = Counter("bone_pacs_answers", "Answers to films.", ("outcome",), registry=registry)
        self._reports = Counter("bone_pacs_reports", "Reports on studies.", ("outcome",), registry=registry)
        self._retries = Counter("bone_pacs_retries", "What failed and is tried again.", ("of",), registry=registry)
        self._seconds = Histogram(
            "bone_pacs_ask_seconds",
            "Seconds that one answer took, decoding included.",
            buckets=SECONDS,
            registry=registry,
        )
        states = Gauge("bone_pacs_spool_films", "Films that the spool knows, by state.", ("state",), registry=registry)
        for state in spool.count():
            states.labels(state).set_function(lambda state=state: spool.count()[state])  # type: ignore[misc]
        self._gauge("bone_pacs_spool_bytes", "Size of the films whose results are not delivered.").set_function(
            spool.bytes_waiting
        )
        self._gauge("bone_pacs_oldest_seconds", "Age of the oldest film without delivered results.").set_function(
            spool.oldest_seconds
        )
        self._start_at_zero()

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self._registry)

    def _start_at_zero(self) -> None:
        """Show all series from the start, since an increase is not seen in a series that begins with 1."""
        for counter, outcomes in (
            (self._films, RECEIVED),
            (self._answers, ANSWERS),
            (self._reports, ("delivered", "poisoned")),
            (self._retries, ("service", "destination")),
        ):
            for outcome in outcomes:
                counter.labels(outcome)

    def count_film(self, outcome: str) -> None:
        """Count a C-STORE request, or an association that was rejected."""
        self._films.labels(outcome).inc()

    def count_answer(self, outcome: str, seconds: float) -> None:
        """Count an answer and what it took."""
        self._answers.labels(outcome).inc()
        self._seconds.observe(seconds)

    def count_report(self, outcome: str) -> None:
        """Count a report that was delivered or poisoned."""
        self._reports.labels(outcome).inc()

    def count_retry(self, of: str) -> None:
        """Count a failure of the service or of the destination that is tried again."""
        self._retries.labels(of).inc()

    def text(self) -> bytes:
        """Return all series in Prometheus's text format."""
        return generate_latest(self._registry)
