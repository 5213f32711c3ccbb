"""Films that were accepted and whose results are not delivered yet: files and an SQLite index in a folder of mode 0700.

A film is `waiting` until it is answered, `answered` until its results are delivered, then `delivered`, or `poisoned`.
The index remembers delivered films, so that one that is sent again is not reported again. No file name holds an
identifier.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pacs.answers import Body
from pacs.films import Film, FilmError, read_film
from pacs.results import sync_folder, write_whole

REMEMBERED_SECONDS: Final = 90 * 24 * 3600
WORK: Final = ("waiting", "answered")  # what still occupies the disk for a purpose
SCHEMA: Final = """
    PRAGMA locking_mode = EXCLUSIVE;  -- one node at a time
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;  -- what is committed is on the disk
    CREATE TABLE IF NOT EXISTS films (
        key TEXT PRIMARY KEY, study TEXT NOT NULL, digest TEXT NOT NULL, bytes INTEGER NOT NULL, received REAL NOT NULL,
        state TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0, answer TEXT, report INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS films_by_state ON films (state, due);
    CREATE INDEX IF NOT EXISTS films_by_report ON films (report);
    CREATE TABLE IF NOT EXISTS reports (
        id INTEGER PRIMARY KEY AUTOINCREMENT, created REAL NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
        due REAL NOT NULL DEFAULT 0
    );
"""
QUIET_STUDIES: Final = """
    SELECT study FROM films WHERE report IS NULL AND state IN ('waiting', 'answered')
    GROUP BY study HAVING MAX(received) <= ? AND SUM(state = 'waiting') = 0
"""

Outcome = Literal["accepted", "known", "differs"]


class SpoolError(Exception):
    """A spool that cannot be used; the message is one sentence."""


class SpoolFullError(Exception):
    """The spool has reached its limit."""


@dataclass(frozen=True)
class Report:
    """A report to deliver: its number, when it was due first (seconds since 1970), how often it failed, its films."""

    number: int
    created: float
    tries: int
    keys: tuple[str, ...]


class Spool:
    """The films of one node. Its methods may be called from any thread."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Open or create a spool, and take up what an earlier process left. Raise SpoolError or OSError."""
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = threading.RLock()
        self._claimed: set[str] = set()
        self._counter = 0
        for path in (folder, self._films, self._poison):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._database = sqlite3.connect(folder / "index", timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._database.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            in_use = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            raise SpoolError(f"{folder} cannot be used: {'another node uses it' if in_use else error}.") from None
        self._take_up()

    @property
    def _films(self) -> Path:
        return self._folder / "films"

    @property
    def _poison(self) -> Path:
        return self._folder / "poison"

    def close(self) -> None:
        """Let another node open the spool."""
        with self._lock:
            self._database.close()

    # -- receiving

    def accept(self, film: Film, data: bytes) -> Outcome:
        """Keep a film: on the disk, and in the index, when this returns. Raise SpoolFullError or OSError."""
        if self.is_full():
            raise SpoolFullError
        key, digest = _digest(film.uid.encode())[:32], _digest(_dataset(data))
        with self._lock:
            known = self._known(key, digest)
        if known:
            return known
        unfinished = self._write_unfinished(data)
        with self._lock:
            known = self._known(key, digest)  # it may have come twice at the same time
            if known:
                unfinished.unlink()
                return known
            unfinished.replace(self._path(key))
            sync_folder(self._films)
            self._insert(key, film, digest, len(data))
        return "accepted"

    def is_full(self) -> bool:
        """Tell whether the spool has reached its limit."""
        return self.bytes_waiting() >= self._max_bytes

    def _known(self, key: str, digest: str) -> Outcome | None:
        """Compare with a film of the same UID; one that was poisoned may come again."""
        row = self._one("SELECT digest, state FROM films WHERE key = ?", key)
        if row is None or row[1] == "poisoned":
            return None
        return "known" if row[0] == digest else "differs"

    def _write_unfinished(self, data: bytes) -> Path:
        with self._lock:
            self._counter += 1
            path = self._films / f"{self._counter}.unfinished"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return path

    def _insert(self, key: str, film: Film, digest: str, size: int) -> None:
        study = _digest(f"{film.study_uid} {film.header.PatientID} {film.header.PatientName}".encode())
        self._run(
            "INSERT OR REPLACE INTO films (key, study, digest, bytes, received, state)"
            " VALUES (?, ?, ?, ?, ?, 'waiting')",
            key, study, digest, size, time.time(),
        )  # fmt: skip

    # -- asking

    def claim_waiting(self) -> tuple[str, int] | None:
        """Return a film to ask about, the oldest first, for the caller alone, and how often it was tried; or None.

        This counts as a try at once, so that a film that ends the process is not tried for ever.
        """
        query = "SELECT key, tries FROM films WHERE state = 'waiting' AND due <= ? ORDER BY received"
        with self._lock:
            for key, tries in self._database.execute(query, [time.time()]).fetchall():
                if key not in self._claimed:
                    self._claimed.add(key)
                    self._run("UPDATE films SET tries = tries + 1 WHERE key = ?", key)
                    return str(key), int(tries)
        return None

    def release(self, key: str) -> None:
        """Give back a film that was claimed."""
        with self._lock:
            self._claimed.discard(key)

    def read(self, key: str) -> bytes:
        """Return the film's bytes. Raise OSError."""
        return self._path(key).read_bytes()

    def answer(self, key: str, body: Body) -> None:
        """Keep the answer to a film."""
        self._run("UPDATE films SET state = 'answered', answer = ?, tries = 0 WHERE key = ?", json.dumps(body), key)

    def retry_film(self, key: str, seconds: float) -> None:
        """Let a film wait."""
        self._run("UPDATE films SET due = ? WHERE key = ?", time.time() + seconds, key)

    def forgive(self, key: str) -> None:
        """Do not count the last try of a film, which an outage ended."""
        self._run("UPDATE films SET tries = tries - 1 WHERE key = ?", key)

    def poison(self, key: str, reason: str) -> None:
        """Put a film aside, with a file that says why."""
        write_whole(
            self._poison / f"{key}.txt", f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {reason}\n".encode()
        )
        with self._lock:
            with contextlib.suppress(FileNotFoundError):
                self._path(key).replace(self._poison / f"{key}.dcm")
            sync_folder(self._poison)
            self._run("UPDATE films SET state = 'poisoned', answer = NULL, report = NULL WHERE key = ?", key)

    # -- delivering

    def close_quiet_studies(self, quiet_seconds: float) -> None:
        """Make a report of every study of which no film has come for so long, and of which all films are answered."""
        now = time.time()
        with self._transaction():
            for (study,) in self._database.execute(QUIET_STUDIES, [now - quiet_seconds]).fetchall():
                number = self._database.execute("INSERT INTO reports (created) VALUES (?)", [now]).lastrowid
                self._database.execute(
                    "UPDATE films SET report = ? WHERE study = ? AND state = 'answered' AND report IS NULL",
                    [number, study],
                )

    def next_report(self) -> Report | None:
        """Return a report to deliver, or None."""
        with self._lock:
            row = self._one(
                "SELECT id, created, tries FROM reports WHERE due <= ? ORDER BY due, id LIMIT 1", time.time()
            )
            if row is None:
                return None
            number, created, tries = row
            keys = self._database.execute("SELECT key FROM films WHERE report = ? ORDER BY received, key", [number])
            return Report(number, created, tries, tuple(key for (key,) in keys))

    def answer_to(self, key: str) -> Body:
        """Return the answer to a film."""
        row = self._one("SELECT answer FROM films WHERE key = ?", key)
        body: Body = json.loads(row[0]) if row else {}
        return body

    def retry_report(self, number: int, seconds: float) -> None:
        """Let a report wait."""
        self._run("UPDATE reports SET tries = tries + 1, due = ? WHERE id = ?", time.time() + seconds, number)

    def finish_report(self, report: Report) -> None:
        """Forget the films of a report that was delivered or poisoned, but not that they came."""
        with self._transaction():
            self._database.execute(
                "UPDATE films SET state = 'delivered', answer = NULL, report = NULL WHERE report = ?", [report.number]
            )
            self._database.execute("DELETE FROM reports WHERE id = ?", [report.number])
        for key in report.keys:
            self._path(key).unlink(missing_ok=True)

    # -- watching

    def bytes_waiting(self) -> int:
        """Return the size of the films whose results are not delivered."""
        row = self._one("SELECT COALESCE(SUM(bytes), 0) FROM films WHERE state IN ('waiting', 'answered')")
        return int(row[0]) if row else 0

    def count(self) -> dict[str, int]:
        """Return how many films are in each state."""
        with self._lock:
            found = dict(self._database.execute("SELECT state, COUNT(*) FROM films GROUP BY state"))
        return {state: found.get(state, 0) for state in (*WORK, "delivered", "poisoned")}

    def oldest_seconds(self) -> float:
        """Return for how long the oldest film has been waiting for the delivery of its results; 0 if there is none."""
        row = self._one("SELECT MIN(received) FROM films WHERE state IN ('waiting', 'answered')")
        return max(0.0, time.time() - row[0]) if row and row[0] is not None else 0.0

    # -- at the start

    def _take_up(self) -> None:
        """Bring files and index in agreement: a killed process may have left one without the other."""
        for path in self._films.glob("*.unfinished"):
            path.unlink()  # it was not acknowledged
        self._run("DELETE FROM films WHERE state = 'delivered' AND received < ?", time.time() - REMEMBERED_SECONDS)
        states = dict(self._database.execute("SELECT key, state FROM films"))
        files = {path.stem: path for path in self._films.glob("*.dcm")}
        for key, path in files.items():
            if key not in states:
                self._adopt(path)
            elif states[key] == "delivered":
                path.unlink()
            elif states[key] == "poisoned":
                path.replace(self._poison / path.name)
        for key in [key for key, state in states.items() if state in WORK and key not in files]:
            self.poison(key, "Its file was missing from the spool when the node started.")

    def _adopt(self, path: Path) -> None:
        """Enter a film into the index that was on the disk, but not in the index, when the process ended."""
        data = path.read_bytes()
        try:
            self._insert(path.stem, read_film(data), _digest(_dataset(data)), len(data))
        except FilmError as error:
            write_whole(self._poison / f"{path.stem}.txt", f"{error}\n".encode())
            path.replace(self._poison / path.name)

    # -- the index

    def _path(self, key: str) -> Path:
        return self._films / f"{key}.dcm"

    def _run(self, statement: str, *values: Any) -> None:
        with self._lock:
            self._database.execute(statement, values)

    def _one(self, statement: str, *values: Any) -> Any:
        with self._lock:
            return self._database.execute(statement, values).fetchone()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


def _dataset(data: bytes) -> bytes:
    """Return a DICOM file without its meta information, which names the association that it came by."""
    length = int.from_bytes(data[140:144], "little") if data[132:138] == b"\x02\0\0\0UL" else None
    return data if length is None else data[144 + length :]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
