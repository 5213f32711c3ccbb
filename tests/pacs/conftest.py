import gc
import warnings
from collections.abc import Iterator

import pytest

pytest.importorskip("highdicom", reason="pip install -r requirements/pacs.txt")
pytest.importorskip("pynetdicom", reason="pip install -r requirements/pacs.txt")
pytest.importorskip("dicomweb_client", reason="pip install -r requirements/pacs.txt")

from tests.support.server import RunningServer, serving


@pytest.fixture(scope="session")
def service() -> Iterator[RunningServer]:
    """A service that recognises a fracture in nearly everything, so that there are spots to mark."""
    with serving(BONE_CONFIDENCE_THRESHOLD="0.01") as server:
        yield server.wait("/ready")


@pytest.fixture(autouse=True)
def _collected_sockets() -> Iterator[None]:
    """Collect the sockets that pynetdicom leaves to the garbage collector here, not amid another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
