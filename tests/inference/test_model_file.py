import json
import os

import pytest

from inference import cache
from inference.inspection import ModelError, read_model_file
from inference.model_file import inspect_model


def test_a_file_that_passed_before_passes_again_without_being_read(file, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    found = inspect_model(file, folder)
    monkeypatch.setattr("inference.model_file.sys.executable", "/nowhere")  # no child can be started from here on
    assert inspect_model(file, folder) == found
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(FileNotFoundError):
        inspect_model(file, folder)


def test_a_remembered_inspection_does_not_override_a_checksum(file, tmp_path):
    inspect_model(file, tmp_path / "cache")
    file.with_name("model.h5.sha256").write_text("0" * 64)
    with pytest.raises(ModelError, match="its SHA-256 is not the one"):
        inspect_model(file, tmp_path / "cache")


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"sha256": 1}', b"\xff"])
def test_a_damaged_cache_entry_is_replaced(file, tmp_path, damage):
    folder = tmp_path / "cache"
    found = inspect_model(file, folder)
    (entry,) = folder.iterdir()
    entry.write_bytes(damage)
    assert inspect_model(file, folder) == found
    assert json.loads(entry.read_bytes())["sha256"] == found.sha256


def test_a_refusal_is_not_remembered(file, tmp_path):
    file.write_bytes(file.read_bytes()[:3000])
    for _ in range(2):
        with pytest.raises(ModelError, match="not an HDF5 file"):
            inspect_model(file, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_not_used(file, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert inspect_model(file, tmp_path / "cache") == read_model_file(file)


def test_compiled_and_inspected_files_have_separate_cache_entries(tmp_path):
    for kind in ("inspected", "network"):
        for number in range(6):
            path = tmp_path / f"{kind}-{number}.json"
            cache.write(path, b"{}")
            os.utime(path, (1_000_000 + number, 1_000_000 + number))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [f"{kind}-{number}.json" for kind in ("inspected", "network") for number in range(2, 6)]
