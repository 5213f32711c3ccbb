"""Plots of the benchmarks, in the style of the model card's."""

from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks.compare import CONCURRENCIES
from benchmarks.contenders import BARE, OURS
from benchmarks.films import KINDS, LARGE, SMALL
from benchmarks.measurements import Comparison

mpl.use("agg")

COLOURS: Final = ("#0b6fa4", "#c8571b", "#4d8a3d", "#8a8a8a", "#7a4f9a")


def draw_all(found: Comparison, folder: Path) -> None:
    """Write `bench-services.png` and `bench-growth.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns, draw in (("services", 1, draw_services), ("growth", 2, draw_growth)):
        canvas = Canvas(figsize=(4 + 3.2 * columns, 3.6), layout="constrained")
        axes = list(canvas.subplots(1, columns, squeeze=False)[0])
        draw(found, axes)
        canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
        canvas.savefig(folder / f"bench-{name}.png", dpi=110, metadata={"Software": None})


def draw_services(found: Comparison, axes: list[Axes]) -> None:
    """Draw requests a second with 8 callers: a bar for each service and size; the bare limit as a dotted line."""
    names = found.contenders()
    rows = np.arange(len(names))
    for offset, kind, colour in ((-0.2, SMALL, COLOURS[0]), (0.2, LARGE, COLOURS[1])):
        rates = [found.load(name, kind.name, 8, "per_second") or 0 for name in names]
        bars = axes[0].barh(rows + offset, rates, 0.38, color=colour, label=kind.name)
        axes[0].bar_label(bars, fmt="%.0f", padding=3)
        if limit := found.load(BARE, kind.name, 8, "per_second"):
            axes[0].axvline(limit, color=colour, linestyle=":", label=f"bare limit, {kind.name}")
    axes[0].set_yticks(rows, [short(name) for name in names])
    axes[0].invert_yaxis()
    axes[0].margins(x=0.1)
    axes[0].set(xlabel="requests a second, 8 callers")


def draw_growth(found: Comparison, axes: list[Axes]) -> None:
    """Draw the service's throughput and p99 over the number of callers, a line for each kind of film."""
    for axis, figure, label in zip(axes, ("per_second", "p99_ms"), ("requests a second", "p99, ms"), strict=True):
        for kind, colour in zip(KINDS, COLOURS, strict=False):
            points = [(callers, found.load(OURS, kind.name, callers, figure)) for callers in CONCURRENCIES]
            seen = [(callers, value) for callers, value in points if value is not None]
            axis.plot(*zip(*seen, strict=True), "o-", color=colour, label=kind.name)
        axis.set_xscale("log", base=2)
        axis.set_xticks(CONCURRENCIES, [str(callers) for callers in CONCURRENCIES])
        axis.set(xlabel="callers", ylabel=label, ylim=(0, None))


def short(name: str) -> str:
    """Return a name short enough to fit beside a bar."""
    return name.partition(",")[0].replace(": Flask", "").replace("the same under ", "classic, ")
