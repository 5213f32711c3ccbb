"""Puts into words what was found of a judged folder: the sections of the report, and the same as JSON types."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from training.judgement import (
    MIN_FILMS,
    Answers,
    Figure,
    Labels,
    OperatingPoint,
    compare,
    judge_model,
    judge_parts,
    list_thresholds,
    perfect_calibration_error,
)
from training.manifest import Entry
from training.metrics import Estimate
from training.report import Section
from training.scoring import Answer, Model

TOO_FEW: Final = "too few to say"
DEFAULT_PARTS: Final = ("source", "body_part", "tier")
LISTED: Final = 20  # files that the report names; films.csv holds all
NOT_A_DEVICE: Final = (
    "A research and triage aid, not a medical device. What follows holds for films like these alone: for another "
    "hospital, another camera or another mix of patients, measure again."
)


@dataclass(frozen=True)
class Judged:
    """What was asked, the films that could be read, and each model's answers for them; what could not, by reason."""

    folder: Path
    models: Sequence[Model]
    names: Sequence[str]
    labels: Labels
    answers: Sequence[Answers]
    raw: Sequence[Answer]
    unreadable: Sequence[tuple[Entry, str]]
    points: Sequence[OperatingPoint]
    were_asked: bool  # whether the operator asked for these points
    prevalence: float | None
    columns: Sequence[str]


def present(judged: Judged) -> tuple[list[Section], dict[str, Any]]:
    """Return the report's sections, and the same as JSON types."""
    labels, answers = judged.labels, judged.answers[0]
    figures = judge_model(labels, answers, judged.prevalence)
    columns = [*dict.fromkeys([*_default_columns(labels), *judged.columns])]
    parts = {column: list(judge_parts(labels, answers, column)) for column in columns}
    thresholds = list(list_thresholds(labels, answers))
    ahead = list(compare(labels, *judged.answers)) if len(judged.answers) > 1 else []
    perfect = perfect_calibration_error(labels, answers) if answers.has_none else None
    sections = [
        *_warn(judged),
        _describe(judged),
        Section("At the model's threshold", [_threshold_sentence(judged.models[0])], **_lay_out(figures["verdicts"])),
        _present_scores(figures["scores"], perfect, answers),
        _present_points(judged),
        Section(
            "Over all thresholds",
            ["Ten thresholds, each accepting about a tenth of these films fewer than the one before."],
            header=("threshold", "sensitivity", "specificity"),
            rows=[(f"{threshold:.4f}", *map(show, both)) for threshold, *both in thresholds],
            pictures=["thresholds.png"],
        ),
        Section("How certain it says that it is", **_lay_out(figures["certainty"])),
        *(_present_parts(column, found) for column, found in parts.items()),
        *([_present_comparison(judged, ahead)] if ahead else []),
        *_list_unreadable(judged),
        _explain(),
    ]
    facts = {
        "films": dict(labels.counts),
        "groups": len(set(labels.groups)),
        "model": _model_facts(judged.models[0]),
        "prevalence": judged.prevalence,
        "figures": {figure.key: _to_json(figure) for part in figures.values() for figure in part},
        "operatingPoints": [_point_to_json(point) for point in judged.points],
        "thresholds": [
            {"threshold": threshold, "sensitivity": _to_json(found), "specificity": _to_json(refused)}
            for threshold, found, refused in thresholds
        ],
        "parts": {
            column: {name: {figure.key: _to_json(figure) for figure in part} for name, part in found}
            for column, found in parts.items()
        },
        "against": {
            "model": _model_facts(judged.models[1]),
            "ahead": {figure.key: _to_json(figure) for figure in ahead},
        }
        if ahead
        else None,
        "learntFrom": int(answers.is_learnt.sum()),
        "unreadable": [{"path": str(entry.path), "reason": reason} for entry, reason in judged.unreadable],
    }
    return sections, facts


def show(figure: Figure) -> str:
    """Return a figure in words: value, interval, films and groups."""
    if figure.estimate is None:
        return f"{TOO_FEW} (n {figure.films})"
    groups = f", {figure.estimate.groups:,} groups" if figure.estimate.groups != figure.estimate.images else ""
    return f"{_interval(figure.estimate)}, n {figure.estimate.images:,}{groups}"


