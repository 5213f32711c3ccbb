"""What would go wrong in a training, found in the manifest before anything is computed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from training.errors import TrainingError
from training.learnt import hash_film
from training.manifest import CLASS_NAMES, MANIFEST, Entry, raise_problems

NEEDED: Final = (*CLASS_NAMES, "normal")
DIGEST: Final = "manifest.sha256"
Problem = tuple[int, str]


def check_training(entries: Sequence[Entry], name: str = MANIFEST) -> None:
    """Refuse a manifest that no network can be trained and judged on. Raise TrainingError, a line for each problem."""
    problems = [*_find_cut_groups(entries), *_find_empty_folds(entries), *_find_missing_kinds(entries)]
    raise_problems(Path(name), problems)


def check_duplicates(entries: Sequence[Entry], name: str = MANIFEST) -> None:
    """Refuse files that are the same, byte for byte, in two groups or under two labels. Raise TrainingError."""
    raise_problems(Path(name), list(_find_duplicates(entries)))


def claim_folder(folder: Path, digest: str) -> None:
    """Note in a folder of scores which manifest they belong to. Raise TrainingError where they belong to another."""
    path = folder / DIGEST
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(digest + "\n")
    elif path.read_text().strip() != digest:
        raise TrainingError(
            f"{folder} holds the scores of another manifest, or of another version of this one; name another folder "
            "with --scores and --runs, or remove that one."
        )


def _find_cut_groups(entries: Sequence[Entry]) -> Iterator[Problem]:
    first: dict[str, Entry] = {}
    for entry in entries:
        seen = first.setdefault(entry.group, entry)
        if seen.fold != entry.fold:
            text = f"the group {entry.group} is in fold {entry.fold} here, and in fold {seen.fold} in line {seen.line}"
            yield entry.line, f"{text}; a patient's films must be in one fold."


def _find_empty_folds(entries: Sequence[Entry]) -> Iterator[Problem]:
    folds = {entry.fold for entry in entries}
    for fold in sorted({*range(max(folds) + 1)} - folds):
        yield 0, f"fold {fold} has no films; folds must be 0, 1, 2 and so on, without a gap."
    if len(folds) == 1:
        yield 0, f"all films are in fold {min(folds)}; judging needs two folds or more, such as five."


def _find_missing_kinds(entries: Sequence[Entry]) -> Iterator[Problem]:
    missing = _missing(entries)
    if missing:
        yield 0, f"there is {' and '.join(missing)}; training needs fisura, fractura and normal."
        return
    for fold in sorted({entry.fold for entry in entries}):
        if missing := _missing([entry for entry in entries if entry.fold != fold]):
            yield 0, f"without fold {fold} there is {' and '.join(missing)} left to learn from; spread them over folds."


def _missing(entries: Sequence[Entry]) -> list[str]:
    labels = {entry.label for entry in entries}
    if absent := [f"no film of {label}" for label in NEEDED if label not in labels]:
        return absent
    return [] if holds_pair(entries) else ["no source with both fractured and normal films"]


def holds_pair(entries: Sequence[Entry]) -> bool:
    """Return whether a source holds a fractured and a normal film, which are compared in training."""
    fractured = {entry.source for entry in entries if entry.is_fractured}
    return any(entry.label == "normal" and entry.source in fractured for entry in entries)


def _find_duplicates(entries: Sequence[Entry]) -> Iterator[Problem]:
    first: dict[bytes, Entry] = {}
    for entry in entries:
        seen = first.setdefault(hash_film(entry.path.read_bytes()), entry)
        for column, here, there in (("label", entry.label, seen.label), ("group", entry.group, seen.group)):
            if here != there:
                text = f"this is the same file as in line {seen.line}, but its {column} is {here}, not {there}"
                yield entry.line, f"{text}; keep one of them."
                break
