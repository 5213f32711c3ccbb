"""What the peers share: the shipped network as Keras loads it, and the few lines that usually feed one.

It uses none of the service's modules on purpose: what makes the service fast must not make its peers fast.
"""

from io import BytesIO
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

MODEL: Final = Path(__file__).parents[2] / "bone_fracture_classifier.h5"
NAMES: Final = ("fisura", "fractura")
BATCH: Final = 8
NEGLIGIBLE: Final = 1e-6


def load() -> tuple[Any, tuple[int, int]]:
    """Return the network, whose first output holds the probabilities, and its input's (height, width)."""
    network = keras.models.load_model(MODEL, compile=False)
    return network, network.input_shape[1:3]


def opened(data: bytes) -> Image.Image:
    """Decode any file to RGB, as such services do."""
    return Image.open(BytesIO(data)).convert("RGB")


def prepare(image: Image.Image, size: tuple[int, int]) -> NDArray[np.float32]:
    """Scale to fit within (height, width), centred on black: float32, (height, width, 1), 0 to 1."""
    scale = min(size[0] / image.height, size[1] / image.width)
    width, height = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    canvas = Image.new("L", (size[1], size[0]))
    fitted = image.convert("L").resize((width, height), Image.Resampling.BILINEAR)
    canvas.paste(fitted, ((size[1] - width) // 2, (size[0] - height) // 2))
    return np.asarray(canvas, dtype=np.float32)[..., np.newaxis] / np.float32(255)


def answer(probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Return what the service calls `confidence` and `allProbabilities`, in percent, from one row of outputs.

    As there, the shares are equal if all outputs are negligible.
    """
    known = probabilities[: len(NAMES)].astype(float)
    total = known.sum()
    shares = 100 * known / total if total >= NEGLIGIBLE else np.full(len(NAMES), 100 / len(NAMES))
    shown = [{"class": name, "probability": share} for name, share in zip(NAMES, shares.tolist(), strict=True)]
    return {"confidence": 100 * float(known.max()), "allProbabilities": shown}
