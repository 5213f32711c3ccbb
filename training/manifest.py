"""Labelled films: what each shows, who labelled it, which may share a patient. From a manifest, or a folder a label."""

import argparse
import csv
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError

CLASS_NAMES: Final = ("fisura", "fractura")
UNTYPED: Final = "fracture_untyped"
LABELS: Final = (*CLASS_NAMES, UNTYPED, "normal", "other")
TIERS: Final = ("core", "secondary")
MANIFEST: Final = "manifest.csv"
NO_FOLD: Final = -1
MAX_PROBLEMS: Final = 10  # that one error lists
SEPARATORS: Final = ",;\t"  # a comma, or what Excel writes in half of Europe, or pastes


@dataclass(frozen=True)
class Box:
    """A radiologist's box: centre and size as fractions, 0 to 1, of the whole film."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Entry:
    """One film. `columns` holds all that its row of the manifest states, `line` where; 0 where a folder's name does."""

    path: Path
    label: str
    fold: int
    source: str
    group: str
    tier: str
    body_part: str = ""
    original_label: str = ""
    boxes: tuple[Box, ...] = ()
    dataset: str = ""
    licence: str = ""
    columns: Mapping[str, str] = field(default_factory=dict, compare=False)
    line: int = field(default=0, compare=False)

    @property
    def is_typed(self) -> bool:
        """Return whether it is known which of the two classes the film shows."""
        return self.label in CLASS_NAMES

    @property
    def is_fractured(self) -> bool:
        """Return whether the film shows either class, whether or not its type is known."""
        return self.is_typed or self.label == UNTYPED

    @property
    def is_photograph(self) -> bool:
        """Return whether the image is not a medical one: a photograph, a texture, a document."""
        return self.label == "other" and self.original_label.startswith("photo")


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Let a command take `--data`, by default the folder that BONE_DATA_DIR names."""
    default = os.environ.get("BONE_DATA_DIR")
    text = "folder with manifest.csv (default: $BONE_DATA_DIR)"
    parser.add_argument("--data", type=Path, default=default, required=default is None, help=text)


def read_manifest(data_dir: Path) -> list[Entry]:
    """Read `manifest.csv`, every film of which has a fold and a group. Raise TrainingError."""
    return _read_csv(data_dir / MANIFEST, _RowReader(data_dir, LABELS), ("path", "label", "fold", "group"))


def read_labelled(named: Path, class_names: Sequence[str] = CLASS_NAMES, *, must_exist: bool = True) -> list[Entry]:
    """Read a folder with a `manifest.csv`, another .csv, or a folder with one subfolder for each label.

    A manifest needs `path`, relative to its folder, and `label`. Where nothing else is stated, a film has no fold, its
    source is the folder's name, and it is a group of its own. In a label's subfolder, each folder is a group: a
    patient's. Files that a manifest names `must_exist`, unless the caller deals with them. Raise TrainingError, one
    line for each problem.
    """
    labels = (*class_names, *LABELS[len(CLASS_NAMES) :])
    if named.is_dir() and not (named / MANIFEST).exists():
        return _read_subfolders(named, labels)
    path = named / MANIFEST if named.is_dir() else named
    return _read_csv(path, _RowReader(path.parent, labels, must_exist=must_exist), ("path", "label"))


def digest_manifest(data_dir: Path) -> str:
    """Return the manifest's SHA-256: the version of the data."""
    return hashlib.sha256((data_dir / MANIFEST).read_bytes()).hexdigest()


def take(entries: Sequence[Entry], rows: NDArray[np.intp]) -> list[Entry]:
    """Return the entries of these rows."""
    return [entries[row] for row in rows.tolist()]


