import pytest

from tests.support.entries import make_entry
from training.errors import TrainingError
from training.manifest import Box, read_manifest


def test_a_manifest_is_read_with_its_boxes(folder):
    entries = read_manifest(folder)
    assert len(entries) == 20
    assert entries[1].boxes == (Box(0.6, 0.3, 0.2, 0.2),)
    assert entries[1].is_typed
    assert not entries[2].is_typed
    assert entries[2].is_fractured


def test_a_manifest_with_an_unknown_label_is_refused(folder):
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("normal", "broken"))
    with pytest.raises(TrainingError, match="broken"):
        read_manifest(folder)


def test_normal_bones_and_other_images_are_not_fractured():
    assert not any(make_entry(label).is_fractured for label in ("normal", "other"))
