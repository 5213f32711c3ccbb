"""Makes a manifest that training can use of labelled films: `python -m training.prepare --help`.

From a folder with one subfolder for each label, or a .csv with at least `path` and `label`: every film is decoded once,
what cannot be read or stands there twice is left out and listed, and each group gets a fold.
"""

import argparse
import csv
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from preprocessing import ImageError
from training.checks import NEEDED, check_training
from training.errors import TrainingError, run_command
from training.films import read_film
from training.learnt import hash_film
from training.manifest import MANIFEST, NO_FOLD, Entry, read_labelled

COLUMNS: Final = ("path", "label", "fold", "source", "group", "tier")
SEED: Final = 0


def prepare(named: Path, output: Path, folds: int, source: str | None = None) -> None:
    """Write the manifest and say what it holds. Raise TrainingError."""
    if output.exists():
        raise TrainingError(f"{output} exists already; rename it and name it as the input, or name another --output.")
    entries = list(_leave_out_unusable(read_labelled(named, must_exist=False)))
    if not entries:
        raise TrainingError("None of the films can be read.")
    if source:
        entries = [replace(entry, source=source) for entry in entries]
    if any(entry.fold == NO_FOLD for entry in entries):
        entries = deal_folds(entries, folds)
    _write(output, entries)
    counts = Counter(entry.label for entry in entries)
    print(f"{output}: {len(entries):,} films, {', '.join(f'{n:,} {label}' for label, n in counts.most_common())}")
    try:
        check_training(entries, output.name)
    except TrainingError as error:
        print(f"It will do for judging, not for training:\n{error}")


def deal_folds(entries: Sequence[Entry], folds: int) -> list[Entry]:
    """Deal groups out to folds so that each holds about the same share of every label. Raise TrainingError."""
    groups = [entry.group for entry in entries]
    of_label = {label: {e.group for e in entries if e.label == label} for label in {e.label for e in entries}}
    count = min(folds, *(len(found) for label, found in of_label.items() if label in NEEDED), len(set(groups)))
    if count < 2:
        few = min((label for label in of_label if label in NEEDED), key=lambda label: len(of_label[label]), default="")
        raise TrainingError(f"All films of {few or 'this folder'} are of one group; folds need two groups or more.")
    kinds = [entry.label if len(of_label[entry.label]) >= count else "few" for entry in entries]
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=SEED)
    numbers = np.zeros(len(entries), int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a rare label: it is spread as far as it goes
        for number, (_, held) in enumerate(splitter.split(kinds, kinds, groups)):
            numbers[held] = number
    return [replace(entry, fold=number) for entry, number in zip(entries, numbers.tolist(), strict=True)]


def _leave_out_unusable(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Yield the films that can be decoded, each once, and print the others. Raise TrainingError for two labels."""
    first: dict[bytes, Entry] = {}
    for entry in tqdm(entries, "decode", unit=" films", disable=None):
        try:
            read_film(entry)
            seen = first.setdefault(hash_film(entry.path.read_bytes()), entry)
        except (ImageError, OSError) as error:
            reason = error.code if isinstance(error, ImageError) else "unreadable_file"
            tqdm.write(f"left out: {entry.path}: {reason}")
            continue
        if seen.label != entry.label:
            raise TrainingError(
                f"{seen.path} and {entry.path} are the same file, one labelled {seen.label}, one {entry.label}."
            )
        if seen is entry:
            yield entry
        else:
            tqdm.write(f"left out: {entry.path}: the same file as {seen.path}")


def _write(output: Path, entries: Sequence[Entry]) -> None:
    """Write the manifest, paths relative to its folder, further columns as they were."""
    further = [name for name in entries[0].columns if name not in COLUMNS]
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, *further])
            for entry in entries:
                path = Path(os.path.relpath(entry.path, output.parent)).as_posix()
                stated = [path, entry.label, entry.fold, entry.source, entry.group, entry.tier]
                writer.writerow([*stated, *(entry.columns[name] for name in further)])
    except OSError as error:
        raise TrainingError(f"cannot write {output}: {error.strerror}") from None
    except UnicodeEncodeError:
        output.unlink()
        raise TrainingError("A film's name is not UTF-8; rename it.") from None


def main() -> int:
    """Prepare a manifest; return the exit code."""
    parser = argparse.ArgumentParser("python -m training.prepare", description="Make a manifest of labelled films.")
    text = "folder with one subfolder for each label, or a .csv with the columns path and label"
    parser.add_argument("films", metavar="FILMS", type=Path, help=text)
    parser.add_argument("--output", type=Path, help=f"default: {MANIFEST} in that folder")
    parser.add_argument("--folds", type=int, default=5, help="default: 5, or as many as the rarest label allows")
    parser.add_argument(
        "--source", help="name of the hospital (default: what a .csv states, else the name of the folder)"
    )
    chosen = parser.parse_args()
    if chosen.folds < 2:
        parser.error("--folds must be 2 or more")
    folder = chosen.films if chosen.films.is_dir() else chosen.films.parent
    output = chosen.output or folder / MANIFEST
    return run_command(lambda: prepare(chosen.films, output, chosen.folds, chosen.source))


if __name__ == "__main__":
    sys.exit(main())
