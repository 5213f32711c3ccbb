"""Says how good a model is on labelled films of your own: `python -m training.judge --help`.

Any model that the service takes, loaded, decoded and judged by the service's own code, with the settings that the
environment states. Written to `--out`: `report.html`, `report.md` with its pictures, `report.json`, and `films.csv`,
every film with its answer.
"""

import argparse
import csv
import json
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from config import ConfigError
from model_loader import ModelError
from training.errors import TrainingError, run_command
from training.judge_pictures import draw_pictures
from training.judge_report import TOO_FEW, Judged, describe_point, present
from training.judgement import Aim, Answers, Labels, find_operating_point
from training.manifest import Entry, read_labelled
from training.report import Section, write_report
from training.scoring import open_model, score_films

DEFAULT_POINTS: Final = (0.80, 0.90, 0.95)


def judge_folder(options: argparse.Namespace) -> Judged:
    """Load the models, score the films. Raise ConfigError, ModelError or TrainingError."""
    models = [open_model(options.model), *([open_model(options.against)] if options.against else [])]
    class_names = models[0].classifier.class_names
    if any(model.classifier.class_names != class_names for model in models):
        raise TrainingError("The two models name other classes; set BONE_CLASS_NAMES where they mean the same.")
    entries = read_labelled(options.folder, class_names, must_exist=False)
    _check_columns(entries, options.by)
    found = list(zip(entries, score_films(models, entries), strict=True))
    unreadable = [(entry, answers) for entry, answers in found if isinstance(answers, str)]
    read = [(entry, answers) for entry, answers in found if not isinstance(answers, str)]
    if options.unseen:
        read = [(entry, answers) for entry, answers in read if not any(answer.is_learnt for answer in answers)]
    labels = Labels([entry for entry, _ in read], class_names)
    if not labels.bone.any():
        raise TrainingError(_why_nothing(unreadable, len(entries)))
    answers = [Answers(model.classifier, [a[index] for _, a in read]) for index, model in enumerate(models)]
    points = [find_operating_point(labels, answers[0], aim, share) for aim, share in _wanted_points(options)]
    names = ["this model", "the other"] if len(models) > 1 else [models[0].path.name]
    return Judged(
        options.folder,
        models,
        names,
        labels,
        answers,
        [a[0] for _, a in read],
        unreadable,
        points,
        bool(options.sensitivity or options.specificity or options.false_alarms),
        options.prevalence,
        options.by,
    )


def _wanted_points(options: argparse.Namespace) -> list[tuple[Aim, float]]:
    rejecting = [*options.specificity, *(1 - share for share in options.false_alarms)]
    asked = bool(options.sensitivity or rejecting)
    found, refused = (options.sensitivity, rejecting) if asked else (DEFAULT_POINTS, DEFAULT_POINTS)
    return [*(("sensitivity", share) for share in found), *(("specificity", share) for share in refused)]


def _check_columns(entries: Sequence[Entry], wanted: Sequence[str]) -> None:
    columns = entries[0].columns
    for name in wanted:
        if name not in columns:
            raise TrainingError(f"There is no column {name}; the manifest has {', '.join(columns) or 'none'}.")


def _why_nothing(unreadable: Sequence[tuple[Entry, str]], count: int) -> str:
    if len(unreadable) == count:
        first, reason = unreadable[0]
        return f"None of the {count} films can be read; {first.path}: {reason}."
    return "There are no films left that show a bone, fractured or normal: nothing can be judged."


