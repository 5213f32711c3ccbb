"""What the user names -> the files to score, in a fixed order, each once."""

import csv
import glob
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

from bulk.scoring import PROBABILITY, BulkError, Row, empty_row

OWN_COLUMNS: Final = frozenset(empty_row("", (), None))


@dataclass(frozen=True)
class Archive:
    """The files to score, by names relative to a folder, and what a manifest states of each besides."""

    folder: Path
    names: list[str]
    columns: Mapping[str, dict[str, str]]

    def join(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows with the columns of the manifest behind their own."""
        for row in rows:
            yield row | self.columns.get(row["path"], {})


def find_inputs(named: str) -> tuple[Path, list[str]]:
    """Return the files of a folder (at any depth, hidden ones left out), a glob, or a manifest's column `path`.

    They come as the folder that their names are relative to, and the names. A manifest is a file whose name ends in
    .csv; its paths are relative to its folder. Raise BulkError.
    """
    path = Path(named)
    if path.is_dir():
        folder, names = path, sorted(_list_files(path))
    elif path.is_file() and path.suffix.lower() == ".csv":
        folder, names = path.parent, _read_manifest(path)
    else:
        found = [named] if path.is_file() else glob.glob(named, recursive=True)  # noqa: PTH207 a pattern may be absolute
        folder, names = Path(), sorted(name for name in found if Path(name).is_file())
    if not names:
        raise BulkError(f"{named} names no files; it must be a folder, a glob or a manifest (.csv).")
    for name in names:
        if name != (shown := name.encode(errors="replace").decode()):
            raise BulkError(f"The file name {shown} is not UTF-8, as every row of the table must be; rename the file.")
    return folder, names


def _list_files(folder: Path) -> list[str]:
    relative = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [path.as_posix() for path in relative if not any(part.startswith(".") for part in path.parts)]


def read_columns(named: str) -> dict[str, dict[str, str]]:
    """Return the other columns of a manifest by path; {} of a folder or a glob. The first row of a path counts.

    The names are those of the table, with `manifest_` before one that the table itself uses. Raise BulkError.
    """
    path = Path(named)
    if not (path.is_file() and path.suffix.lower() == ".csv"):
        return {}
    columns: dict[str, dict[str, str]] = {}
    for row in _read_rows(path):
        columns.setdefault(row["path"], {_rename(name): value for name, value in row.items() if name != "path"})
    return columns


def _rename(column: str) -> str:
    is_ours = column in OWN_COLUMNS or column.startswith(PROBABILITY)
    return f"manifest_{column}" if is_ours else column


def _read_manifest(path: Path) -> list[str]:
    return list(dict.fromkeys(row["path"] for row in _read_rows(path)))


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows that have a path. A comma, a semicolon or a tab separates, whichever the first line holds most."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.DictReader(StringIO(text, newline=""), delimiter=separator)
        names = [name for name in reader.fieldnames or () if name]
        if "path" not in names:
            raise BulkError(f"{path} has no column named path; its first line must name one.")
        return [{name: row[name] or "" for name in names} for row in reader if row["path"]]
    except (csv.Error, UnicodeDecodeError):
        raise BulkError(f"{path} is not a CSV file in UTF-8.") from None
