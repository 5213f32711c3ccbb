"""Write benchmarks/README.md and the plots in docs/images/ from the measurements, the source of every figure in them.

python -m benchmarks.report
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from benchmarks import machine
from benchmarks.compare import AGREE_WITHIN_POINTS, CONCURRENCIES, RESULT
from benchmarks.contenders import BARE, CLASSIC, OURS, bentoml, litserve
from benchmarks.films import KINDS, LARGE, SMALL, Kind
from benchmarks.measurements import Comparison
from benchmarks.service import ROOT

README: Final = ROOT / "benchmarks" / "README.md"
IMAGES: Final = ROOT / "docs" / "images"
NOT_MEASURED: Final = "–"
PEERS: Final = (litserve().name, bentoml().name)


def number(value: float | None, digits: int = 0) -> str:
    """Format a figure with so many decimals, or state that it was not measured."""
    return NOT_MEASURED if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def at_least(figure: str, aim: float, reached: float | None, unit: str) -> list[str]:
    """Return the row of a figure with a lower bound as its aim."""
    return _aim(figure, f"≥ {aim:g}{unit}", reached, unit, met=reached is not None and reached >= aim)


def at_most(figure: str, aim: float, reached: float | None, unit: str) -> list[str]:
    """Return the row of a figure with an upper bound as its aim."""
    return _aim(figure, f"≤ {aim:g}{unit}", reached, unit, met=reached is not None and reached <= aim)


def _aim(figure: str, aim: str, reached: float | None, unit: str, *, met: bool) -> list[str]:
    if reached is None:
        return [figure, aim, NOT_MEASURED, NOT_MEASURED]
    return [figure, aim, f"{reached:.3g}{unit}", "yes" if met else "**no**"]


def aims(found: Comparison) -> list[list[str]]:
    """Return a row for each figure that has an aim."""
    rows = []
    for kind, over_classic, over_peers in ((SMALL, 6, 2), (LARGE, 5.5, 3)):
        name = f"requests/s, {kind.name}, 8 callers, over"
        lead = min(filter(None, (found.times(OURS, peer, kind.name, 8) for peer in PEERS)), default=None)
        rows += [
            at_least(f"{name} classic Flask", over_classic, found.times(OURS, CLASSIC, kind.name, 8), " ×"),
            at_least(f"{name} the best peer", over_peers, lead, " ×"),
            at_least(f"{name} the bare limit", 0.88, found.times(OURS, BARE, kind.name, 8), " ×"),
        ]
    p50, p99 = (found.load(OURS, SMALL.name, 32, figure) for figure in ("p50_ms", "p99_ms"))
    above = found.above(OURS, BARE, SMALL.name, 1)
    requests = found.ours.get("requests", 0)
    return [
        *rows,
        at_most(f"p50 of a lone request above the bare call, {SMALL.name}", 2, above, " ms"),
        at_most(f"p99 over p50, {SMALL.name}, 32 callers", 1.5, p99 / p50 if p99 and p50 else None, " ×"),
        at_most(f"memory after {requests:,.0f} requests", 320, found.ours.get("memory_mb"), " MB"),
        at_most("start to ready, model compiled before", 1, found.ours.get("start_seconds"), " s"),
        at_most("start to ready, first start", 20, found.ours.get("first_start_seconds"), " s"),
    ]


def services(found: Comparison) -> str:
    """Return the table of all contenders, and the bare limit below them."""
    head = ["service"]
    for kind in (SMALL, LARGE):
        head += [f"{kind.name}: requests/s", "p50 alone, ms", "p99 of 8, ms", "processor, ms"]
    rows = [
        [name, *_speeds(found, name, SMALL), *_speeds(found, name, LARGE), *_memory_and_start(found, name)]
        for name in (*found.contenders(), BARE)
    ]
    return table([*head, "memory, MB", "start to first answer, s"], rows)


def _speeds(found: Comparison, name: str, kind: Kind) -> list[str]:
    figures = ((8, "per_second", 1), (1, "p50_ms", 1), (8, "p99_ms", 0), (8, "cpu_ms", 1))
    return [number(found.load(name, kind.name, callers, figure), digits) for callers, figure, digits in figures]


def _memory_and_start(found: Comparison, name: str) -> list[str]:
    return [number(found.visit(name, "memory_mb")), number(found.visit(name, "first_answer_seconds"), 1)]


def ratios(found: Comparison) -> str:
    """Return the ratios of the service's requests per second to those of the others, at every load of theirs."""
    others = [*(name for name in found.contenders() if name != OURS), BARE]
    cases = [(kind.name, callers) for kind in KINDS for callers in CONCURRENCIES]
    cases = [case for case in cases if any(found.times(OURS, name, *case) for name in others)]
    rows = []
    for name in others:
        times = [found.times(OURS, name, *case) for case in cases]
        rows.append([name, *(f"{value:.2f} ×" if value else NOT_MEASURED for value in times)])
    return table(["over", *(f"{film}, {callers}" for film, callers in cases)], rows)