def raise_problems(path: Path, problems: Sequence[tuple[int, str]]) -> None:
    """Raise TrainingError if there are any problems: the lines of a file, 0 for the whole of it, each with a sentence.

    One line of text for each of the first problems.
    """
    shown = [f"{path.name}{f', line {line}' if line else ''}: {text}" for line, text in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        shown.append(f"… and {len(problems) - MAX_PROBLEMS} more like these")
    if shown:
        raise TrainingError("\n".join(shown))


def _read_csv(path: Path, to_entry: "_RowReader", needed: Sequence[str]) -> list[Entry]:
    reader = csv.DictReader(StringIO(text := _read_text(path), newline=""), delimiter=_find_separator(text))
    reader.fieldnames = names = [name.strip().lower() for name in reader.fieldnames or ()]
    if missing := [name for name in needed if name not in names]:
        raise TrainingError(
            f"{path.name} lacks {' and '.join(missing)}: its first line must name at least the columns "
            f"{', '.join(needed)}. `python -m training.prepare` fills in fold and group."
        )
    entries, problems = [], []
    try:
        for row in reader:
            try:
                entries.append(to_entry.read(row, reader.line_num, needed))
            except ValueError as error:
                problems.append((reader.line_num, str(error)))
    except csv.Error as error:
        problems.append((reader.line_num, f"this is not CSV: {error}"))
    raise_problems(path, problems)
    if not entries:
        raise TrainingError(f"{path.name} names no films: it holds nothing below its first line.")
    return entries


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # Excel begins a file with a byte order mark
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TrainingError(f"{path.name} is not in UTF-8; in Excel, save it as “CSV UTF-8”.") from None


def _find_separator(text: str) -> str:
    header = text.split("\n", 1)[0]
    return max(SEPARATORS, key=header.count)


class _RowReader:
    """Turns the rows of one manifest into entries, and remembers what it has seen."""

    def __init__(self, folder: Path, labels: Sequence[str], *, must_exist: bool = True) -> None:
        self._folder, self._labels, self._must_exist = folder, labels, must_exist
        self._lines: dict[Path, int] = {}

    def read(self, row: dict[str, str | None], line: int, needed: Sequence[str]) -> Entry:
        """Return the entry of one row. Raise ValueError with a sentence."""
        columns = {name: (value or "").strip() for name, value in _check_width(row).items()}
        for name in needed:
            if not columns[name]:
                raise ValueError(f"{name} is empty.")
        source = columns.get("source") or self._folder.resolve().name
        return Entry(
            path=self._find(columns["path"], line),
            label=_choose("label", columns["label"], self._labels),
            fold=_read_fold(columns.get("fold", "")),
            source=source,
            group=columns.get("group") or columns["path"],
            tier=_choose("tier", columns.get("tier") or TIERS[0], TIERS),
            body_part=columns.get("body_part", ""),
            original_label=columns.get("original_label", ""),
            boxes=tuple(_read_box(text) for text in columns.get("boxes_yolo", "").split(";") if text.strip()),
            dataset=columns.get("source_dataset") or source,
            licence=columns.get("licence", ""),
            columns=columns,
            line=line,
        )

    def _find(self, name: str, line: int) -> Path:
        """Return a film's path; a name that Windows wrote has backslashes."""
        path = self._folder / name
        if "\\" in name and not path.exists():
            path = self._folder / name.replace("\\", "/")
        if (first := self._lines.setdefault(path, line)) != line:
            raise ValueError(f"{name} stands in line {first} already; a film must stand in one line.")
        if self._must_exist and not path.is_file():
            raise ValueError(f"there is no file {path}.")
        return path


def _check_width(row: dict[str, str | None]) -> dict[str, str | None]:
    if None in row:
        raise ValueError("it holds more fields than the first line; put a field with a separator in it in quotes.")
    return row


def _choose(column: str, text: str, allowed: Sequence[str]) -> str:
    for value in allowed:
        if text.casefold() == value.casefold():
            return value
    raise ValueError(f"the {column} is {text!r}; it must be one of {', '.join(allowed)}.")


def _read_fold(text: str) -> int:
    if not text:
        return NO_FOLD
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"the fold is {text!r}; it must be a whole number: 0, 1, 2 and so on.")
    return int(text)


def _read_box(text: str) -> Box:
    """Read `name cx cy w h`; a name may hold spaces. Raise ValueError."""
    try:
        x, y, width, height = map(float, text.split()[-4:])
    except ValueError:
        x = y = width = height = float("nan")
    if not all(0 <= number <= 1 for number in (x, y, width, height)):
        raise ValueError(f"the box {text!r} is not `name x y width height`, centre and size as fractions of 0 to 1.")
    return Box(x, y, width, height)


def _read_subfolders(folder: Path, labels: Sequence[str]) -> list[Entry]:
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a folder.")
    named = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")}
    allowed = {label.casefold(): label for label in labels}
    wanted = f"{MANIFEST} or one subfolder for each label: {', '.join(labels)}"
    if not any(name.casefold() in allowed for name in named):
        raise TrainingError(f"{folder} must hold {wanted}.")
    if unknown := [name for name in named if name.casefold() not in allowed]:
        raise TrainingError(f"{folder} holds the subfolder {unknown[0]!r}, which is not a label: {', '.join(labels)}.")
    entries = [
        Entry(path, allowed[name.casefold()], NO_FOLD, folder.resolve().name, _group_of(path, labelled), TIERS[0])
        for name, labelled in named.items()
        for path in _list_films(labelled)
    ]
    if not entries:
        raise TrainingError(f"{folder} holds no films in its subfolders.")
    return entries


def _list_films(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder at any depth, but hidden ones."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _group_of(film: Path, labelled: Path) -> str:
    """Return the patient's folder within a label's, the same for every label; else the film itself."""
    parts = film.relative_to(labelled).parts
    return parts[0] if len(parts) > 1 else f"{labelled.name}/{film.name}"