def _write_films(path: Path, judged: Judged) -> None:
    """Write every film with its label and its answer, those that could not be read with the reason."""
    names = judged.models[0].classifier.class_names
    outputs = [*(f"output_{name}" for name in names), *(["output_none"] if judged.answers[0].has_none else [])]
    header = ["path", "label", "group", "accepted", "class", "confidence", *outputs]
    header += ["possible", "certainty", "familiarity", "learntFrom", "error"]
    with path.open("w", encoding="utf-8", newline="", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for entry, answer in zip(judged.labels.entries, judged.raw, strict=True):
            verdict = answer.verdict
            row = [entry.path, entry.label, entry.group, int(verdict.accepted), names[verdict.best]]
            row += [verdict.confidence / 10_000, *(f"{output:.6f}" for output in answer.outputs)]
            familiarity = f"{answer.familiarity:.6f}" if np.isfinite(answer.familiarity) else ""
            row += [" ".join(verdict.possible or ()), verdict.certainty, familiarity, int(answer.is_learnt), ""]
            writer.writerow(row)
        for entry, reason in judged.unreadable:
            writer.writerow([entry.path, entry.label, entry.group, *[""] * (len(header) - 4), reason])


def _summarise(judged: Judged, facts: dict[str, Any], out: Path) -> Iterator[str]:
    figures = facts["figures"]
    for key, name in (
        ("sensitivity", "sensitivity"),
        ("specificity", "specificity"),
        ("fracture_auc", "AUC, fractured against normal"),
        ("type_auc", "AUC of the type"),
    ):
        if key in figures:
            figure = figures[key]
            shown = TOO_FEW if figure["value"] is None else _in_brackets(figure)
            yield f"{name:40}{shown}, n {figure['films']}"
    for point in judged.points if judged.were_asked else ():
        wanted, shown, *_ = describe_point(point)
        setting = f"BONE_CONFIDENCE_THRESHOLD={point.threshold.value:.4f}" if point.threshold else shown
        yield f"{wanted:40}{setting}"
    if known := facts["learntFrom"]:
        yield f"Warning: the model learnt from {known:,} of these films; leave them out with --unseen."
    if judged.unreadable:
        yield f"Left out, since they could not be read: {len(judged.unreadable):,}; the report lists them."
    yield f"{out / 'report.html'}, report.md, report.json, films.csv"


def _in_brackets(figure: dict[str, Any]) -> str:
    low, high = (float("nan") if edge is None else edge for edge in figure["interval95"])
    return f"{figure['value']:.3f} ({low:.3f} to {high:.3f})"


def _share_argument(text: str) -> float:
    share = float(text)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1")
    return share


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m training.judge", description="Judge a model on labelled films.")
    text = "folder with manifest.csv, another .csv, or a folder with one subfolder for each label"
    parser.add_argument("folder", metavar="FOLDER", type=Path, help=text)
    parser.add_argument("--model", type=Path, help="a .h5 (default: what the service would load)")
    parser.add_argument("--against", type=Path, metavar="B.H5", help="compare with this model on the same films")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder for the report (default: report)")
    text = "share of fractured films where it is to be used, for predictive values (default: that of these films)"
    parser.add_argument("--prevalence", type=_share_argument, metavar="SHARE", help=text)
    for name, wanted in (
        ("--sensitivity", "this sensitivity, such as 0.9"),
        ("--specificity", "this specificity"),
        ("--false-alarms", "this share of false alarms among normal films"),
    ):
        text = f"find the threshold for {wanted}; may be repeated"
        parser.add_argument(name, type=_share_argument, action="append", default=[], metavar="SHARE", help=text)
    text = "figures for each value of this column of the manifest; may be repeated"
    parser.add_argument("--by", action="append", default=[], metavar="COLUMN", help=text)
    parser.add_argument("--unseen", action="store_true", help="leave out films that a model learnt from")
    return parser.parse_args(arguments)


def judge(options: argparse.Namespace) -> None:
    """Judge a model and write the report. Raise ConfigError, ModelError or TrainingError."""
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot write to {options.out}: {error.strerror}") from None
    judged = judge_folder(options)
    sections, facts = present(judged)
    pictures = draw_pictures(judged.labels, dict(zip(judged.names, judged.answers, strict=True)))
    shown = [_with_pictures(section, pictures) for section in sections]
    write_report(options.out, f"How good is {judged.models[0].path.name} on these films?", shown, pictures)
    (options.out / "report.json").write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    _write_films(options.out / "films.csv", judged)
    for line in _summarise(judged, facts, options.out):
        print(line)


def _with_pictures(section: Section, pictures: dict[str, bytes]) -> Section:
    there = [name for name in section.pictures if name in pictures]
    return Section(**(vars(section) | {"pictures": there}))


def main() -> int:
    """Judge; return the exit code."""
    options = parse()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    warnings.filterwarnings("ignore", module=r"PIL\b")  # as the service does: decode mends or refuses
    return run_command(lambda: judge(options), ConfigError, ModelError)


if __name__ == "__main__":
    sys.exit(main())