def growth(found: Comparison) -> str:
    """Return the service's throughput and times at every load."""
    rows = []
    for kind in KINDS:
        for callers in CONCURRENCIES:
            names = ("per_second", "p50_ms", "p99_ms", "cpu_ms")
            figures = [found.load(OURS, kind.name, callers, name) for name in names]
            if figures[0] is not None:
                rows.append([kind.name, str(callers), *(number(figure, 1) for figure in figures)])
    return table(["image", "callers", "requests/s", "p50, ms", "p99, ms", "processor per request, ms"], rows)


def stages(found: Comparison) -> str:
    """Return the time of each stage of a request in the service."""
    rows = {(kind.name, callers): found.stages(kind.name, callers) for kind in KINDS for callers in (1, 8)}
    names = list(next(filter(None, rows.values()), {}))
    cells = [
        [f"{film}, {callers}", *(number(row[name], 1) for name in names)]
        for (film, callers), row in rows.items()
        if row
    ]
    return table(["image, callers", *(f"{name}, ms" for name in names)], cells)


def agreement(found: Comparison) -> str:
    """Return how far the answers of the contenders differ."""
    rows = [
        [name, *(number(differences.get(kind.name), 2) for kind in KINDS)]
        for name, differences in found.agreement.items()
        if name != OURS
    ]
    return table(["largest difference from the service, percentage points", *(kind.name for kind in KINDS)], rows)


def failures(found: Comparison) -> str:
    """Return a list item for each contender: its answers other than 200."""
    lines = []
    for name in found.contenders():
        statuses = ", ".join(f"{count:,} × {status}" for status, count in found.refused(name).items())
        lines.append(f"- {name}: {statuses or 'none'}")
    return "\n".join(lines)


def render(found: Comparison, versions: dict[str, str]) -> str:
    """Return the whole README."""
    pins = sorted(versions.items(), key=lambda pin: pin[0].lower())
    return TEMPLATE.format(
        short=SHORT if "--short" in found.facts["command"] else "",
        aims=table(["figure", "aim", "reached", "met"], aims(found)),
        within=AGREE_WITHIN_POINTS,
        services=services(found),
        ratios=ratios(found),
        failures=failures(found),
        agreement=agreement(found),
        growth=growth(found),
        stages=stages(found),
        facts="\n".join(f"- {name}: {value}" for name, value in found.facts.items()),
        pins=", ".join(f"{name} {version}" for name, version in pins),
    )


SHORT: Final = "**From a short run beside other load: it shows that everything works; its figures prove nothing.**\n\n"

TEMPLATE: Final = """# How fast it is

Written by `python -m benchmarks.report` from the measurements; no figure is typed by hand. To measure again:

```sh
make bench          # the service, classic Flask, the bare limit
make bench-peers    # the same with LitServe and BentoML
make bench BENCH=--short    # only checks that it works
```

With `BONE_DATA_DIR` set the images are radiographs from there, else drawn ones. The load is a closed loop: each
caller sends its next request after its last answer, from a process of its own on the same machine. In a round all
services are started, checked and warmed up; then each load goes to all in turn, right after the bare limit, while the
others are stopped (SIGSTOP), since the speed of a machine drifts within minutes. Figures are medians over the rounds;
ratios and differences compare two loads of the same round. More is measured by
`make bench-reliability` and `python -m benchmarks.explanations`; `python -m benchmarks.answers` shows whether a change
moved any answer.

{short}## Aims

{aims}

## Services

All load the same `.h5` and answer the same requests. If they differ by more than {within:g} percentage point on a
JPEG file, the run stops. *Requests/s*, *p99* and *processor* (time per request) are measured with 8 callers, *p50
alone* with one. *Memory* is that of all processes of a service after the loads of a round, shared memory counted once.
The bare limit's *p50 alone* is a call on all cores.

{services}

![Requests a second of every service](../docs/images/bench-services.png)

The ratio of this service's requests per second to those of each other, for each image and number of callers:

{ratios}

Answers other than 200, over all loads:

{failures}

All but this service decode to 8-bit RGB, as is usual, which turns 16-bit samples white:

{agreement}

## How it grows

{growth}

![Throughput and p99 over the number of callers](../docs/images/bench-growth.png)

## Where the time goes

Means from the header `Server-Timing`; *other* is the rest of the time inside the process.

{stages}

## Conditions

{facts}

Pinned: {pins}.
"""


def main() -> None:
    """Write the README and the plots."""
    from benchmarks.plots import draw_all  # noqa: PLC0415 matplotlib is not part of the service's environment

    found = Comparison.read(RESULT)
    README.write_text(render(found, machine.versions()), encoding="utf-8")
    draw_all(found, IMAGES)
    print(f"{README.relative_to(ROOT)} and {IMAGES.relative_to(ROOT)}/bench-*.png are written")


if __name__ == "__main__":
    main()
