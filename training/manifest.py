"""The data set as its manifest states it: films, what they show, who labelled them, which may share a patient."""

import argparse
import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError

Label = Literal["fisura", "fractura", "fracture_untyped", "normal", "other"]
CLASS_NAMES: Final = ("fisura", "fractura")
LABELS: Final = ("fisura", "fractura", "fracture_untyped", "normal", "other")


@dataclass(frozen=True)
class Box:
    """A radiologist's box: centre and size as fractions, 0 to 1, of the whole film."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Entry:
    """One row of the manifest."""

    path: Path
    label: Label
    fold: int
    source: str
    group: str
    tier: str
    body_part: str = ""
    original_label: str = ""
    boxes: tuple[Box, ...] = ()
    dataset: str = ""
    licence: str = ""

    @property
    def is_typed(self) -> bool:
        """Return whether it is known which of the two classes the film shows."""
        return self.label in CLASS_NAMES

    @property
    def is_fractured(self) -> bool:
        """Return whether the film shows either class, whether or not its type is known."""
        return self.is_typed or self.label == "fracture_untyped"

    @property
    def is_photograph(self) -> bool:
        """Return whether the image is not a medical one: a photograph, a texture, a document."""
        return self.label == "other" and self.original_label.startswith("photo")


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Let a command take `--data`, by default the folder that BONE_DATA_DIR names."""
    default = os.environ.get("BONE_DATA_DIR")
    text = "folder with manifest.csv (default: $BONE_DATA_DIR)"
    parser.add_argument("--data", type=Path, default=default, required=default is None, help=text)


def read_manifest(data_dir: Path) -> list[Entry]:
    """Read `manifest.csv`. Raises TrainingError."""
    path = data_dir / "manifest.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_to_entry(row, data_dir) for row in csv.DictReader(file)]
    except OSError as error:
        raise TrainingError(f"cannot read {path.name}: {error.strerror}") from None
    except (KeyError, ValueError) as error:
        raise TrainingError(f"{path.name} lacks a column or holds a bad value: {error}") from None


def digest_manifest(data_dir: Path) -> str:
    """Return the manifest's SHA-256: the version of the data."""
    return hashlib.sha256((data_dir / "manifest.csv").read_bytes()).hexdigest()


def take(entries: Sequence[Entry], rows: NDArray[np.intp]) -> list[Entry]:
    """Return the entries of these rows."""
    return [entries[row] for row in rows.tolist()]


def _to_entry(row: dict[str, str], data_dir: Path) -> Entry:
    return Entry(
        path=data_dir / row["path"],
        label=_to_label(row["label"]),
        fold=int(row["fold"]),
        source=row["source"],
        group=row["group"],
        tier=row["tier"],
        body_part=row.get("body_part", ""),
        original_label=row.get("original_label", ""),
        boxes=tuple(_to_box(text) for text in row.get("boxes_yolo", "").split(";") if text),
        dataset=row.get("source_dataset") or row["source"],
        licence=row.get("licence", ""),
    )


def _to_label(text: str) -> Label:
    for label in LABELS:
        if text == label:
            return label
    raise ValueError(f"label {text!r}")


def _to_box(text: str) -> Box:
    """Read `name cx cy w h`; a name may hold spaces."""
    x, y, width, height = map(float, text.split()[-4:])
    return Box(x, y, width, height)
