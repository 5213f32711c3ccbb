"""`python -m bulk IN OUT`: score a folder, a glob or a manifest to a CSV or Parquet table, on all cores at once."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from bulk.choice import choose
from bulk.cluster import score_on_ray
from bulk.inputs import Archive, find_inputs, read_columns
from bulk.journal import Journal
from bulk.label_studio import interface_path, tasks_path, write_tasks
from bulk.local import score_locally
from bulk.scoring import BulkError, Row
from bulk.table import check_table, write_table
from config import VERSION, Config, ConfigError, available_cores, read_config
from model_loader import ModelError, inspect

Score = Callable[[Path, list[str], Config], Generator[Row, None, None]]

VERDICT_SETTINGS: Final = "class_names threshold scaling resize input_size max_pixels max_upload_bytes".split()
LINES: Final[dict[str, Any]] = {"bar_format": "{l_bar}{bar}{r_bar}\n", "mininterval": 30, "maxinterval": 30}


def main(arguments: list[str]) -> int:
    """Score, or resume a stopped run; return the exit code. Files that cannot be read do not change it."""
    options = _parse(arguments)
    score: Score = partial(score_locally, workers=options.workers)
    if options.ray_address:
        score = partial(score_on_ray, address=options.ray_address)
    try:
        config, columns = read_config(os.environ), read_columns(options.images)
        run(Archive(*find_inputs(options.images), columns), options.table, config, score, options.choose)
    except (ConfigError, ModelError, BulkError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command resumes.", file=sys.stderr)
        return 130
    return 0


def run(archive: Archive, table: Path, config: Config, score: Score, tasks: int = 0) -> None:
    """Score what the journal beside the table does not hold yet; then write the table and delete the journal.

    Where so many `tasks` are wanted, the films most worth labelling are written as tasks for Label Studio.
    """
    check_table(table)
    journal_path = table.with_name(table.name + ".journal")
    written = [table, tasks_path(table), interface_path(table)] if tasks else [table]
    for path in written:
        if path.exists() and not journal_path.exists():
            raise BulkError(f"{path} exists already; move it or name another table.")
    with closing(Journal(journal_path, _describe(config, archive.folder))) as journal:
        scored = journal.scored()
        if left := [name for name in archive.names if name not in scored]:
            with closing(score(archive.folder, left, config)) as rows:
                new_rows = (row for row in rows if journal.append(row))
                show_progress(new_rows, len(archive.names), len(archive.names) - len(left))
        write_table(table, archive.join(journal.rows(archive.names)))
        outcomes = Counter(_outcome(row) for row in journal.rows(archive.names))
        if tasks:
            write_tasks(archive.folder, choose(archive.join(journal.rows(archive.names)), tasks), table, config)
    journal_path.unlink()
    print(f"{table}: {', '.join(f'{count:,} {name}' for name, count in outcomes.most_common())}", file=sys.stderr)
    if tasks:
        print(f"{tasks_path(table)}: for Label Studio, with {interface_path(table)}", file=sys.stderr)


def show_progress(rows: Iterator[Row], total: int, done: int) -> None:
    """Exhaust the rows behind a progress bar, or lines in a log, from the first row on: loading is not scoring."""
    for first in rows:
        style = {} if sys.stderr.isatty() else LINES
        for _ in tqdm(chain([first], rows), total=total, initial=done, unit=" images", **style):
            pass


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bulk", description="Score an archive of radiographs.")
    parser.add_argument("images", metavar="IN", help="a folder, a glob in quotes, or a .csv with a column path")
    parser.add_argument("table", metavar="OUT", type=Path, help="the table to write, .csv or .parquet")
    parser.add_argument("--workers", type=int, default=available_cores(), help="processes; default: one per core")
    parser.add_argument("--ray-address", help="score on this Ray cluster (auto, or HOST:PORT) instead of here")
    parser.add_argument("--choose", type=int, default=0, metavar="N", help="write N films to label for Label Studio")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error("--workers must be 1 or more")
    if options.choose < 0:
        parser.error("--choose must be 0 or more")
    return options


def _describe(config: Config, folder: Path) -> dict[str, Any]:
    """Return what the rows depend on, so that no table mixes two models or settings."""
    settings = {name: getattr(config, name) for name in VERDICT_SETTINGS}
    model = {"version": VERSION, "sha256": inspect(config).sha256}
    return settings | model | {"folder": str(folder.resolve())}


def _outcome(row: Row) -> str:
    return row["error"] or row["predictedClass"] or "none of the known classes"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