def _interval(estimate: Estimate, digits: int = 3) -> str:
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def _lay_out(figures: Sequence[Figure]) -> dict[str, Any]:
    rows = [(figure.name, show(figure)) for figure in figures]
    return {"header": ("figure", "value (95 % interval)"), "rows": rows}


def _warn(judged: Judged) -> Iterator[Section]:
    """Yield what a reader must know before any figure."""
    sentences = []
    for name, model, answers in zip(judged.names, judged.models, judged.answers, strict=True):
        if known := int(answers.is_learnt.sum()):
            whose = "The model" if len(judged.names) == 1 else name.capitalize()
            sentences.append(
                f"{whose} learnt from {known:,} of these {len(judged.labels.entries):,} films, so the figures flatter "
                "it. Leave them out with `--unseen`. Copies that were saved anew are not recognised."
            )
        if model.classifier.settings["scaling"].source == "default":
            sentences.append(f"The scaling of {model.path.name} was assumed; see docs/models.md.")
    few = min(int(judged.labels.fractured.sum()), int(judged.labels.normal.sum()))
    if few < MIN_FILMS:
        sentences.append(
            f"Fewer than {MIN_FILMS} films of one kind, fractured or normal: most figures cannot be given."
        )
    if sentences:
        yield Section("Before you read on", sentences, is_warning=True)


def _describe(judged: Judged) -> Section:
    labels = judged.labels
    counted = ", ".join(f"{count:,} {name}" for name, count in labels.counts.most_common())
    groups = len(set(labels.groups))
    sentences = [
        NOT_A_DEVICE,
        f"`{judged.folder}`: {len(labels.entries):,} films ({counted}) in {groups:,} groups. "
        + (f"Could not be read and left out: {len(judged.unreadable):,}." if judged.unreadable else ""),
    ]
    rows = [(name, *_model_row(model)) for name, model in zip(judged.names, judged.models, strict=True)]
    return Section(
        "What was judged",
        sentences,
        header=("model", "file", "SHA-256", "version", "threshold", "scaling", "engine"),
        rows=rows,
    )


def _model_row(model: Model) -> tuple[str, ...]:
    facts = _model_facts(model)
    return (
        facts["path"],
        f"{facts['sha256'][:12]}…",
        str(facts["version"] or "–"),
        f"{facts['threshold']:g} ({facts['thresholdSource']})",
        facts["scaling"],
        facts["engine"],
    )


def _model_facts(model: Model) -> dict[str, Any]:
    classifier = model.classifier
    return {
        "path": str(model.path),
        "sha256": classifier.sha256,
        "version": classifier.stated.get("version"),
        "classNames": list(classifier.class_names),
        "threshold": classifier.threshold,
        "thresholdSource": classifier.settings["threshold"].source,
        "scaling": classifier.scaling,
        "engine": classifier.engine,
    }


def _threshold_sentence(model: Model) -> str:
    source = model.classifier.settings["threshold"].source
    where = {"environment": "from the environment", "file": "stated in the file"}.get(source, "the default")
    return (
        f"A film is accepted, answered with a class, where the confidence reaches {model.classifier.threshold:g}, "
        f"{where}; else it is rejected."
    )


def _present_scores(figures: Sequence[Figure], perfect: float | None, answers: Answers) -> Section:
    sentences = ["Whatever the threshold: does it score fractured films higher, and do its probabilities come true?"]
    if perfect is not None:
        sentences.append(
            f"A perfectly calibrated model would have a calibration error of {perfect:.3f}, fractured or not, on as "
            "many films by chance."
        )
    if not answers.has_none:
        sentences.append(
            "The network has no output for none, so the confidence is taken for the score of being fractured."
        )
    pictures = ["roc.png", "calibration.png"]
    return Section("Scores", sentences, pictures=pictures, **_lay_out(figures))


def _present_points(judged: Judged) -> Section:
    rows = [describe_point(point) for point in judged.points]
    lines = [
        f"BONE_CONFIDENCE_THRESHOLD={point.threshold.value:.4f}  # {_wanted(point)}"
        for point in judged.points
        if point.threshold
    ]
    sentences = [
        "The threshold that reaches a wanted share with the least loss of the other. It was chosen on these very "
        "films, so other films will do a little worse: judge it on films set aside."
    ]
    if judged.were_asked and lines:
        sentences.append("For the environment of the service:" if len(lines) == 1 else "For the environment, one of:")
    header = ("wanted", "threshold (95 % interval)", "sensitivity there", "specificity there")
    return Section("Another threshold", sentences, lines if judged.were_asked else (), header, rows)


