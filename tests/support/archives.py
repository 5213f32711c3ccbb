"""Runs of `python -m bulk` in a process of their own, and what they leave behind."""

import csv
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start_bulk(model, *arguments):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BONE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "bulk", *map(str, arguments)],
        cwd=ROOT,
        env=clean | {"BONE_MODEL_PATH": str(model), "BONE_CONFIDENCE_THRESHOLD": "0.6", "BONE_MAX_PIXELS": "400000"},
        stderr=subprocess.PIPE,
        text=True,
    )


def read_table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return {one["path"]: one for one in csv.DictReader(file)}


def read_journal(path):
    """Return the names in a copy of a journal, since the run that writes it keeps it locked."""
    with tempfile.TemporaryDirectory() as folder:
        for part in (path, path.with_name(path.name + "-wal")):
            if part.exists():
                shutil.copy(part, folder)
        with closing(sqlite3.connect(Path(folder) / path.name)) as database, suppress(sqlite3.DatabaseError):
            return [name for (name,) in database.execute("SELECT path FROM rows")]
    return []


def wait_for_rows(path, rows, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(read_journal(path)) >= rows:
            return
        time.sleep(0.02)
    raise AssertionError(f"never {rows} rows: {process.poll()} {process.communicate()}")


def children(pid):
    """The processes that `pid` started, where /proc tells."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def wait_until_gone(pids):
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_spawned_worker(pid):
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False  # it has ended


def wait_for_worker(run):
    deadline = time.monotonic() + 60
    while not any(is_spawned_worker(pid) for pid in children(run.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def press_ctrl_c(run):
    """Interrupt the run and its workers, as a terminal does; assert that all of them end quietly."""
    workers = children(run.pid)
    for pid in [run.pid, *filter(is_spawned_worker, workers)]:
        with suppress(ProcessLookupError):  # the run may have ended the worker already
            os.kill(pid, signal.SIGINT)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 130
    assert said.endswith("\nStopped; the same command resumes.\n")
    assert "Traceback" not in said
    wait_until_gone(workers)
