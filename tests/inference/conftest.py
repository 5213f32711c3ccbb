import shutil
from pathlib import Path

import pytest


@pytest.fixture
def file(brightness_file, tmp_path):
    """A copy of a small model file, to be changed."""
    return Path(shutil.copy(brightness_file, tmp_path / "model.h5"))
