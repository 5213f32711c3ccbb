"""The data set as its manifest states it: which images, what they show, who says so, and which may share a patient."""

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

Label = Literal["fisura", "fractura", "fracture_untyped", "normal", "other"]
CLASS_NAMES: Final = ("fisura", "fractura")
LABELS: Final = ("fisura", "fractura", "fracture_untyped", "normal", "other")
SECONDARY_NOISE: Final = 0.1  # chance that a type read off by no expert is the wrong one; an assumption
SECONDARY_WEIGHT: Final = 0.5


class ManifestError(Exception):
    """A manifest that is missing, or a row of it that makes no sense."""


@dataclass(frozen=True)
class Box:
    """A radiologist's box: centre and size as shares, 0 to 1, of the whole image."""

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
        """Say whether it is known which of the two classes the image shows."""
        return self.label in CLASS_NAMES

    @property
    def is_fractured(self) -> bool:
        """Say whether the image shows either class, be its type known or not."""
        return self.is_typed or self.label == "fracture_untyped"

    @property
    def is_photograph(self) -> bool:
        """Say whether the image is no medical one: a photograph, a texture, a document."""
        return self.label == "other" and self.original_label.startswith("photo")


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Let a command take `--data`, by default the folder that BONE_DATA_DIR names."""
    default = os.environ.get("BONE_DATA_DIR")
    text = "folder with manifest.csv (default: $BONE_DATA_DIR)"
    parser.add_argument("--data", type=Path, default=default, required=default is None, help=text)


def read_manifest(data_dir: Path) -> list[Entry]:
    """Read `manifest.csv`. Raises ManifestError."""
    path = data_dir / "manifest.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_to_entry(row, data_dir) for row in csv.DictReader(file)]
    except OSError as error:
        raise ManifestError(f"cannot read {path.name}: {error.strerror}") from None
    except (KeyError, ValueError) as error:
        raise ManifestError(f"{path.name} lacks a column or holds a bad value: {error}") from None


def digest_manifest(data_dir: Path) -> str:
    """Return the manifest's SHA-256: the version of the data."""
    return hashlib.sha256((data_dir / "manifest.csv").read_bytes()).hexdigest()


def take(entries: Sequence[Entry], rows: NDArray[np.intp]) -> list[Entry]:
    """Return the entries of these rows."""
    return [entries[row] for row in rows.tolist()]


def likelihoods(entries: Sequence[Entry]) -> NDArray[np.float32]:
    """Return P(the label that is written | what the image really shows) for fisura, fractura, none: (n, 3).

    Training maximises the sum of this times the network's probabilities, so that an untyped fracture counts as either
    type and a type that no expert gave may be wrong (forward correction: Patrini et al. 2017, arXiv 1609.03683).
    """
    return np.array([_likelihood(entry) for entry in entries], np.float32)


def weights(entries: Sequence[Entry]) -> NDArray[np.float32]:
    """Return how much each image counts in training: 1, or less for a bone whose label is a noisier one. (n,)."""
    noisy = [entry.tier == "secondary" and entry.label != "other" for entry in entries]
    return np.where(noisy, SECONDARY_WEIGHT, 1.0).astype(np.float32)


def _likelihood(entry: Entry) -> list[float]:
    if entry.label == "fracture_untyped":
        return [1.0, 1.0, 0.0]
    if not entry.is_typed:
        return [0.0, 0.0, 1.0]
    noise = SECONDARY_NOISE if entry.tier == "secondary" else 0.0
    return [1 - noise, noise, 0.0] if entry.label == "fisura" else [noise, 1 - noise, 0.0]


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