def describe_point(point: OperatingPoint) -> tuple[str, ...]:
    """Return what was wanted, the threshold, and what it does, in words."""
    wanted = _wanted(point)
    if point.threshold is None or point.sensitivity is None or point.specificity is None:
        reason = f"{TOO_FEW} (n {point.films})" if point.films < MIN_FILMS else "no threshold reaches it"
        return wanted, reason, "–", "–"
    return wanted, _interval(point.threshold, 4), show(point.sensitivity), show(point.specificity)


def _wanted(point: OperatingPoint) -> str:
    alarms = f" (false alarms {_percent(1 - point.wanted)})" if point.aim == "specificity" else ""
    return f"{point.aim} {_percent(point.wanted)}{alarms}"


def _percent(share: float) -> str:
    return f"{round(100 * share, 2):g} %"


def _present_parts(column: str, parts: Sequence[tuple[str, Sequence[Figure]]]) -> Section:
    rows = [(name, *map(show, figures)) for name, figures in parts]
    header = (column, "sensitivity", "specificity", "AUC, fractured against normal")
    return Section(f"By {column}", ["At the model's threshold."], header=header, rows=rows)


def _present_comparison(judged: Judged, ahead: Sequence[Figure]) -> Section:
    this, other = (model.path for model in judged.models)
    sentences = [
        f"`{this}` less `{other}`, each at its own threshold, on the same films; groups are redrawn for both together. "
        "An interval that holds 0 says that these films cannot tell the two apart. Of a calibration error, less is "
        "better."
    ]
    return Section("Against the other model", sentences, **_lay_out(ahead))


def _list_unreadable(judged: Judged) -> Iterator[Section]:
    if judged.unreadable:
        reasons = Counter(reason for _, reason in judged.unreadable)
        counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        rows = [(str(entry.path), entry.label, reason) for entry, reason in judged.unreadable[:LISTED]]
        sentence = f"Files that could not be read, and are in no figure: {counted}."
        yield Section("Left out", [sentence], header=("film", "label", "reason"), rows=rows)


def _explain() -> Section:
    return Section(
        "How to read this",
        [
            "Sensitivity is the share of fractured films that are answered with a class, specificity the share of "
            "normal films that are not; `other` counts for neither. Intervals are 95 %, by bootstrap over groups "
            "(1,000 draws), since films of one patient are alike; near 0 and 1 they reach as far as Wilson's for as "
            f"many groups. What rests on fewer than {MIN_FILMS} films is {TOO_FEW}.",
            "The calibration error is the mean difference between what the model states and what comes true, over 15 "
            "bins of equal count. `possible` lists the names that cannot be excluded at 90 %: it should hold the true "
            "one in nine films of ten. Unfamiliar films differ from what the model learnt from more than 99 % of that "
            "did. Every film's answer is in `films.csv`.",
        ],
    )


def _default_columns(labels: Labels) -> list[str]:
    """Return the usual columns that tell films apart."""
    first = labels.entries[0].columns
    return [
        name for name in DEFAULT_PARTS if name in first and len({entry.columns[name] for entry in labels.entries}) > 1
    ]


def _to_json(figure: Figure) -> dict[str, Any]:
    estimate = figure.estimate
    if estimate is None:
        return {"value": None, "films": figure.films}
    interval = [_finite(estimate.low), _finite(estimate.high)]
    return {"value": estimate.value, "interval95": interval, "films": estimate.images, "groups": estimate.groups}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _point_to_json(point: OperatingPoint) -> dict[str, Any]:
    facts: dict[str, Any] = {"aim": point.aim, "wanted": point.wanted, "films": point.films, "threshold": None}
    if point.threshold and point.sensitivity and point.specificity:
        facts["threshold"] = round(point.threshold.value, 4)
        facts["interval95"] = [point.threshold.low, point.threshold.high]
        facts |= {"sensitivity": _to_json(point.sensitivity), "specificity": _to_json(point.specificity)}
    return facts
