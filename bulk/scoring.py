"""One file -> one row of the table, by the functions that the service answers with."""

import logging
import warnings
from pathlib import Path
from typing import Any, Final

from config import LOGGER, Config
from model_loader import load
from prediction import Verdict, answer, classify
from preprocessing import ImageError, decode

PROBABILITY: Final = "probability_"
Row = dict[str, Any]

logger = logging.getLogger(LOGGER)


class BulkError(Exception):
    """A run that cannot start or go on; the message is one sentence."""


class Scorer:
    """A network on one core, and the limits of the service. Raises ModelError."""

    def __init__(self, config: Config) -> None:
        warnings.filterwarnings("ignore", module=r"PIL\b")  # as the service does: decode mends or refuses
        self._config = config
        self._classifier = load(config, cores=1)
        self.class_names = self._classifier.class_names

    def score(self, folder: Path, name: str) -> Row:
        """Return the row of one file: the verdict or the code of the error. No file raises."""
        try:
            image, _ = decode(_read(folder / name, self._config.max_upload_bytes), self._config.max_pixels)
            verdict = classify(self._classifier, image)
        except ImageError as error:
            return empty_row(name, self.class_names, error.code)
        except OSError:
            return empty_row(name, self.class_names, "unreadable_file")
        except Exception:
            logger.exception("%s could not be scored", name)
            return empty_row(name, self.class_names, "internal_error")
        body = answer(verdict, refusal="")
        shown = {key: body.get(key) for key in ("success", "predictedClass", "confidence")}
        shown |= {PROBABILITY + one["class"]: one["probability"] for one in body["allProbabilities"]}
        return empty_row(name, self.class_names, None) | shown | _certainty(verdict)


def empty_row(name: str, class_names: tuple[str, ...], error: str | None) -> Row:
    """Return a row with every column, of which only the file's name and its error's code are filled."""
    row: Row = {"path": name, "success": None, "predictedClass": None, "confidence": None}
    row |= {PROBABILITY + known: None for known in class_names}
    return row | {"noneProbability": None, "possible": None, "certainty": None, "error": error}


def _certainty(verdict: Verdict) -> Row:
    """Return what `detail=1` says of certainty; `possible` is None where the model file holds no quantiles."""
    return {
        "noneProbability": None if verdict.none is None else verdict.none / 100,
        "possible": None if verdict.possible is None else ";".join(verdict.possible),
        "certainty": verdict.certainty,
    }


def _read(path: Path, max_bytes: int) -> bytes:
    """Read a file whose size the service would take. Raise ImageError or OSError."""
    size = path.stat().st_size
    if size > max_bytes:
        raise ImageError("image_too_large", limit_mb=max_bytes / 1e6)
    if size == 0:
        raise ImageError("empty_image")
    return path.read_bytes()
