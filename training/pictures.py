"""Draws the pictures of the model card, sources left out beside folds. No film is shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from preprocessing import content_of
from training.figures import Column, Judge
from training.heatmap import size_of
from training.manifest import Entry
from training.metrics import auc
from training.outcome import Answers, Run
from training.splits import Rows

mpl.use("agg")

TITLES: Final[dict[Column, str]] = {"left_out": "Source left out of training", "folds": "Folds: source in training"}

_GREY: Final = "#8a8a8a"
_MAPS: Final = 12  # shown of the films with boxes


def draw_all(judge: Judge, run: Run, folder: Path, side: int, scale: tuple[float, float]) -> None:
    """Write `roc.png`, `reliability.png`, `confusion_matrix.png` and `heatmaps.png`.

    `side` is that of the network's input; `scale` is the evidence that is drawn as strength 0 and as strength 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in (("roc", _draw_roc), ("reliability", _draw_reliability), ("confusion_matrix", _draw_confusion)):
        columns = [column for column in TITLES if column in judge.answers]
        canvas = Canvas(figsize=(6.4 * len(columns), 4.8), layout="constrained")
        for axes, column in zip(canvas.subplots(1, len(columns), squeeze=False).flat, columns, strict=True):
            draw(judge, judge.answers[column], axes)
            axes.set_title(TITLES[column])
        _save(canvas, folder / f"{name}.png")
    boxed = np.flatnonzero(np.array([bool(entry.boxes) for entry in judge.entries]) & np.isfinite(run.strongest))
    if len(boxed):
        canvas = Canvas(figsize=(8, 6.4), layout="constrained")
        _draw_heatmaps(judge, run, np.random.default_rng(0).permutation(boxed)[:_MAPS], side, scale, canvas)
        _save(canvas, folder / "heatmaps.png")


def _save(canvas: Canvas, path: Path) -> None:
    canvas.savefig(path, dpi=110, metadata={"Software": None})


def _draw_roc(judge: Judge, answers: Answers, axes: Axes) -> None:
    curves = [
        (name, answers.fractured, judge.fractured, judge.bone & (judge.sources == name)) for name in judge.clinics
    ]
    curves.append(("fisura against fractura", answers.type, judge.fisura, judge.typed))
    for name, scores, positive, films in curves:
        chosen = films & answers.judged
        if len(np.unique(positive[chosen])) == 2:
            false, true, _ = roc_curve(positive[chosen], scores[chosen])
            axes.plot(false, true, label=f"{name}: AUC {auc(scores[chosen], positive[chosen]):.3f}, n {chosen.sum():,}")
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    axes.legend(loc="lower right", fontsize="small")


def _draw_reliability(judge: Judge, answers: Answers, axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", label="perfect")
    for name in judge.clinics:
        chosen = judge.bone & (judge.sources == name) & answers.judged
        if chosen.any():
            true, stated = calibration_curve(
                judge.fractured[chosen], answers.fractured[chosen], n_bins=8, strategy="quantile"
            )
            axes.plot(stated, true, "o-", label=f"{name}, n {chosen.sum():,}")
    axes.set(xlabel="P(fractured), as stated", ylabel="share fractured", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left", fontsize="small")


def _draw_confusion(judge: Judge, answers: Answers, axes: Axes) -> None:
    rows, columns = confusion(judge, answers), ("fisura", "fractura", "rejected")
    table = np.array([counts for _, counts in rows])
    shares = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if shares[row, column] > 0.6 else "black"
        text = f"{count} ({shares[row, column]:.0%})"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(3), columns)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set(xlabel="answer at the threshold")


def _draw_heatmaps(judge: Judge, run: Run, rows: Rows, side: int, scale: tuple[float, float], canvas: Canvas) -> None:
    canvas.suptitle(f"Evidence of a fracture, out of fold, and radiologists' boxes: {len(rows)} films drawn by lot")
    grid = canvas.subplots(3, -(-_MAPS // 3), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, rows.tolist(), strict=False):
        _draw_map(axes, judge.entries[row], run.evidence[row].astype(np.float32), side, scale)


def _draw_map(axes: Axes, entry: Entry, evidence: NDArray[np.float32], side: int, scale: tuple[float, float]) -> None:
    """Draw the map of one film without the film, in fractions of the film's sides."""
    image = size_of(entry)
    content = content_of(image, (side, side), "letterbox")
    left, top = -content.left / content.width, -content.top / content.height
    right, bottom = left + side / content.width, top + side / content.height
    low, high = scale
    extent = (left, right, bottom, top)
    axes.imshow(evidence, cmap="inferno", vmin=low, vmax=high, extent=extent, interpolation="bilinear")
    for box in entry.boxes:
        corner = (box.x - box.width / 2, box.y - box.height / 2)
        axes.add_patch(Rectangle(corner, box.width, box.height, fill=False, edgecolor="#4fd1ff"))
    axes.set(xlim=(0, 1), ylim=(1, 0), aspect=image[0] / image[1])


def confusion(judge: Judge, answers: Answers) -> Sequence[tuple[str, tuple[int, int, int]]]:
    """Count the answers fisura, fractura and rejected for each kind of image."""
    kinds = [(name, judge.labels == name) for name in ("fisura", "fractura", "fracture_untyped", "normal")]
    kinds += [("other, medical", judge.medical), ("other, photograph", judge.other & ~judge.medical)]
    accepted, fisura = answers.accepted & answers.judged, answers.type > 0
    columns = (accepted & fisura, accepted & ~fisura, answers.judged & ~accepted)
    return [(name, tuple(int((chosen & column).sum()) for column in columns)) for name, chosen in kinds]  # type: ignore[misc]
