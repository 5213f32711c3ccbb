"""A .h5 -> an inspected, compiled, verified and warmed-up Classifier. The door to inference/."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from config import LOGGER, SCALINGS, Config, available_cores
from inference.classifier import Classifier, Network, Outputs, build_classifier
from inference.compiled_engine import ModelSource, import_litert, load_compiled
from inference.inspection import ModelError, ModelFile
from inference.keras_engine import Images, load_keras
from inference.model_file import inspect_model
from inference.report import describe_classifier, describe_file
from inference.settings import Setting, resolve_settings
from inference.verification import read_golden, verify

__all__ = [
    "Classifier",
    "Images",
    "ModelError",
    "ModelFile",
    "Outputs",
    "Setting",
    "describe_classifier",
    "describe_file",
    "inspect",
    "load",
]

logger = logging.getLogger(f"{LOGGER}.model")


def inspect(config: Config) -> ModelFile:
    """Return what the model file contains, without loading it. Raise ModelError."""
    try:
        return inspect_model(config.model_path, config.cache_path)
    except ModelError as error:
        raise _naming(config.model_path, error) from error


def load(config: Config, cores: int | None = None) -> Classifier:
    """Return the model that the settings name, ready to serve on that many cores, or on all. Raise ModelError."""
    if config.engine != "tensorflow":
        threading.Thread(target=import_litert, daemon=True).start()  # while the file is inspected
    file = inspect(config)
    try:
        classifier = _load(config, file, cores or available_cores())
    except ModelError as error:
        raise _naming(config.model_path, error) from error
    _warn_of_assumptions(classifier)
    return classifier


def _warn_of_assumptions(classifier: Classifier) -> None:
    if classifier.settings["scaling"].source == "default":
        logger.warning(
            "The scaling %s (%s) was assumed: neither the file nor its first layers show which one the network was "
            "trained with, and with a wrong one it answers at random. Compare them on images whose class you know with "
            "`python app.py check FILE IMAGE`, and set BONE_SCALING.",
            classifier.scaling,
            SCALINGS[classifier.scaling].meaning,
        )
    if classifier.settings["threshold"].source == "default":
        logger.warning("The threshold %g is the default and was not chosen for this model.", classifier.threshold)


def _load(config: Config, file: ModelFile, cores: int) -> Classifier:
    settings = resolve_settings(file.attributes, config)
    golden = read_golden(config.model_path)
    network = _open_network(config, file, settings, cores)
    classifier = build_classifier(network, file, settings, config.prevalence, has_golden=golden is not None)
    verify(classifier, golden)
    return classifier


def _open_network(config: Config, file: ModelFile, settings: Mapping[str, Setting], cores: int) -> Network:
    """Open the engine that the settings name; for `auto` the compiled one, or Keras if that one cannot serve."""
    if config.engine == "tensorflow":
        return _open_keras(config.model_path, file.keras_version)
    scale = SCALINGS[settings["scaling"].value]
    side = settings["input_size"].value or 0
    source = ModelSource(config.model_path, file.sha256, file.keras_version, side, scale.low, scale.high)
    try:
        return load_compiled(source, config.cache_path, cores)
    except ModelError as error:
        if config.engine == "compiled" and error.keras_may_serve:
            raise ModelError(f"{error} With BONE_ENGINE=auto TensorFlow runs it.") from error
        if not error.keras_may_serve:
            raise
        logger.warning("The network runs on TensorFlow: %s", error)
    return _open_keras(config.model_path, file.keras_version)


def _open_keras(path: Path, keras_version: str) -> Network:
    try:
        return load_keras(path, keras_version)
    except ValueError as error:
        raise ModelError(str(error)) from error


def _naming(path: Path, error: ModelError) -> ModelError:
    return ModelError(f"{path} cannot be used: {error}")
