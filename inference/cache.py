"""The folder where one start keeps results for later ones. Every entry is complete, and none is necessary."""

import os
import tempfile
from pathlib import Path
from typing import Final

MAX_ENTRIES: Final = 4  # of each kind; older ones are removed


def write(entry: Path, data: bytes) -> None:
    """Write an entry that nobody can read half written, and remove the oldest ones of its kind. Raise OSError.

    An entry is named KIND-KEY.SUFFIX.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    _write_beside_and_rename(entry, data)
    kind = entry.name.partition("-")[0]
    entries = sorted(entry.parent.glob(f"{kind}-*{entry.suffix}"), key=lambda path: path.stat().st_mtime)
    for old in entries[:-MAX_ENTRIES]:
        old.unlink(missing_ok=True)


def _write_beside_and_rename(entry: Path, data: bytes) -> None:
    descriptor, unfinished = tempfile.mkstemp(dir=entry.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(unfinished).chmod(0o644)  # an image is built by one user and run by another
        Path(unfinished).replace(entry)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
