"""Judges a finished run and writes what it found: `python -m training.evaluate --help`."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from training.card import Sections, Shipped, render_card
from training.checks import check_training, claim_folder
from training.errors import run_command
from training.figures import (
    COLUMNS,
    Column,
    Figure,
    Judge,
    calibration_figures,
    damage_figures,
    first_figures,
    part_figures,
    region_figures,
)
from training.manifest import Entry, add_data_argument, digest_manifest, read_manifest
from training.metrics import Estimate
from training.outcome import Answers, Run, answer_folds, answer_left_out, evidence_scale, load_answers, load_run
from training.pictures import draw_all
from training.recipe import RECIPES
from training.splits import find_split
from training.train import SCORES

BEFORE = Path("training/scores/before.npz")  # what the network before this one answered


def quality(figures: Iterable[Figure]) -> dict[str, Any]:
    """Return the figures that travel inside the file, sources left out first: value, interval, n of both kinds."""
    titles: dict[str, tuple[Column, str]] = {
        "sourcesLeftOut": ("left_out", "each source judged by a network that never saw it"),
        "folds": ("folds", "grouped cross-validation: the films are new to the network, their source is not"),
    }
    kept = list(figures)
    return {
        name: {
            "split": split,
            "figures": {figure.key: _shown(figure.estimates[column]) for figure in kept if column in figure.estimates},
        }
        for name, (column, split) in titles.items()
    }


def show(figure: Figure) -> str:
    """Return one figure as one line of text."""
    parts = []
    for column, estimate in figure.estimates.items():
        aim = figure.aims.get(column)
        met = "" if aim is None else f" aim {aim.value} {aim.compare(estimate)}"
        interval = f"{estimate.low:.3f} to {estimate.high:.3f}"
        parts.append(f"{column} {estimate.value:.3f} ({interval}, n {estimate.images}, {estimate.groups} groups){met}")
    return f"{figure.name}: {'; '.join(parts) or 'not measured'}"


def gather_answers(run: Run, entries: Sequence[Entry], before: Path) -> dict[Column, Answers]:
    """Return the answers of every column that there are any for, in the order of the card."""
    answers: dict[Column, Answers] = {"left_out": answer_left_out(run, entries), "folds": answer_folds(run, entries)}
    if before.exists():
        old: dict[Column, Answers] = {
            "left_out_before": load_answers(before, "left_out"),
            "folds_before": load_answers(before, "folds"),
        }
        answers |= {name: kept for name, kept in old.items() if len(kept.probabilities) == len(entries)}
    return {column: answers[column] for column in COLUMNS if column in answers and answers[column].judged.any()}


def compute(judge: Judge, run: Run, scores: Path, side: int) -> Sections:
    """Compute every figure; `side` is that of the network's input."""
    scale = evidence_scale(run, judge.entries)
    return Sections(
        first=list(first_figures(judge)),
        calibration=list(calibration_figures(judge)),
        regions=list(region_figures(judge, run, side, scale)),
        damages=list(damage_figures(judge, scores)),
        parts=list(part_figures(judge)),
    )


def _shown(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": round(estimate.value, 4),
        "interval95": [round(estimate.low, 4), round(estimate.high, 4)],
        "films": estimate.images,
        "groups": estimate.groups,
    }


def evaluate(chosen: argparse.Namespace) -> None:
    """Compute every figure of a run, show them, and write them beside the scores. Raise TrainingError."""
    recipe, entries = RECIPES[chosen.recipe], read_manifest(chosen.data)
    check_training(entries)
    find_split(entries, chosen.split)
    folder, digest = chosen.scores / recipe.name, digest_manifest(chosen.data)
    claim_folder(folder, digest)
    run = load_run(folder, entries)
    judge = Judge(entries, gather_answers(run, entries, chosen.before))
    sections = compute(judge, run, folder, recipe.side)
    figures = [figure for field in fields(sections) for figure in getattr(sections, field.name)]
    (chosen.scores / f"{recipe.name}.figures.json").write_text(json.dumps(quality(figures), indent=1) + "\n")
    travelling = quality([*sections.first, *sections.regions])
    (chosen.scores / f"{recipe.name}.quality.json").write_text(json.dumps(travelling) + "\n")
    for figure in figures:
        print(show(figure))
    if chosen.publish:
        card = render_card(judge, run, sections, recipe, Shipped(chosen.split, digest))
        chosen.publish.mkdir(parents=True, exist_ok=True)
        (chosen.publish / "MODEL_CARD.md").write_text(card, encoding="utf-8")
        draw_all(judge, run, chosen.publish / "docs/images", recipe.side, evidence_scale(run, entries))


def main() -> int:
    """Evaluate a run; return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m training.evaluate", description="Compute the figures of a finished run."
    )
    add_data_argument(parser)
    parser.add_argument("--recipe", choices=RECIPES, default="places")
    parser.add_argument("--scores", type=Path, default=SCORES)
    parser.add_argument("--before", type=Path, default=BEFORE, help="answers of an earlier network, to compare with")
    parser.add_argument("--split", default="all", help="whose network the file ships, as told to export")
    text = "write MODEL_CARD.md and docs/images too, into this folder (default: here)"
    parser.add_argument("--publish", type=Path, nargs="?", const=Path(), metavar="FOLDER", help=text)
    chosen = parser.parse_args()
    return run_command(lambda: evaluate(chosen))


if __name__ == "__main__":
    sys.exit(main())
