"""What the service is to reach, and what it reached."""

import math
from typing import Final, NamedTuple

from benchmarks.contenders import BARE, CLASSIC, OURS, bentoml, litserve
from benchmarks.films import LARGE, SMALL
from benchmarks.measurements import Comparison

NOT_MEASURED: Final = "–"
PEERS: Final = (litserve().name, bentoml().name)


class Aim(NamedTuple):
    """A figure with what it should be: at least that much, or at most where `most`."""

    figure: str
    aim: float
    reached: float | None
    unit: str
    most: bool = False

    def row(self) -> list[str]:
        """Return the cells of its row."""
        if self.reached is None:
            return [self.figure, self._shown(self.aim), NOT_MEASURED, NOT_MEASURED]
        met = self.reached <= self.aim if self.most else self.reached >= self.aim
        return [self.figure, self._shown(self.aim), f"{self.reached:.3g}{self.unit}", "yes" if met else "**no**"]

    def _shown(self, value: float) -> str:
        return f"{'≤' if self.most else '≥'} {value:g}{self.unit}"


def number(value: float | None, digits: int = 0) -> str:
    """Write a figure with so many decimals, or that it was not measured."""
    return NOT_MEASURED if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def over(one: float | None, other: float | None) -> float | None:
    """Return how many times the other the one is."""
    return one / other if one is not None and other else None


def aims(found: Comparison) -> list[Aim]:
    """Compare with what the service is to reach."""
    peers = [name for name in PEERS if name in found.contenders()]
    rows = []
    for kind, over_classic, over_peers in ((SMALL, 6, 2), (LARGE, 5.5, 3)):
        name = f"requests/s, {kind.name}, 8 callers, over"
        least = min(filter(None, (found.times(OURS, peer, kind.name, 8) for peer in peers)), default=None)
        rows += [
            Aim(f"{name} classic Flask", over_classic, found.times(OURS, CLASSIC, kind.name, 8), " ×"),
            Aim(f"{name} the best peer", over_peers, least, " ×"),
            Aim(f"{name} the bare limit", 0.88, found.times(OURS, BARE, kind.name, 8), " ×"),
        ]
    p50, p99 = (found.load(OURS, SMALL.name, 32, figure) for figure in ("p50_ms", "p99_ms"))
    above = found.above(OURS, BARE, SMALL.name, 1)
    after = f"memory after {found.ours.get('requests', 0):,.0f} requests"
    return [
        *rows,
        Aim(f"p50 of a lone request above the bare call, {SMALL.name}", 2, above, " ms", most=True),
        Aim(f"p99 over p50, {SMALL.name}, 32 callers", 1.5, over(p99, p50), " ×", most=True),
        Aim(after, 320, found.ours.get("memory_mb"), " MB", most=True),
        Aim("start to ready, model compiled before", 1, found.ours.get("start_seconds"), " s", most=True),
        Aim("start to ready, first start", 20, found.ours.get("first_start_seconds"), " s", most=True),
    ]
