"""Judges a finished run and writes what it found: `python -m training.evaluate --help`."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from training.card import Sections, render_card
from training.figures import (
    Figure,
    Judge,
    calibration_figures,
    headline,
    heatmap_figures,
    part_figures,
    robustness_figures,
    transfer_figures,
)
from training.manifest import add_data_argument, digest_manifest, read_manifest
from training.outcome import load_outcome
from training.pictures import draw_all
from training.recipe import RECIPES
from training.train import SCORES


def quality(figures: Sequence[Figure]) -> dict[str, Any]:
    """Return the figures that travel inside the file: value, interval, n of images and of groups."""
    kept = {}
    for figure in figures:
        estimate = figure.estimate
        interval = [round(estimate.low, 4), round(estimate.high, 4)]
        counts = {"images": estimate.images, "groups": estimate.groups}
        kept[figure.key] = {"value": round(estimate.value, 4), "interval_95": interval, **counts}
    return {"split": "grouped 5-fold cross-validation, out of fold", "figures": kept}


def show(figure: Figure) -> str:
    """Return one figure as one line of text."""
    estimate = figure.estimate
    aim = "" if figure.aim is None else f"  aim {figure.aim} {'met' if figure.is_met else 'missed'}"
    interval = f"{estimate.low:.3f} to {estimate.high:.3f}"
    return f"{estimate.value:.3f} ({interval}, n {estimate.images}, {estimate.groups} groups)  {figure.name}{aim}"


def compute(judge: Judge, size: tuple[int, int]) -> Sections:
    """Compute every figure; `size` is the network's input, (height, width)."""
    return Sections(
        headline=list(headline(judge)),
        calibration=list(calibration_figures(judge)),
        heatmap=list(heatmap_figures(judge, size)),
        robustness=list(robustness_figures(judge)),
        transfer=list(transfer_figures(judge)),
        parts=list(part_figures(judge)),
    )


def main() -> None:
    """Compute every figure of a run, show them, and write them beside the scores."""
    parser = argparse.ArgumentParser(description="Compute the figures of a finished run.")
    add_data_argument(parser)
    parser.add_argument("--recipe", choices=RECIPES, default="grid")
    parser.add_argument("--scores", type=Path, default=SCORES)
    parser.add_argument("--publish", action="store_true", help="write MODEL_CARD.md and docs/images too")
    parser.add_argument("--split", default="all", help="whose heads the file ships, as told to export")
    chosen = parser.parse_args()
    recipe, entries = RECIPES[chosen.recipe], read_manifest(chosen.data)
    scores = chosen.scores / recipe.name
    judge = Judge(entries, load_outcome(scores, entries), scores)
    sections = compute(judge, recipe.size)
    figures = [figure for field in fields(sections) for figure in getattr(sections, field.name)]
    (chosen.scores / f"{recipe.name}.figures.json").write_text(json.dumps(quality(figures), indent=1))
    (chosen.scores / f"{recipe.name}.quality.json").write_text(
        json.dumps(quality([*sections.headline, *sections.calibration, *sections.heatmap]))
    )
    for figure in figures:
        print(show(figure))
    if chosen.publish:
        card = render_card(judge, sections, recipe, chosen.split, digest_manifest(chosen.data))
        Path("MODEL_CARD.md").write_text(card, encoding="utf-8")
        draw_all(judge, Path("docs/images"), recipe.size)


if __name__ == "__main__":
    main()
