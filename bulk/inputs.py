"""What the user names -> the files to score, in a fixed order, each once."""

import csv
import glob
from pathlib import Path

from bulk.scoring import BulkError


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


def _read_manifest(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(dict.fromkeys(row["path"] for row in csv.DictReader(file) if row["path"]))
    except KeyError:
        raise BulkError(f"{path} has no column named path; its first line must name one.") from None
    except (csv.Error, UnicodeDecodeError):
        raise BulkError(f"{path} is not a CSV file in UTF-8.") from None
