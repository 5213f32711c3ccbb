"""How many films to label: plays `training.adapt` at hospitals that a network never saw. `python -m training.simulate`.

Needs no network, only archived scores: of networks trained without the hospital, and the thumbnails' features. Some of
its films are drawn as the hospital's own, whole groups at a time; what is adapted to them is judged on all others.
`--choose` compares films that `python -m bulk.choice` picks with films drawn by chance.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from scipy import stats

from training.adaptation import Films, Rows, fit_change, last_kept, try_stages
from training.calibration import PRIOR, Scores, fit_calibration, sigmoid
from training.manifest import Entry, add_data_argument, read_manifest, take
from training.metrics import Bools, Floats, auc, calibration_error, share
from training.outcome import load_features, load_split
from training.splits import left_out_splits
from training.train import SCORES

HOSPITALS: Final = ("multan_wrist", "fracatlas")
OWN_FILMS: Final = (20, 50, 100, 200)
DRAWS: Final = 5
LEAST_LEFT: Final = 60  # films to judge
SENSITIVITY: Final = 0.9
PICTURE: Final = Path("docs/images/adapt.png")

Pick = Callable[[Films, int, int], Rows]


@dataclass(frozen=True)
class Quality:
    """How well log-odds tell fractured films from normal ones, and whether the probabilities mean what they state."""

    auc: float
    normal_rejected: float  # at 90 % sensitivity
    calibration_error: float  # at the hospital's own prevalence


@dataclass(frozen=True)
class Play:
    """One draw of own films: what the network was worth on all others, before and after, and the stage kept."""

    before: Quality
    after: Quality
    stage: str


def load_hospital(folder: Path, entries: Sequence[Entry], name: str) -> Films:
    """Return a hospital's limb bones as a network answers them that saw nothing of it.

    The log-odds are calibrated on the sources that other splits left out. Raise TrainingError.
    """
    names = [split.name for split in left_out_splits(entries) if (folder / f"{split.name}.plain.npz").exists()]
    parts = {split: load_split(folder, split) for split in names}
    elsewhere = [part for split, part in parts.items() if split != f"without_{name}"]
    rows = np.concatenate([part["rows"] for part in elsewhere])
    known, kind = (np.concatenate([part[key] for part in elsewhere]).astype(float) for key in ("known", "type"))
    nothing = np.zeros(len(rows))
    line = fit_calibration(Scores(known, kind, nothing, nothing), take(entries, rows)).known
    own = parts[f"without_{name}"]
    here = np.array([entry.source == name and entry.label != "other" for entry in take(entries, own["rows"])])
    bones = take(entries, own["rows"][here])
    return Films(
        own["known"][here].astype(float) * line.scale + line.bias,
        load_features(folder)[own["rows"][here]].astype(float),
        np.array([entry.is_fractured for entry in bones]),
        np.array([entry.group for entry in bones]),
    )


def play(films: Films, own: Rows, judged: Rows) -> Play:
    """Adapt to a hospital's own films and judge on others."""
    mine, others = films.take(own), films.take(judged)
    stage = last_kept(try_stages(mine)).stage
    after = fit_change(mine, stage).apply(others)
    return Play(measure(others.logit, others.fractured), measure(after, others.fractured), stage)


def measure(logit: Floats, fractured: Bools) -> Quality:
    """Judge log-odds that were calibrated for the prior."""
    cut = np.quantile(logit[fractured], 1 - SENSITIVITY, method="lower")
    prevalence = fractured.mean()
    shift = np.log(prevalence / (1 - prevalence) * PRIOR["none"] / (1 - PRIOR["none"]))
    error = calibration_error(sigmoid(logit + shift), fractured)
    return Quality(auc(logit, fractured), share(logit[~fractured] < cut), error)


def draw_groups(films: Films, count: int, draw: int) -> Rows:
    """Draw whole groups until there are so many films."""
    order = np.random.default_rng(draw).permutation(np.unique(films.groups))
    sizes = np.cumsum([(films.groups == group).sum() for group in order])
    drawn = order[: int(np.searchsorted(sizes, count)) + 1]
    return np.flatnonzero(np.isin(films.groups, drawn))


