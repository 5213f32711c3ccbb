"""Draws what a judged folder's report shows: ROC, calibration, sensitivity and specificity over thresholds."""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from training.judgement import MIN_FILMS, Answers, Labels
from training.metrics import auc

mpl.use("agg")

Draw = Callable[[Labels, Mapping[str, Answers], Axes], None]

_GREY: Final = "#8a8a8a"
_BINS: Final = 8


def draw_pictures(labels: Labels, models: Mapping[str, Answers]) -> dict[str, bytes]:
    """Return PNG files by name; models are told apart by theirs. Without enough films of both kinds there are none."""
    if min(labels.fractured.sum(), labels.normal.sum()) < MIN_FILMS:
        return {}
    first = next(iter(models.values()))
    pictures = {"roc.png": _draw(_draw_roc, labels, models), "thresholds.png": _draw(_draw_thresholds, labels, models)}
    if first.has_none:
        pictures["calibration.png"] = _draw(_draw_calibration, labels, models)
    return pictures


def _draw(draw: Draw, labels: Labels, models: Mapping[str, Answers]) -> bytes:
    canvas = Canvas(figsize=(6.4, 4.8), layout="constrained")
    axes = canvas.subplots()
    draw(labels, models, axes)
    buffer = BytesIO()
    canvas.savefig(buffer, dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _draw_roc(labels: Labels, models: Mapping[str, Answers], axes: Axes) -> None:
    bone = labels.bone
    for name, answers in models.items():
        scores, fractured = answers.fractured[bone], labels.fractured[bone]
        alarms, found, _ = roc_curve(fractured, scores)
        (line,) = axes.plot(alarms, found, label=f"{name}: AUC {auc(scores, fractured):.3f}")
        point = [answers.accepted[films].mean() for films in (labels.normal, labels.fractured)]
        axes.plot(*point, "o", color=line.get_color(), label=f"{name}, at its threshold")
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title="Fractured against normal")
    axes.legend(loc="lower right", fontsize="small")


def _draw_calibration(labels: Labels, models: Mapping[str, Answers], axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", label="perfect")
    for name, answers in models.items():
        if answers.has_none:
            stated, fractured = np.clip(answers.fractured[labels.bone], 0, 1), labels.fractured[labels.bone]
            true, mean = calibration_curve(fractured, stated, n_bins=_BINS, strategy="quantile")
            axes.plot(mean, true, "o-", label=name)
    axes.set(xlabel="P(fractured), as stated", ylabel="share fractured", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("Calibration, bins of equal count")
    axes.legend(loc="upper left", fontsize="small")


def _draw_thresholds(labels: Labels, models: Mapping[str, Answers], axes: Axes) -> None:
    thresholds = np.linspace(0, 1, 501)
    for number, (name, answers) in enumerate(models.items()):
        accepted = answers.confidence[:, None] >= thresholds
        style = ("-", "--")[number]
        axes.plot(thresholds, accepted[labels.fractured].mean(axis=0), f"C0{style}", label=f"{name}: sensitivity")
        axes.plot(thresholds, 1 - accepted[labels.normal].mean(axis=0), f"C1{style}", label=f"{name}: specificity")
    axes.set(xlabel="threshold", ylabel="share of films", title="What a threshold does", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="best", fontsize="small")
