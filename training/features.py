"""Runs the frozen trunk once over each prepared view and keeps what it says."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.network import load_trunk
from training.prepare import load_view
from training.progress import show_progress
from training.recipe import Recipe

Features = NDArray[np.float16]

_BATCH = 8


class FeatureCache:
    """The trunk's output per view: float16, (n, rows, columns, channels), rows in the manifest's order."""

    def __init__(self, recipe: Recipe, cache: Path) -> None:
        self._recipe = recipe
        self._cache = cache
        self._trunk: keras.Model | None = None

    def load(self, view: str) -> Features:
        """Map one view's features into memory; compute them first where they are missing."""
        path = self._path(view)
        if not path.exists():
            self._compute(view, path)
        features: Features = np.load(path, mmap_mode="r")
        return features

    def _path(self, view: str) -> Path:
        pooled = "pooled" if self._recipe.pooled else "map"
        folder = f"{self._recipe.size[0]}x{self._recipe.size[1]}"
        return self._cache / folder / f"{self._recipe.variant.name}_{self._recipe.trunk_end}_{pooled}" / f"{view}.npy"

    def _compute(self, view: str, path: Path) -> None:
        pixels = load_view(self._cache, self._recipe.size, view)
        self._trunk = self._trunk or load_trunk(self._recipe)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        shape = (len(pixels), *self._trunk.output_shape[1:])
        features: Any = np.lib.format.open_memmap(unfinished, "w+", np.float16, shape)
        starts = range(0, len(pixels), _BATCH)
        for start in show_progress(starts, len(starts), f"{view}, batches"):
            batch = np.asarray(pixels[start : start + _BATCH], np.float32) / np.float32(255)
            features[start : start + _BATCH] = self._trunk.predict_on_batch(batch)
        features.flush()
        unfinished.rename(path)
