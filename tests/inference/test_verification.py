import h5py
import numpy as np
import pytest

from model_loader import ModelError
from tests.support.models import brightness_model, load_file, write_golden


def test_golden_outputs_must_be_reproduced(file):
    inputs = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    bright = inputs.mean(axis=(1, 2, 3)) / 255
    expected = np.stack([1 - bright, bright], axis=1).astype(np.float32)
    write_golden(file, inputs, expected)
    load_file(file)
    write_golden(file, inputs, expected + np.float32(0.01))
    with pytest.raises(ModelError, match=r"it misses its golden outputs by 0\.01"):
        load_file(file)
    write_golden(file, inputs[:, :16], expected)
    with pytest.raises(ModelError, match="its golden inputs have the shape"):
        load_file(file)
    write_golden(file, inputs, expected[:, :1])
    with pytest.raises(ModelError, match=r"its golden outputs|misses"):
        load_file(file)


def test_golden_inputs_of_another_kind_or_of_absurd_size_are_refused(file):
    for inputs in (np.zeros((1, 32, 32, 3)), np.zeros((1, 32), np.uint8)):
        write_golden(file, inputs, np.zeros((1, 2), np.float32))
        with pytest.raises(ModelError, match="its golden inputs must be uint8"):
            load_file(file)
    write_golden(file, np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 2), np.float32))
    with h5py.File(file, "a") as opened:
        del opened["bone_golden/inputs"]
        opened["bone_golden"].create_dataset("inputs", (20_000, 32, 32, 3), "u1", compression="gzip")
    with pytest.raises(ModelError, match="its golden inputs must be uint8"):
        load_file(file)


def test_golden_outputs_of_absurd_size_are_refused_unread(file):
    write_golden(file, np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 2), np.float32))
    with h5py.File(file, "a") as opened:
        del opened["bone_golden/outputs"]
        opened["bone_golden"].create_dataset("outputs", (8_000_000, 2), "f4", chunks=(10**5, 2), compression="gzip")
    with pytest.raises(ModelError, match=r"both together at most 50,000,000 bytes\.$"):
        load_file(file)


def test_damaged_weights_are_refused(tmp_path):
    model = brightness_model()
    model.layers[-1].set_weights([np.full((3, 2), np.nan), np.zeros(2)])
    model.save(tmp_path / "model.h5")
    with pytest.raises(ModelError, match="its outputs are not finite"):
        load_file(tmp_path / "model.h5")
