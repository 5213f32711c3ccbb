import csv

import numpy as np
import pytest
from PIL import Image

COLUMNS = ["path", "label", "fold", "source", "group", "tier", "boxes_yolo", "original_label"]


@pytest.fixture(autouse=True, scope="session")
def quick_bootstrap():
    """Draw a tenth of what the card's intervals rest on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.metrics.DRAWS", 100)
        yield


@pytest.fixture
def folder(tmp_path):
    """Make a data set of 20 dark images with a bright square where the box is, or none."""
    rng = np.random.default_rng(0)
    labels = ["fisura", "fractura", "fracture_untyped", "normal", "other"]
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in range(20):
            label = labels[row % 5]
            pixels = rng.integers(0, 30, (90, 120), np.uint8)
            boxed = label in ("fractura", "fracture_untyped")
            if boxed:
                pixels[18:36, 60:84] = 255
            Image.fromarray(pixels).save(tmp_path / f"{row}.png")
            box = "a box 0.6 0.3 0.2 0.2" if boxed else ""
            writer.writerow([f"{row}.png", label, row % 2, f"s{row % 4 // 2}", f"g{row}", "core", box, ""])
    return tmp_path
