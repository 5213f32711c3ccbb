"""Measurements: written to a file, read back, and summarised as medians over rounds."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from benchmarks.client import Answer


@dataclass(frozen=True)
class Load:
    """One contender, or the bare limit, under one load in one round; only answers with status 200 count."""

    contender: str
    film: str
    concurrency: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    statuses: dict[str, int]
    stages: dict[str, float]


@dataclass(frozen=True)
class Visit:
    """One contender in one round: seconds from start to the first answer, memory after its loads."""

    contender: str
    first_answer_seconds: float
    memory_mb: float


@dataclass
class Comparison:
    """A whole run; `agreement` is by contender and kind of film, in percentage points."""

    facts: dict[str, str]
    loads: list[Load] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    agreement: dict[str, dict[str, float]] = field(default_factory=dict)
    ours: dict[str, float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Comparison":
        """Read a file that `save` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            facts=found["facts"],
            loads=[Load(**load) for load in found["loads"]],
            visits=[Visit(**visit) for visit in found["visits"]],
            agreement=found["agreement"],
            ours=found["ours"],
        )

    def contenders(self) -> list[str]:
        """Return the names of the contenders, in their order."""
        return list(dict.fromkeys(visit.contender for visit in self.visits))

    def load(self, contender: str, film: str, concurrency: int, figure: str) -> float | None:
        """Return the median over the rounds of a figure of a load; None if it was not measured."""
        return _middle(self._rounds(contender, film, concurrency, figure))

    def times(self, one: str, other: str, film: str, concurrency: int) -> float | None:
        """Return the median over the rounds of the ratio of one contender's requests per second to the other's."""
        rounds = self._pairs(one, other, film, concurrency, "per_second")
        return _middle(first / second for first, second in rounds if second)

    def above(self, one: str, other: str, film: str, concurrency: int) -> float | None:
        """Return the median over the rounds of the difference of one contender's median ms to the other's."""
        return _middle(first - second for first, second in self._pairs(one, other, film, concurrency, "p50_ms"))

    def _pairs(self, one: str, other: str, film: str, concurrency: int, figure: str) -> Iterable[tuple[float, float]]:
        return zip(*(self._rounds(name, film, concurrency, figure) for name in (one, other)), strict=False)

    def _rounds(self, contender: str, film: str, concurrency: int, figure: str) -> list[float]:
        """Return a figure of a load in every round, in their order."""
        case = (contender, film, concurrency)
        return [getattr(load, figure) for load in self.loads if (load.contender, load.film, load.concurrency) == case]

    def visit(self, contender: str, figure: str) -> float | None:
        """Return the median over the rounds of a figure of a contender."""
        return _middle(getattr(visit, figure) for visit in self.visits if visit.contender == contender)

    def stages(self, film: str, concurrency: int) -> dict[str, float]:
        """Return the median over the rounds of each stage's ms in the service."""
        found = [
            load.stages for load in self.loads if load.stages and (load.film, load.concurrency) == (film, concurrency)
        ]
        return {stage: median(stages[stage] for stages in found) for stage in (found[0] if found else ())}

    def refused(self, contender: str) -> dict[str, int]:
        """Count the answers other than 200 by status, over all loads."""
        total: Counter[str] = Counter()
        for load in self.loads:
            if load.contender == contender:
                total.update(load.statuses)
        return {status: count for status, count in sorted(total.items()) if status != "200"}


def _middle(figures: Iterable[float]) -> float | None:
    values = list(figures)
    return median(values) if values else None


def load_of(case: tuple[str, str, int], answers: Sequence[Answer], seconds: float, cpu_seconds: float) -> Load:
    """Summarise the answers of so many seconds; `case` is contender, film, concurrency."""
    good = [answer for answer in answers if answer.status == 200]
    times = [1000 * answer.seconds for answer in good] or [float("nan")]
    return Load(
        *case,
        per_second=len(good) / seconds,
        p50_ms=float(np.quantile(times, 0.5)),
        p99_ms=float(np.quantile(times, 0.99)),
        cpu_ms=1000 * cpu_seconds / max(1, len(good)),
        statuses=dict(Counter(str(answer.status) for answer in answers)),
        stages=mean_stages([answer.headers.get("server-timing", "") for answer in good]),
    )


def mean_stages(headers: Sequence[str]) -> dict[str, float]:
    """Return the mean ms of each stage in Server-Timing headers; the rest of the total is `other`."""
    rows = [dict(_stage(part) for part in header.split(",")) for header in headers if header]
    means = {stage: fmean(row.get(stage, 0.0) for row in rows) for stage in (rows[0] if rows else ())}
    if "total" in means:
        total = means.pop("total")
        means["other"] = max(0.0, total - sum(means.values()))
    return means


def _stage(part: str) -> tuple[str, float]:
    name, _, milliseconds = part.strip().partition(";dur=")
    return name, float(milliseconds)


def points_apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the largest difference of two answers, in percentage points."""
    pairs = zip(one["allProbabilities"], other["allProbabilities"], strict=True)
    shares = [abs(ours["probability"] - theirs["probability"]) for ours, theirs in pairs]
    return float(max(*shares, abs(one["confidence"] - other["confidence"])))
