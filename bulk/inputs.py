"""What the user names -> the files to score, in a fixed order, each once."""

import csv
import glob
from pathlib import Path
from typing import NamedTuple


class InputError(Exception):
    """An input that names no images; the message is one sentence."""


class Inputs(NamedTuple):
    """The folder that relative names start from, and the names, as they will stand in the table."""

    folder: Path
    names: list[str]


def find_inputs(named: str) -> Inputs:
    """List the files of a folder (at any depth, hidden ones left out), a glob, or a manifest's column `path`.

    A manifest is a file whose name ends in .csv; its paths are relative to where it lies. Raise InputError.
    """
    path = Path(named)
    if path.is_dir():
        inputs = Inputs(path, sorted(_files_below(path)))
    elif path.is_file() and path.suffix.lower() == ".csv":
        inputs = Inputs(path.parent, _read_manifest(path))
    elif path.is_file():
        inputs = Inputs(Path(), [named])
    else:
        found = glob.glob(named, recursive=True)  # noqa: PTH207 a pattern may be absolute
        inputs = Inputs(Path(), sorted(name for name in found if Path(name).is_file()))
    if not inputs.names:
        raise InputError(f"{named} names no files; it must be a folder, a glob or a manifest (.csv).")
    return inputs


def _files_below(folder: Path) -> list[str]:
    below = (path for path in folder.rglob("*") if path.is_file())
    relative = (path.relative_to(folder) for path in below)
    return [path.as_posix() for path in relative if not any(part.startswith(".") for part in path.parts)]


def _read_manifest(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if "path" not in (rows.fieldnames or ()):
                raise InputError(f"{path} has no column named path; its first line must name one.")
            return list(dict.fromkeys(row["path"] for row in rows if row["path"]))
    except (csv.Error, UnicodeDecodeError):
        raise InputError(f"{path} is no CSV file in UTF-8.") from None
