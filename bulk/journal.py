"""The rows scored so far, in an SQLite file: a killed run loses none of them, and the next run resumes after them."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bulk.scoring import BulkError, Row

SCHEMA: Final = """
    PRAGMA locking_mode = EXCLUSIVE;  -- until the file is closed or the process ends
    PRAGMA journal_mode = WAL;  -- a row costs one append and one fsync
    CREATE TABLE IF NOT EXISTS settings (made_with TEXT);
    CREATE TABLE IF NOT EXISTS rows (path TEXT PRIMARY KEY, row TEXT) WITHOUT ROWID;
"""


class Journal:
    """Rows by file name, each on the disk before `append` returns. One run at a time can open it."""

    def __init__(self, path: Path, made_with: Mapping[str, Any]) -> None:
        """Open or create the journal of a model and its settings. Raise BulkError."""
        self._database = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            self._database.executescript(SCHEMA)
            self._check(json.dumps(made_with, sort_keys=True))
        except (sqlite3.DatabaseError, BulkError) as error:
            self.close()
            in_use = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            reason = "another run is writing it" if in_use else error
            raise BulkError(f"{path} cannot be resumed: {reason}.") from None

    def _check(self, made_with: str) -> None:
        found = self._database.execute("SELECT made_with FROM settings").fetchone()
        if found is None:
            self._database.execute("INSERT INTO settings VALUES (?)", [made_with])
        elif found != (made_with,):
            raise BulkError("it holds rows of another model or other settings; delete it to start again")

    def scored(self) -> set[str]:
        """Return the names of the files that have a row."""
        return {path for (path,) in self._database.execute("SELECT path FROM rows")}

    def append(self, row: Row) -> bool:
        """Write one row to the disk; return False where its file has one already."""
        values = (row["path"], json.dumps(row))
        return self._database.execute("INSERT OR IGNORE INTO rows VALUES (?, ?)", values).rowcount == 1

    def rows(self, names: Iterable[str]) -> Iterator[Row]:
        """Yield the rows of these files in this order, one at a time."""
        for name in names:
            (row,) = self._database.execute("SELECT row FROM rows WHERE path = ?", [name]).fetchone()
            yield json.loads(row)

    def close(self) -> None:
        """Let another run open the journal."""
        self._database.close()
