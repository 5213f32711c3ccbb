"""Rows of a manifest, made by hand."""

from pathlib import Path

from training.manifest import Entry


def make_entry(label="normal", fold=0, source="here", group="g", tier="core"):
    return Entry(Path("x.png"), label, fold, source, group, tier)


def make_entries(count=400):
    """Make typed, normal and other entries of five folds, each of a group of its own."""
    labels = ["fisura", "fractura", "fractura", "normal", "normal", "normal", "other"]
    return [make_entry(labels[row % 7], row % 5, "here", f"g{row}") for row in range(count)]
