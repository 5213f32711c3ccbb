"""Which films of a scored archive to label next: `python -m bulk.choice TABLE.csv COUNT` prints their paths.

Doubtful films come first, and unfamiliar ones; one film of each group before a second of any.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from bulk.scoring import PROBABILITY, Row

UNFAMILIAR: Final = 0.5  # an unfamiliar film is worth as much as one whose doubt is greater by this
SURE: Final = -0.25


def choose(rows: Iterable[Row], count: int) -> list[Row]:
    """Return at most so many rows, the film most worth labelling first. Files with an error are never chosen.

    Films of one `group`, where the manifest has that column, or else of one folder, take turns with those of others.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in sorted((row for row in rows if not row["error"]), key=lambda row: (-worth(row), row["path"])):
        groups[_group_of(row)].append(row)
    turns = [(turn, -worth(row), row["path"], row) for films in groups.values() for turn, row in enumerate(films)]
    return [row for *_, row in sorted(turns, key=lambda turn: turn[:3])[:count]]


def worth(row: Row) -> float:
    """Return how much a label of this film would tell: 0 to 1 for its doubt, more if unfamiliar, less if sure."""
    bonus = {"unfamiliar": UNFAMILIAR, "sure": SURE}.get(row["certainty"] or "", 0.0)
    return doubt(row) + bonus


def doubt(row: Row) -> float:
    """Return 1 where a fracture is as likely as none, 0 where either is certain.

    Of a network without an output for none, the doubt between its classes.
    """
    if row["noneProbability"] not in (None, ""):
        return 1 - abs(2 * float(row["noneProbability"]) / 100 - 1)
    shares = [float(value) / 100 for name, value in row.items() if name.startswith(PROBABILITY)]
    return (1 - max(shares)) / (1 - 1 / len(shares)) if len(shares) > 1 else 0.0


def _group_of(row: Row) -> str:
    return str(row.get("group") or Path(row["path"]).parent.as_posix())


def main(arguments: Sequence[str]) -> int:
    """Print the paths to label next, of a table that bulk wrote."""
    table, count = arguments
    with Path(table).open(encoding="utf-8", newline="") as file:
        print(*(row["path"] for row in choose(csv.DictReader(file), int(count))), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
