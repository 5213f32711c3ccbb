"""One file -> one row of the table, by the very functions that the service answers with."""

import logging
import warnings
from pathlib import Path
from typing import Any, Final

from config import LOGGER, Config
from model_loader import load
from prediction import OutputError, answer, classify
from preprocessing import ImageError, decode

PROBABILITY: Final = "probability_"
Row = dict[str, Any]


class Scorer:
    """A network on one core, and the limits of the service. Raises ModelError."""

    def __init__(self, config: Config) -> None:
        warnings.filterwarnings("ignore", module=r"PIL\b")  # as the service does: decode mends or refuses
        self._config = config
        self._classifier = load(config, cores=1)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The known classes in the order of the columns."""
        return self._classifier.class_names

    def score(self, folder: Path, name: str) -> Row:
        """Return the row of one file: its name, and the verdict or the code of the error. Never raises for a file."""
        row: Row = {"path": name, "success": None, "predictedClass": None, "confidence": None}
        row |= {PROBABILITY + known: None for known in self.class_names}
        try:
            image, _ = decode(_read(folder / name, self._config.max_upload_bytes), self._config.max_pixels)
            body = answer(classify(self._classifier, image), refusal="")
        except ImageError as error:
            return row | {"error": error.code}
        except OSError:
            return row | {"error": "unreadable_file"}
        except (OutputError, MemoryError):
            return row | {"error": "internal_error"}
        probabilities = {PROBABILITY + one["class"]: one["probability"] for one in body["allProbabilities"]}
        verdict = {key: body.get(key) for key in ("success", "predictedClass", "confidence")}
        return row | verdict | probabilities | {"error": None}


def failed(name: str, class_names: tuple[str, ...], code: str) -> Row:
    """Return the row of a file that ended the process which worked on it."""
    row: Row = {"path": name, "success": None, "predictedClass": None, "confidence": None}
    return row | {PROBABILITY + known: None for known in class_names} | {"error": code}


def be_quiet() -> None:
    """Leave what a second process would only repeat to the first."""
    logging.getLogger(LOGGER).setLevel(logging.ERROR)


def _read(path: Path, max_bytes: int) -> bytes:
    """Read a file whose size the service would take. Raise ImageError or OSError."""
    size = path.stat().st_size
    if size > max_bytes:
        raise ImageError("image_too_large", limit_mb=max_bytes / 1e6)
    if size == 0:
        raise ImageError("empty_image")
    return path.read_bytes()
