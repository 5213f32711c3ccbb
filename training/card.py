"""Writes MODEL_CARD.md from the figures."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from training.calibration import (
    MAX_NORMALS_ACCEPTED,
    MAX_OTHERS_ACCEPTED,
    choose_threshold,
    confidence,
    fit_calibration,
    prior,
)
from training.figures import Figure, Judge
from training.manifest import LABELS, Entry
from training.pictures import confusion
from training.recipe import Recipe

_TEMPLATE: Final = Path(__file__).with_name("card_template.md")


@dataclass(frozen=True)
class Sections:
    """The figures, by the section of the card they stand in."""

    headline: Sequence[Figure]
    calibration: Sequence[Figure]
    heatmap: Sequence[Figure]
    robustness: Sequence[Figure]
    transfer: Sequence[Figure]
    parts: Sequence[Figure]


def render_card(judge: Judge, sections: Sections, recipe: Recipe, split: str, data_version: str) -> str:
    """Return the model card, Markdown; `split` is the one whose heads the file ships."""
    facts = {
        **_facts(judge, recipe, data_version),
        "learned_from": _learned_from(split),
        **_tables(sections),
        "failures": _failures(judge, sections),
    }
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(facts)


def file_threshold(judge: Judge) -> float:
    """Return the threshold that the file states: chosen on all folds' answers."""
    calibration = fit_calibration(judge.outcome.raw, judge.entries)
    return choose_threshold(confidence(calibration.apply(judge.outcome.raw)), judge.entries)


def table(figures: Iterable[Figure]) -> str:
    """Lay figures out as a table: value, interval, counts, aim."""
    figures = list(figures)
    if not figures:
        return "Not measured for this network."
    lines = [
        "| figure | split | value | 95 % interval | images | groups | aim |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *(_line(figure) for figure in figures)])


def _line(figure: Figure) -> str:
    estimate = figure.estimate
    cells = [figure.name, figure.split, f"{estimate.value:.3f}", f"{estimate.low:.3f} to {estimate.high:.3f}"]
    return "| " + " | ".join([*cells, f"{estimate.images:,}", f"{estimate.groups:,}", _aim(figure)]) + " |"


def _aim(figure: Figure) -> str:
    if figure.aim is None:
        return ""
    return f"{'≤' if figure.at_most else '≥'} {figure.aim:.2f}, {'met' if figure.is_met else 'missed'}"


def _tables(sections: Sections) -> Mapping[str, str]:
    return {name: table(getattr(sections, name)) for name in Sections.__dataclass_fields__}


def _facts(judge: Judge, recipe: Recipe, data_version: str) -> Mapping[str, str]:
    shares = ", ".join(f"{name} {share:.1%}" for name, share in prior(judge.entries).items())
    thresholds = sorted(set(judge.outcome.thresholds.tolist()))
    bones = [entry for entry in judge.entries if entry.label != "other"]
    return {
        "architecture": recipe.description,
        "threshold": f"{file_threshold(judge):.3f}",
        "data_size": f"{len(judge.entries):,} images in {len(set(judge.groups)):,} groups",
        "data_version": data_version,
        "data_table": _data_table(judge.entries),
        "folds": str(len({entry.fold for entry in judge.entries})),
        "prior": shares,
        "normals_limit": f"{MAX_NORMALS_ACCEPTED:.0%}",
        "others_limit": f"{MAX_OTHERS_ACCEPTED:.0%}",
        "fold_thresholds": ", ".join(f"{threshold:.3f}" for threshold in thresholds),
        "body_unknown": f"{sum(not entry.body_part for entry in bones):,}",
        "heatmap_picture": "![Heat maps](docs/images/heatmaps.png)" if any(entry.boxes for entry in bones) else "",
        "recipe": _recipe(recipe),
    }


def _learned_from(split: str) -> str:
    if split == "all":
        return "all images; what is measured is the networks of the folds, which learned by the same recipe from less"
    held = split.removeprefix("fold_")
    return f"all images but those of fold {held}, and is one of the networks measured here"


def _data_table(entries: Sequence[Entry]) -> str:
    counts = Counter((entry.dataset, entry.licence, entry.label) for entry in entries)
    lines = ["| data set | licence | " + " | ".join(LABELS) + " |", "| --- " * (len(LABELS) + 2) + "|"]
    for dataset, licence in sorted({(entry.dataset, entry.licence) for entry in entries}):
        numbers = (f"{counts[dataset, licence, label] or ''}" for label in LABELS)
        lines.append(f"| {dataset} | {licence} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def _recipe(recipe: Recipe) -> str:
    size = f"{recipe.size[0]} x {recipe.size[1]} px, grey, letterboxed"
    views = f"{recipe.random_views} random views and the plain and mirrored ones of each image"
    trained = f"trained is everything after the layer `{recipe.trunk_end}`"
    rate = f"AdamW, learning rate {recipe.learning_rate:g} with cosine decay, weight decay {recipe.weight_decay:g}"
    length = f"{recipe.epochs} epochs of batches of {recipe.batch}"
    return f"Recipe `{recipe.name}`: {size}; {views}; {trained}; {rate}; {length}."


def _failures(judge: Judge, sections: Sections) -> str:
    answers = dict(confusion(judge))
    lines = [_missed(name, answers[name]) for name in ("fisura", "fractura", "fracture_untyped")]
    lines += [_alarms(name, answers[name]) for name in ("normal", "other, medical", "other, photograph")]
    lines += [_mistaken(*answers["fisura"]), *_worst_damage(sections.robustness), *_unseen(sections.transfer)]
    return "\n".join(f"- {line}" for line in lines)


def _missed(name: str, counts: tuple[int, int, int]) -> str:
    share = counts[2] / max(1, sum(counts))
    return f"Of {sum(counts)} {name}, {counts[2]} ({share:.0%}) are answered with none of the classes."


def _alarms(name: str, counts: tuple[int, int, int]) -> str:
    fisura, fractura, _ = counts
    share = (fisura + fractura) / max(1, sum(counts))
    images = f"Of {sum(counts)} {name} images, {fisura + fractura} ({share:.1%})"
    return f"{images} are called fisura ({fisura}) or fractura ({fractura})."


def _mistaken(fisura: int, fractura: int, _: int) -> str:
    return f"Of {fisura + fractura} accepted fisura, {fractura} are called fractura."


def _worst_damage(figures: Sequence[Figure]) -> Iterator[str]:
    for figure in sorted(figures, key=lambda figure: -figure.estimate.value)[:3]:
        yield f"Damage that costs most: {figure.name} {figure.estimate.value:.3f}."


def _unseen(figures: Sequence[Figure]) -> Iterator[str]:
    for figure in figures:
        value = figure.estimate.value
        if figure.key == "transfer_mean":
            yield f"On sources that training never saw the type's AUC is {value:.3f} on average."
        if figure.key.startswith("left_out_") and not figure.is_met:
            source = figure.key.removeprefix("left_out_")
            yield f"Of `other` from {source} a network that never saw any of it takes {1 - value:.0%} for fractures."
