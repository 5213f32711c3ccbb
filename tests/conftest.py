import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests
from flask.testing import FlaskClient

from app import Service, create_app
from config import Config, read_config
from model_loader import Classifier, Outputs, Setting

ROOT = Path(__file__).parents[1]
SHIPPED_MODEL = ROOT / "bone_fracture_classifier.h5"
START_SECONDS = 60


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


@contextmanager
def serving(**environment: str) -> Iterator["RunningServer"]:
    """Run `python app.py` on a free port of the loopback address until the block ends."""
    server = RunningServer(environment)
    try:
        yield server
    finally:
        server.end()
        server.close()


class RunningServer:
    """A real server process, its address and what it printed."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed by end; a pipe that nobody reads would fill up
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BONE_")}
        settings = {"BONE_HOST": "127.0.0.1", "BONE_PORT": str(self.port)} | environment
        self.process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env=clean | settings,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def output(self) -> str:
        """What the process has printed so far."""
        self._log.seek(0)
        return self._log.read().decode()

    def wait(self, route: str) -> "RunningServer":
        """Return once the route answers 200."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if requests.get(self.url + route, timeout=5).status_code == 200:
                    return self
            except requests.ConnectionError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{route} never answered 200: {self.output}")

    def end(self) -> int:
        """Stop the process, if it has not stopped yet; return its exit code."""
        self.process.terminate()
        return self.process.wait(START_SECONDS)

    def close(self) -> None:
        self._log.close()


@pytest.fixture(scope="session")
def shipped_server() -> Iterator[RunningServer]:
    with serving() as server:
        yield server.wait("/ready")


@pytest.fixture(scope="session")
def brightness_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from models import brightness_model

    path = tmp_path_factory.mktemp("brightness") / "model.h5"
    brightness_model().save(path)
    return path


@pytest.fixture(scope="session")
def data_dir() -> Path:
    named = os.environ.get("BONE_DATA_DIR")
    if not named:
        pytest.skip("set BONE_DATA_DIR to a folder of radiographs with a manifest.csv")
    return Path(named)
