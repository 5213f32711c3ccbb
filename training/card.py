"""Writes MODEL_CARD.md from the figures."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

import numpy as np

from training.calibration import (
    MAX_NORMALS_ACCEPTED,
    MAX_OTHERS_ACCEPTED,
    MAX_UNSEEN_NORMALS_ACCEPTED,
    PRIOR,
)
from training.conformal import COVERAGE
from training.figures import COLUMNS, Column, Figure, Judge
from training.manifest import LABELS, Entry
from training.metrics import Estimate
from training.outcome import Run, evidence_scale, fit
from training.recipe import Recipe
from training.splits import plan_left_out

_TEMPLATE: Final = Path(__file__).with_name("card_template.md")
# By figure; what is stated is the share itself.
_SENTENCES: Final = {
    "fractured_accepted_mean": "Of 100 films with a fracture it answers {part} with a class; it misses the rest.",
    "normal_rejected_mean": "Of 100 films without one it refuses {part}; the rest are false alarms.",
    "fracture_auc_mean": (
        "Of a film with a fracture and one without, it scores the former higher in {part} of 100 pairs (50 is chance)."
    ),
    "type_auc_mean": "Of a fisura and a fractura, it tells which is which in {part} of 100 pairs (50 is chance).",
    "overconfident_mean": "Of 100 films without a fracture, {part} get a probability of one above 90 %.",
}
_NOT_MEASURED: Final = "Not measured for this network."


@dataclass(frozen=True)
class Sections:
    """The figures, by the section of the card they stand in."""

    first: Sequence[Figure]
    calibration: Sequence[Figure]
    regions: Sequence[Figure]
    damages: Sequence[Figure]
    parts: Sequence[Figure]


@dataclass(frozen=True)
class Shipped:
    """What the file ships: the split whose network it is, and the manifest's SHA-256."""

    split: str
    data_version: str


def render_card(judge: Judge, run: Run, sections: Sections, recipe: Recipe, shipped: Shipped) -> str:
    """Return the model card, Markdown."""
    facts = {
        **_facts(judge, recipe),
        "data_version": shipped.data_version,
        "learnt_from": _learnt_from(shipped.split),
        **_fitted(judge, run),
        **{name: table(getattr(sections, name)) for name in Sections.__dataclass_fields__},
        "in_words": "\n".join(f"- {line}" for line in describe(sections.first)) or _NOT_MEASURED,
        "missed": "\n".join(f"- {line}" for line in list_missed([*sections.first, *sections.regions])) or "None.",
    }
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(facts)


def table(figures: Iterable[Figure]) -> str:
    """Lay figures out as a table: value, interval, n of films and groups, and the aim, by column."""
    figures = list(figures)
    columns = [column for column in COLUMNS if any(column in figure.estimates for figure in figures)]
    if not columns:
        return _NOT_MEASURED
    lines = [
        f"| figure | {' | '.join(COLUMNS[column] for column in columns)} |",
        "| --- " * (len(columns) + 1) + "|",
    ]
    for figure in figures:
        cells = (_cell(figure, column) for column in columns)
        lines.append(f"| {figure.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def describe(figures: Sequence[Figure]) -> Iterator[str]:
    """Yield in words what the network does on a hospital that it never saw: mean and range over sources left out."""
    found = {figure.key: figure.estimates["left_out"] for figure in figures if "left_out" in figure.estimates}
    for key, sentence in _SENTENCES.items():
        by_source = [found[name].value for name in found if name.startswith(key.removesuffix("mean")) and name != key]
        if key in found and by_source:
            mean = found[key]
            part, low, high, least, most = (
                round(100 * value) for value in (mean.value, mean.low, mean.high, min(by_source), max(by_source))
            )
            counted = f"95 % interval {low} to {high}; by source {least} to {most}; n {mean.images:,}"
            yield f"{sentence.format(part=part)} ({counted})"


def list_missed(figures: Iterable[Figure]) -> Iterator[str]:
    """Yield the aims that were missed."""
    for figure in figures:
        for column, aim in figure.aims.items():
            estimate = figure.estimates.get(column)
            if estimate and aim.compare(estimate) == "missed":
                sign = "at most" if aim.at_most else "at least"
                yield f"{figure.name}, {COLUMNS[column]}: {estimate.value:.3f}, aim {sign} {aim.value:.2f}."


def _cell(figure: Figure, column: Column) -> str:
    estimate, aim = figure.estimates.get(column), figure.aims.get(column)
    if estimate is None:
        return "–"
    text = f"**{estimate.value:.3f}** ({_interval(estimate)}; n {estimate.images:,} / {estimate.groups:,})"
    if aim is None:
        return text
    return f"{text}, aim {'≤' if aim.at_most else '≥'} {aim.value:.2f} {aim.compare(estimate)}"


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.3f} to {estimate.high:.3f}"


