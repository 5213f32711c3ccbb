import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient

from app import Service, create_app
from config import Config, read_config
from model_loader import Classifier, Outputs, Setting
from tests.support.server import RunningServer, serving

ROOT = Path(__file__).parents[1]


def brightness(images: np.ndarray) -> Outputs:
    """The one fake: the probability of the second class is the mean brightness."""
    mean = images.mean(axis=(1, 2, 3))
    return Outputs(np.stack([1 - mean, mean], axis=1), None)


def make_classifier(threshold: float = 0.8, predict: Callable = brightness, outputs: int = 2) -> Classifier:
    values = {"class_names": ("fisura", "fractura"), "threshold": threshold, "scaling": "unit", "resize": "stretch"}
    return Classifier(
        settings={name: Setting(value, "default") for name, value in values.items()},
        input_size=(32, 32),
        channels=1,
        outputs=outputs,
        evidence_shape=None,
        sha256="0" * 64,
        has_golden=False,
        keras_version="none",
        engine="fake",
        stated={},
        predict=predict,
    )


@pytest.fixture
def config() -> Config:
    return read_config({})


@pytest.fixture
def client(config: Config) -> FlaskClient:
    return create_app(config, Service(make_classifier())).test_client()


@pytest.fixture(scope="session")
def shipped_server() -> Iterator[RunningServer]:
    with serving() as server:
        yield server.wait("/ready")


@pytest.fixture(scope="session")
def server(brightness_file: Path) -> Iterator[RunningServer]:
    """A server whose network measures brightness, for all tests that do nothing but send requests."""
    with serving(BONE_MODEL_PATH=str(brightness_file), BONE_CONFIDENCE_THRESHOLD="0.6") as running:
        yield running.wait("/ready")


@pytest.fixture(scope="session")
def brightness_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.models import brightness_model

    path = tmp_path_factory.mktemp("brightness") / "model.h5"
    brightness_model().save(path)
    return path


@pytest.fixture(scope="session")
def data_dir() -> Path:
    named = os.environ.get("BONE_DATA_DIR")
    if not named:
        pytest.skip("set BONE_DATA_DIR to a folder of radiographs with a manifest.csv")
    return Path(named)