def choose_in_bulk(films: Films, count: int, draw: int) -> Rows:  # noqa: ARG001 the choice is the same in each draw
    """Pick films as `python -m bulk --choose` does, by a table like its own. Unfamiliarity has no say here."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "table.csv")
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "group", "noneProbability", "certainty", "error"])
            none = 100 * (1 - sigmoid(films.logit))
            writer.writerows([row, films.groups[row], none[row], "", ""] for row in range(len(films)))
        command = [sys.executable, "-m", "bulk.choice", str(table), str(count)]
        found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return np.array(found.stdout.split(), np.intp)


def learn_curve(films: Films) -> Iterator[tuple[int, list[Play]]]:
    """Yield, for each number of own films that leaves enough to judge, one play a draw."""
    for count in OWN_FILMS:
        if len(films) - count >= LEAST_LEFT:
            owns = [draw_groups(films, count, draw) for draw in range(DRAWS)]
            yield count, [play(films, own, np.setdiff1d(np.arange(len(films)), own)) for own in owns]


def compare_choices(films: Films, count: int) -> dict[str, list[Play]]:
    """Play with films picked from one half of the groups, and judge on the other half: chosen, and by chance."""
    plays: dict[str, list[Play]] = {"chosen": [], "by chance": []}
    for draw in range(DRAWS):
        pool = draw_groups(films, len(films) // 2, draw)
        judged, archive = np.setdiff1d(np.arange(len(films)), pool), films.take(pool)
        picks: dict[str, Pick] = {"chosen": choose_in_bulk, "by chance": _draw_films}
        for name, pick in picks.items():
            plays[name].append(play(films, pool[pick(archive, count, draw)], judged))
    return plays


def show_plays(plays: Sequence[Play]) -> str:
    """Return a row of the table: each figure before and after, what was gained with its interval, the stages kept."""
    cells = []
    for name in (field.name for field in fields(Quality)):
        before, after = (np.array([getattr(getattr(one, side), name) for one in plays]) for side in ("before", "after"))
        low, high = interval(after - before)
        cells.append(f"{before.mean():.3f} → {after.mean():.3f} ({low:+.3f} to {high:+.3f})")
    stages = ", ".join(f"{stage} {count}" for stage, count in Counter(one.stage for one in plays).most_common())
    return " | ".join([*cells, stages])


def interval(values: Floats) -> tuple[float, float]:
    """Return the 95 % interval of the mean over draws, by Student's t."""
    reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


def draw_picture(curves: dict[str, list[tuple[int, list[Play]]]], path: Path) -> None:
    """Plot AUC and normal films rejected against the number of own films, before and after."""
    from matplotlib.figure import Figure  # noqa: PLC0415 slow to import

    titles = {"auc": "fractured against normal, AUC", "normal_rejected": "normal rejected at 90 % sensitivity"}
    figure = Figure((9, 3.6), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for colour, (hospital, curve) in zip(("#b3202c", "#1f5fa8"), curves.items(), strict=False):
            counts = [count for count, _ in curve]
            gained = [np.array([getattr(p.after, name) - getattr(p.before, name) for p in plays]) for _, plays in curve]
            start = float(np.mean([getattr(p.before, name) for _, plays in curve for p in plays]))
            ends = np.array([interval(gain) for gain in gained]) + start
            means = [start, *(start + gain.mean() for gain in gained)]
            axes.plot([0, *counts], means, "o-", color=colour, label=hospital)
            axes.vlines(counts, ends[:, 0], ends[:, 1], color=colour, alpha=0.5)
        axes.set(title=title, xlabel="own films labelled", xticks=(0, *OWN_FILMS))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
    figure.savefig(path, dpi=130)


def _draw_films(films: Films, count: int, draw: int) -> Rows:
    return np.random.default_rng(draw).choice(len(films), count, replace=False)


def main() -> None:
    """Print the table of each hospital, and draw the picture; or compare ways to choose."""
    parser = argparse.ArgumentParser("python -m training.simulate", description=__doc__.split("\n")[0])
    add_data_argument(parser)
    parser.add_argument("--scores", type=Path, default=SCORES / "places", help="folder of archived scores")
    parser.add_argument("--choose", action="store_true", help="compare chosen films with films drawn by chance")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    chosen = parser.parse_args()
    entries = read_manifest(chosen.data)
    curves: dict[str, list[tuple[int, list[Play]]]] = {}
    heads = "AUC", "normal rejected at 90 % sensitivity", "calibration error"
    for name in HOSPITALS:
        films = load_hospital(chosen.scores, entries, name)
        groups = len(np.unique(films.groups))
        print(f"\n{name}: {len(films)} films, {films.fractured.sum()} fractured, {groups} groups\n")
        print(f"| own films | {' | '.join(f'{head}, before → after (gain, 95 %)' for head in heads)} | kept |")
        print("| --- " * 5 + "|")
        if chosen.choose:
            count = 50 if len(films) < 4 * max(OWN_FILMS) else 100
            for way, plays in compare_choices(films, count).items():
                print(f"| {count} {way} | {show_plays(plays)} |", flush=True)
            continue
        curves[name] = []
        for count, plays in learn_curve(films):
            print(f"| {count} | {show_plays(plays)} |", flush=True)
            curves[name].append((count, plays))
    if curves:
        draw_picture(curves, chosen.picture)


if __name__ == "__main__":
    main()
