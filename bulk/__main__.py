"""`python -m bulk IN OUT`: score a folder, a glob or a manifest to a CSV or Parquet table, all cores at once."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bulk.inputs import InputError, Inputs, find_inputs
from bulk.journal import Journal, JournalError
from bulk.local import WorkerError, score_locally
from bulk.progress import Progress
from bulk.scoring import Row
from bulk.table import TableError, check_table, write_table
from config import VERSION, Config, ConfigError, available_cores, read_config
from model_loader import ModelError, inspect

DECIDING = (
    "class_names threshold scaling resize input_size max_pixels max_upload_bytes".split()
)  # settings of a verdict


def main(arguments: list[str]) -> int:
    """Score, or go on where a killed run stopped; return the exit code. Files that cannot be read are no failure."""
    options = _parse(arguments)
    try:
        config = read_config(os.environ)
        return run(find_inputs(options.images), options.table, config, options.workers, options.ray_address)
    except (ConfigError, InputError, TableError, JournalError, ModelError, WorkerError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        return 130


def run(inputs: Inputs, table: Path, config: Config, workers: int, ray_address: str | None) -> int:
    """Score what the journal beside the table does not hold yet; then write the table and drop the journal."""
    check_table(table)
    journal_path = table.with_name(table.name + ".journal")
    if table.exists() and not journal_path.exists():
        raise TableError(f"{table} is there already; take it away or name another.")
    journal = Journal(journal_path, _made_with(config, inputs.folder))
    try:
        left = [name for name in inputs.names if name not in journal]
        _score(journal, left, len(inputs.names), _scores(inputs.folder, left, config, workers, ray_address))
        counts: Counter[str] = Counter()
        write_table(table, _counted(journal.rows(inputs.names), counts))
    except BaseException:
        journal.close()
        raise
    journal.discard()
    print(f"{table}: {_summary(counts)}", file=sys.stderr)
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bulk", description="Score an archive of radiographs.")
    parser.add_argument("images", metavar="IN", help="a folder, a glob in quotes, or a .csv with a column path")
    parser.add_argument("table", metavar="OUT", type=Path, help="the table to write, .csv or .parquet")
    parser.add_argument("--workers", type=int, default=available_cores(), help="processes; default: one a core")
    parser.add_argument("--ray-address", help="score on this Ray cluster (auto, or HOST:PORT) instead of here")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error("--workers must be 1 or more")
    return options


def _made_with(config: Config, folder: Path) -> dict[str, Any]:
    settings = {name: getattr(config, name) for name in DECIDING}
    return settings | {
        "version": VERSION,
        "sha256": inspect(config).sha256,
        "folder": str(folder.resolve()),
    }


def _scores(folder: Path, names: list[str], config: Config, workers: int, ray_address: str | None) -> Iterator[Row]:
    if not names:
        return iter(())
    if ray_address is None:
        return score_locally(folder, names, config, workers)
    from bulk.cluster import score_on_ray  # noqa: PLC0415 an extra

    return score_on_ray(folder, names, config, ray_address)


def _score(journal: Journal, left: list[str], total: int, rows: Iterable[Row]) -> None:
    progress = Progress(total, total - len(left))
    for row in rows:
        if row["path"] not in journal:  # a cluster that lost a node may hand out a row again
            journal.append(row)
            progress.advance()
    progress.finish()


def _counted(rows: Iterable[Row], counts: Counter[str]) -> Iterator[Row]:
    for row in rows:
        counts[row["error"] or row["predictedClass"] or "none of the known classes"] += 1
        yield row


def _summary(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
