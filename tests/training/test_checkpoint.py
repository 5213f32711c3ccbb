import hashlib
import pickle

import numpy as np
import pytest

from training.checkpoint import read_checkpoint
from training.errors import TrainingError


def _write_checkpoint(folder, call):
    """Write a legacy checkpoint of one tensor, (2, 3), by hand; `call` is what builds the tensor."""
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x06NtQ"
    module, name = call
    tensor = f"c{module}\n{name}\n(".encode() + storage + b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89}tR"
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2)]
    parts += [b"\x80\x02}U\x01w" + tensor + b"s.", pickle.dumps(["0"], 2)]
    data = b"".join(parts) + (6).to_bytes(8, "little") + np.arange(6, dtype="<f4").tobytes()
    path = folder / f"x-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    path.write_bytes(data)
    return path


def test_a_legacy_checkpoint_is_read_without_torch(tmp_path):
    tensors = read_checkpoint(_write_checkpoint(tmp_path, ("torch._utils", "_rebuild_tensor_v2")))
    np.testing.assert_array_equal(tensors["w"], [[0, 1, 2], [3, 4, 5]])


def test_a_checkpoint_that_asks_for_code_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"os\.system"):
        read_checkpoint(_write_checkpoint(tmp_path, ("os", "system")))


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = _write_checkpoint(tmp_path, ("torch._utils", "_rebuild_tensor_v2"))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(TrainingError, match="damaged"):
        read_checkpoint(path)