def _facts(judge: Judge, recipe: Recipe) -> Mapping[str, str]:
    bones = [entry for entry in judge.entries if entry.label != "other"]
    return {
        "architecture": recipe.description,
        "recipe": _recipe(recipe),
        "data_size": f"{len(judge.entries):,} images in {len(set(judge.groups)):,} groups",
        "data_table": _data_table(judge.entries),
        "sources": str(len(set(judge.sources.tolist()))),
        "folds": str(len({entry.fold for entry in judge.entries})),
        "judged": _judged(judge),
        "left_out_splits": _left_out(judge.entries),
        "prior": ", ".join(f"{name} {share:.0%}" for name, share in PRIOR.items()),
        "normals_limit": f"{MAX_NORMALS_ACCEPTED:.0%}",
        "others_limit": f"{MAX_OTHERS_ACCEPTED:.0%}",
        "unseen_limit": f"{MAX_UNSEEN_NORMALS_ACCEPTED:.0%}",
        "coverage": f"{COVERAGE:.0%}",
        "body_unknown": f"{sum(not entry.body_part for entry in bones):,}",
        "heatmap_picture": "![Heat maps](docs/images/heatmaps.png)" if any(entry.boxes for entry in bones) else "",
    }


def _fitted(judge: Judge, run: Run) -> Mapping[str, str]:
    fitted = fit(run, judge.entries, np.ones(len(judge.entries), bool))
    low, high = evidence_scale(run, judge.entries)
    thresholds = {
        column: ", ".join(f"{value:.3f}" for value in np.unique(answers.thresholds[answers.judged]))
        for column, answers in judge.answers.items()
    }
    return {
        "threshold": f"{fitted.threshold:.3f}",
        "fold_thresholds": thresholds["folds"],
        "left_out_thresholds": thresholds.get("left_out", "none"),
        "quantiles": ", ".join(f"{name} {value:.3f}" for name, value in fitted.quantiles.items()),
        "evidence_scale": f"{low:g} to {high:g}",
    }


def _judged(judge: Judge) -> str:
    """Say which folds and how many films of sources left out were judged."""
    folds = np.array([entry.fold for entry in judge.entries])
    judged = [str(fold) for fold in np.unique(folds[judge.answers["folds"].judged])]
    unseen = int(judge.answers["left_out"].judged.sum()) if "left_out" in judge.answers else 0
    return (
        f"Of {len(np.unique(folds))} folds, {len(judged)} were trained and judged ({', '.join(judged)}); "
        f"of {len(judge.entries):,} images, {unseen:,} were judged with their source left out."
    )


def _learnt_from(split: str) -> str:
    if split == "all":
        return "all films; what is measured are networks trained by the same recipe on fewer"
    return f"all films but those of {split.replace('_', ' ')}, and is itself the network measured on that fold"


def _left_out(entries: Sequence[Entry]) -> str:
    plan = plan_left_out(entries)
    if not plan:
        return "This manifest holds too few sources: none could be left out."
    return "\n".join(f"- without {', '.join(sources)}" for sources in plan.values())


def _data_table(entries: Sequence[Entry]) -> str:
    counts = Counter((entry.source, entry.dataset, entry.licence, entry.label) for entry in entries)
    lines = ["| source | data set | licence | " + " | ".join(LABELS) + " |", "| --- " * (len(LABELS) + 3) + "|"]
    for source, dataset, licence in sorted({(entry.source, entry.dataset, entry.licence) for entry in entries}):
        numbers = (f"{counts[source, dataset, licence, label] or ''}" for label in LABELS)
        lines.append(f"| {source} | {dataset} | {licence} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def _recipe(recipe: Recipe) -> str:
    phases = "; ".join(
        f"{phase.name}: {phase.epochs} epochs of {phase.steps_per_epoch} steps, learning rate {phase.learning_rate:g}, "
        f"{phase.patches} parts of films, {phase.pairs} pairs and {phase.typed} typed films a step"
        for phase in recipe.phases
    )
    optimizer = (
        f"AdamW with cosine decay and weight decay {recipe.weight_decay:g}; a running mean of the weights is kept"
    )
    return f"Recipe `{recipe.name}`: {recipe.side} x {recipe.side} px, grey, letterboxed. {phases}. {optimizer}."
