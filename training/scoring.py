"""Films -> what the service answers, without HTTP: its own loading, limits, decoding and verdict."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from tqdm import tqdm

from config import Config, available_cores, read_config
from model_loader import Classifier, Outputs, load
from prediction import OutputError, Verdict, inputs_for, judge_outputs, shift
from preprocessing import ImageError, decode, is_blank
from training.learnt import hash_film, read_learnt_films
from training.manifest import Entry
from training.metrics import Floats


@dataclass(frozen=True)
class Model:
    """A model as the service would serve it here, and the hashes of the films that it learnt from."""

    path: Path
    config: Config
    classifier: Classifier
    learnt_from: frozenset[bytes]


@dataclass(frozen=True)
class Answer:
    """What one model answers for one film: outputs as served, (outputs,), and the verdict.

    Of a blank film, on which no network is run, the known classes have 0. `familiarity` is nan where there is none.
    """

    outputs: Floats
    verdict: Verdict
    familiarity: float
    is_learnt: bool


def open_model(path: Path | None = None) -> Model:
    """Load a model, or the one that the environment names, with its settings. Raise ConfigError or ModelError."""
    config = read_config(os.environ)
    config = config if path is None else replace(config, model_path=path)
    return Model(config.model_path, config, load(config), read_learnt_films(config.model_path))


def score_films(models: Sequence[Model], entries: Sequence[Entry]) -> Iterator[list[Answer] | str]:
    """Yield every film's answers, one for each model, in the order given; for one that cannot be read, the reason.

    Each film is decoded once. Nothing is raised for a film.
    """
    with ThreadPool(available_cores()) as threads:
        answers = threads.imap(partial(score_film, models), [entry.path for entry in entries])
        yield from tqdm(answers, "judge", len(entries), unit=" films", disable=None)


def score_film(models: Sequence[Model], path: Path) -> list[Answer] | str:
    """Return the models' answers for a file, or the code of the error, as the service and `bulk` name it."""
    config = models[0].config
    try:
        size = path.stat().st_size
        if not 0 < size <= config.max_upload_bytes:
            return "image_too_large" if size else "empty_image"
        data = path.read_bytes()
        image, _ = decode(data, config.max_pixels)
        blank = is_blank(image)
        film = hash_film(data)
        return [
            _answer(model, None if blank else model.classifier.predict(inputs_for(model.classifier, image)), film)
            for model in models
        ]
    except ImageError as error:
        return error.code
    except OSError:
        return "unreadable_file"
    except OutputError:
        return "internal_error"


def _answer(model: Model, outputs: Outputs | None, film: bytes) -> Answer:
    classifier = model.classifier
    verdict = judge_outputs(classifier, outputs)
    row = np.zeros(classifier.outputs) if outputs is None else np.maximum(outputs.probabilities[0], 0).astype(float)
    if outputs is None and classifier.has_none_output:
        row[-1] = 1.0
    elif outputs is not None and classifier.prevalence is not None:
        row = shift(row, classifier.prevalence.ratios)
    familiar = outputs is not None and outputs.familiarity is not None
    familiarity = float(outputs.familiarity[0, 0]) if familiar else float("nan")  # type: ignore[union-attr, index]
    return Answer(row, verdict, familiarity, film in model.learnt_from)
