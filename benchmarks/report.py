"""From what was measured to benchmarks/README.md and the plots in docs/images/; every figure in them comes from there.

python -m benchmarks.report
"""

from collections.abc import Iterable, Sequence
from typing import Final

from benchmarks import machine
from benchmarks.aims import NOT_MEASURED, aims, number
from benchmarks.compare import AGREE_WITHIN_POINTS, CONCURRENCIES, RESULT
from benchmarks.contenders import BARE, OURS
from benchmarks.films import KINDS, LARGE, SMALL
from benchmarks.machine import ROOT
from benchmarks.measurements import Comparison

README: Final = ROOT / "benchmarks" / "README.md"
IMAGES: Final = ROOT / "docs" / "images"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def services(found: Comparison) -> str:
    """Return the table of all contenders, and the bare limit below them."""
    head = ["service"]
    for kind in (SMALL, LARGE):
        head += [f"{kind.name}: requests/s", "p50 alone, ms", "p99 of 8, ms", "processor, ms"]
    rows = [
        [
            name,
            *_speeds(found, name),
            number(found.visit(name, "memory_mb")),
            number(found.visit(name, "first_answer_seconds"), 1),
        ]
        for name in found.contenders()
    ]
    limit = [BARE, *_speeds(found, BARE), NOT_MEASURED, NOT_MEASURED]
    return table([*head, "memory, MB", "start to first answer, s"], [*rows, limit])


def _speeds(found: Comparison, name: str) -> list[str]:
    cells = []
    for kind in (SMALL, LARGE):
        cells += [
            number(found.load(name, kind.name, 8, "per_second"), 1),
            number(found.load(name, kind.name, 1, "p50_ms"), 1),
            number(found.load(name, kind.name, 8, "p99_ms")),
            number(found.load(name, kind.name, 8, "cpu_ms"), 1),
        ]
    return cells


def ratios(found: Comparison) -> str:
    """Return how many times as many requests a second our service answers, at every load of the others."""
    cases = [(kind.name, callers) for kind in KINDS for callers in CONCURRENCIES]
    others = [*(name for name in found.contenders() if name != OURS), BARE]
    taken = [case for case in cases if any(found.times(OURS, name, *case) for name in others)]
    rows = []
    for name in others:
        times = [found.times(OURS, name, *case) for case in taken]
        rows.append([name, *(f"{value:.2f} ×" if value else NOT_MEASURED for value in times)])
    return table(["over", *(f"{film}, {callers}" for film, callers in taken)], rows)


def growth(found: Comparison) -> str:
    """Return our own throughput and times at every load."""
    rows = []
    for kind in KINDS:
        for callers in CONCURRENCIES:
            figures = [
                found.load(OURS, kind.name, callers, name) for name in ("per_second", "p50_ms", "p99_ms", "cpu_ms")
            ]
            if figures[0] is not None:
                rows.append([kind.name, str(callers), *(number(figure, 1) for figure in figures)])
    return table(["image", "callers", "requests/s", "p50, ms", "p99, ms", "processor per request, ms"], rows)


def stages(found: Comparison) -> str:
    """Return where the time of a request goes in our own service."""
    cases = [(kind.name, callers) for kind in KINDS for callers in (1, 8)]
    rows = [(case, found.stages(*case)) for case in cases]
    names = list(next((row for _, row in rows if row), {}))
    cells = [
        [f"{film}, {callers}", *(number(row.get(name), 1) for name in names)] for (film, callers), row in rows if row
    ]
    return table(["image, callers", *(f"{name}, ms" for name in names)], cells)


def agreement(found: Comparison) -> str:
    """Return how far the answers lie apart."""
    rows = [
        [name, *(number(differences.get(kind.name), 2) for kind in KINDS)]
        for name, differences in found.agreement.items()
        if name != OURS
    ]
    return table(["largest difference from ours, percentage points", *(kind.name for kind in KINDS)], rows)


def failures(found: Comparison) -> str:
    """Return a sentence for each contender that did not answer everything with 200."""
    lines = []
    for name in found.contenders():
        statuses = ", ".join(f"{count:,} × {status}" for status, count in found.refused(name).items())
        lines.append(f"- {name}: {statuses or 'none'}")
    return "\n".join(lines)


def render(found: Comparison, versions: dict[str, str]) -> str:
    """Return the whole README."""
    facts = "\n".join(f"- {name}: {value}" for name, value in found.facts.items())
    pins = ", ".join(f"{name} {version}" for name, version in sorted(versions.items(), key=lambda pin: pin[0].lower()))
    parts = [
        TOP,
        *([SHORT] if "--short" in found.facts["command"] else []),
        "## Aims\n\n" + table(["figure", "aim", "reached", "met"], [aim.row() for aim in aims(found)]),
        SERVICES.format(within=AGREE_WITHIN_POINTS) + services(found),
        "![Requests a second of every service](../docs/images/bench-services.png)",
        RATIOS + ratios(found),
        "Answers other than 200, over all loads:\n\n" + failures(found),
        AGREEMENT + agreement(found),
        GROWTH + growth(found),
        "![Throughput and p99 over the number of callers](../docs/images/bench-growth.png)",
        STAGES + stages(found),
        "![The stages of a lone request](../docs/images/bench-stages.png)",
    ]
    parts += ["## Conditions\n\n" + facts, "Pinned: " + pins + "."]
    return "\n\n".join(parts) + "\n"


TOP: Final = """# How fast it is

Written by `python -m benchmarks.report` from what was measured; nothing here is typed by hand. To measure again:

```sh
make bench          # the service, the classic Flask service, the bare limit
make bench-peers    # the same with LitServe and BentoML
make bench BENCH=--short    # proves that it works, no more
```

With `BONE_DATA_DIR` set the images are radiographs from there, else phantoms. The load is a closed loop: so many
callers, each sending its next request once it has the last answer, from a process of its own on the same machine.
In a round all services are started, checked and warmed up; then each load goes to all in turn, right after the bare
limit, while the others are stopped (SIGSTOP), since the pace of a machine drifts within minutes. Figures are medians
over the rounds, ratios and differences too: each compares two loads of the same round. More is measured by
`python -m benchmarks.reliability`, `benchmarks.explanations` and `benchmarks.page`."""

SHORT: Final = "**From a short run beside other work: it proves that everything works; its figures prove nothing.**"

SERVICES: Final = """## Services

All load the same `.h5` and answer the same requests. Where they disagree by more than {within:g} percentage point on a
JPEG file, the run stops. Requests/s with 8 callers; *p50 alone* with one; *processor* is what a request costs with 8.
Memory is that of all processes of the service after the loads of a round, what they share counted once; the bare
limit's *p50 alone* is a call on all cores.

"""

RATIOS: Final = """How many times as many requests a second this service answers, for each image and number of callers:

"""

AGREEMENT: Final = """All but this service decode to 8-bit RGB, as is usual, which turns samples of 16 bits to white:

"""

GROWTH: Final = """## How it grows

"""

STAGES: Final = """## Where the time goes

Means from the header `Server-Timing`; *other* is what passes between the stages inside the process.

"""


def main() -> None:
    """Write the README, and the plots where matplotlib is there."""
    from benchmarks.plots import draw_all  # noqa: PLC0415 matplotlib is not part of the service's environment

    found = Comparison.read(RESULT)
    README.write_text(render(found, machine.versions()), encoding="utf-8")
    draw_all(found, IMAGES)
    print(f"{README.relative_to(ROOT)} and {IMAGES.relative_to(ROOT)}/bench-*.png are written")


if __name__ == "__main__":
    main()
