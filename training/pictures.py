"""Draws the pictures of the model card from the out-of-fold answers. No radiograph is shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from preprocessing import content_of
from training.figures import Judge
from training.heatmap import Size, size_of
from training.manifest import Entry
from training.metrics import Bools, Floats, auc
from training.splits import Rows

mpl.use("agg")

_BLUE: Final = "#0b6fa4"
_ORANGE: Final = "#c8571b"
_GREY: Final = "#8a8a8a"
_MAPS: Final = 12  # shown of the images with boxes


def draw_all(judge: Judge, folder: Path, size: Size) -> None:
    """Write `roc.png`, `reliability.png`, `risk_coverage.png`, `confusion_matrix.png` and `heatmaps.png`.

    `size` is the network's input, (height, width).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in (
        ("roc", _draw_roc),
        ("reliability", _draw_reliability),
        ("risk_coverage", _draw_risk),
        ("confusion_matrix", _draw_confusion),
    ):
        canvas = Canvas(figsize=(6.4, 4.8), layout="constrained")
        draw(judge, canvas.subplots())
        _save(canvas, folder / f"{name}.png")
    boxed = np.flatnonzero([bool(entry.boxes) for entry in judge.entries])
    if len(boxed):
        canvas = Canvas(figsize=(8, 6.4), layout="constrained")
        _draw_heatmaps(judge, np.random.default_rng(0).permutation(boxed)[:_MAPS], size, canvas)
        _save(canvas, folder / "heatmaps.png")


def _save(canvas: Canvas, path: Path) -> None:
    canvas.savefig(path, dpi=110, metadata={"Software": None})


def roc_points(scores: Floats, positive: Bools) -> tuple[Floats, Floats]:
    """Return the false and true positive rates at every cut, from none called to all."""
    order = np.argsort(-scores, kind="stable")
    hits = positive[order]
    false, true = np.cumsum(~hits) / max(1, (~hits).sum()), np.cumsum(hits) / max(1, hits.sum())
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


def risk_points(confidence: Floats, right: Bools) -> tuple[Floats, Floats]:
    """Return coverage and the share of wrong answers among those covered, the most confident first."""
    order = np.argsort(-confidence, kind="stable")
    count = np.arange(1, len(order) + 1)
    return count / max(1, len(order)), np.cumsum(~right[order]) / count


def _draw_roc(judge: Judge, axes: Axes) -> None:
    bones = (judge.fractured | judge.normal) & (judge.sources == "fracatlas")
    curves = (
        ("fisura against fractura", judge.kind, judge.fisura, judge.typed, _BLUE),
        ("fractured against normal, FracAtlas", judge.known, judge.fractured, bones, _ORANGE),
    )
    for name, scores, positive, chosen, colour in curves:
        area = auc(scores[chosen], positive[chosen])
        axes.plot(*roc_points(scores[chosen], positive[chosen]), color=colour, label=f"{name}: AUC {area:.3f}")
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"ROC, out of fold, n = {len(judge.entries):,}")
    axes.legend(loc="lower right")


def _draw_reliability(judge: Judge, axes: Axes) -> None:
    chosen = judge.labels != "fracture_untyped"
    scores, right = judge.outcome.confidence[chosen], judge.right[chosen]
    bins = np.array_split(np.argsort(scores, kind="stable"), 15)
    points = np.array([(scores[part].mean(), right[part].mean()) for part in bins if len(part)])
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", label="perfect")
    axes.plot(points[:, 0], points[:, 1], "o-", color=_BLUE, label="15 bins of equal count")
    title = f"Reliability of confidence, out of fold, n = {len(scores):,}"
    axes.set(xlabel="confidence", ylabel="share right", title=title, xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left")


def _draw_risk(judge: Judge, axes: Axes) -> None:
    called = np.where(judge.kind > 0, "fisura", "fractura")
    for name, colour in (("fisura", _BLUE), ("fractura", _ORANGE)):
        chosen = (called == name) & (judge.labels != "fracture_untyped")
        coverage, risk = risk_points(judge.outcome.confidence[chosen], judge.right[chosen])
        axes.plot(coverage, risk, color=colour, label=f"called {name}, n = {chosen.sum():,}")
    title = "Risk against coverage, out of fold, the most confident first"
    axes.set(xlabel="share of such answers kept", ylabel="share of them wrong", title=title, ylim=(0, 1))
    axes.legend(loc="lower right")


def _draw_confusion(judge: Judge, axes: Axes) -> None:
    rows, columns = confusion(judge), ("fisura", "fractura", "rejected")
    table = np.array([counts for _, counts in rows])
    shares = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if shares[row, column] > 0.6 else "black"
        text = f"{count} ({shares[row, column]:.0%})"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(3), columns)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set(xlabel="answer", title=f"Answers at the operating point, out of fold, n = {table.sum():,}")


def _draw_heatmaps(judge: Judge, rows: Rows, size: Size, canvas: Canvas) -> None:
    canvas.suptitle(f"Evidence for the likelier class, out of fold, and radiologists' boxes: {len(rows)} drawn by lot")
    grid = canvas.subplots(3, -(-_MAPS // 3), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, rows.tolist(), strict=False):
        target = int(judge.outcome.probabilities[row, :2].argmax())
        _draw_map(axes, judge.entries[row], judge.outcome.evidence[row, ..., target].astype(np.float32), size)


def _draw_map(axes: Axes, entry: Entry, places: NDArray[np.float32], size: Size) -> None:
    """Draw the map of one image without the image, in shares of the image's sides."""
    image = size_of(entry)
    content = content_of(image, size, "letterbox")
    left, top = -content.left / content.width, -content.top / content.height
    right, bottom = left + size[1] / content.width, top + size[0] / content.height
    axes.imshow(places, cmap="inferno", vmin=-4, vmax=4, extent=(left, right, bottom, top), interpolation="bilinear")
    for box in entry.boxes:
        corner = (box.x - box.width / 2, box.y - box.height / 2)
        axes.add_patch(Rectangle(corner, box.width, box.height, fill=False, edgecolor="#4fd1ff"))
    axes.set(xlim=(0, 1), ylim=(1, 0), aspect=image[0] / image[1])


def confusion(judge: Judge) -> Sequence[tuple[str, tuple[int, int, int]]]:
    """Count the answers fisura, fractura and rejected for each kind of image."""
    kinds = [(name, judge.labels == name) for name in ("fisura", "fractura", "fracture_untyped", "normal")]
    kinds += [("other, medical", judge.medical), ("other, photograph", judge.other & ~judge.medical)]
    accepted, fisura = judge.outcome.accepted, judge.kind > 0
    answers = (accepted & fisura, accepted & ~fisura, ~accepted)
    return [(name, tuple(int((chosen & answer).sum()) for answer in answers)) for name, chosen in kinds]  # type: ignore[misc]
