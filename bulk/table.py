"""Rows -> a CSV or Parquet file that is there whole or not at all."""

import csv
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from bulk.scoring import Row

SUFFIXES: Final = (".csv", ".parquet")
ROWS_AT_ONCE: Final = 10_000


class TableError(Exception):
    """A table that cannot be written; the message is one sentence."""


def check_table(path: Path) -> None:
    """Refuse a table that could not be written, before anything is scored. Raise TableError."""
    if path.suffix not in SUFFIXES:
        raise TableError(f"{path} must end in {' or '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise TableError(f"{path.parent} is no folder; make it first.")
    if path.suffix == ".parquet":
        _pyarrow()


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write beside the table, to the disk, then put it in place at once. `rows` holds at least one."""
    unfinished = path.with_name(path.name + ".unfinished")
    write = _write_csv if path.suffix == ".csv" else _write_parquet
    write(unfinished, iter(rows))
    with unfinished.open("rb+") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def _write_csv(path: Path, rows: Iterator[Row]) -> None:
    first = next(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(first))
        writer.writeheader()
        writer.writerows(chain([first], rows))


def _write_parquet(path: Path, rows: Iterator[Row]) -> None:
    pyarrow = _pyarrow()
    from pyarrow import parquet  # noqa: PLC0415

    first = next(rows)
    kinds = {"path": pyarrow.string(), "success": pyarrow.int8(), "predictedClass": pyarrow.string()}
    kinds["error"] = pyarrow.string()
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in first])
    rows = chain([first], rows)
    with parquet.ParquetWriter(path, schema) as writer:
        while some := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pyarrow.Table.from_pylist(some, schema))


def _pyarrow() -> Any:
    try:
        import pyarrow  # noqa: PLC0415 an extra
    except ImportError:
        raise TableError("Parquet needs pyarrow: pip install -r requirements/bulk.txt, or name a .csv.") from None
    return pyarrow
