"""Rows -> a CSV or Parquet file that appears whole or not at all."""

import csv
import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Final

from bulk.scoring import PROBABILITY, BulkError, Row

SUFFIXES: Final = (".csv", ".parquet")
ROWS_PER_GROUP: Final = 10_000


def check_table(path: Path) -> None:
    """Refuse a table that could not be written, before anything is scored. Raise BulkError."""
    if path.suffix not in SUFFIXES:
        raise BulkError(f"{path} must end in {' or '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise BulkError(f"{path.parent} is not a folder; create it first.")
    if path.suffix == ".parquet" and not find_spec("pyarrow"):
        raise BulkError("Parquet needs pyarrow: pip install -r requirements/bulk.txt, or name a .csv.")


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write at least one row to a file beside the table, sync it to the disk, and rename it to the table."""
    unfinished = path.with_name(path.name + ".unfinished")
    rows = iter(rows)
    first = next(rows)
    write = _write_csv if path.suffix == ".csv" else _write_parquet
    write(unfinished, list(first), chain([first], rows))
    with unfinished.open("rb+") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def _write_csv(path: Path, columns: list[str], rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path: Path, columns: list[str], rows: Iterator[Row]) -> None:
    import pyarrow  # noqa: PLC0415 an extra
    from pyarrow import parquet  # noqa: PLC0415

    types = dict.fromkeys(("confidence", "noneProbability"), pyarrow.float64()) | {"success": pyarrow.int8()}
    types |= {name: pyarrow.float64() for name in columns if name.startswith(PROBABILITY)}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in columns])
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, ROWS_PER_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema))
