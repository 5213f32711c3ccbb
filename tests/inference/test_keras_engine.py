import ast
import io
import subprocess
import sys
import zipfile

import keras
import pytest

from inference import keras_engine
from tests.conftest import ROOT
from tests.support.models import brightness_model

COMPILER = ROOT / "inference/keras_engine.py"


def compile_with(path, side=0, tolerance=keras_engine.TOLERANCES["probabilities"]):
    """Run the compiler's main in a process of its own, as the service does."""
    code = f"""
import pathlib, sys
from inference import keras_engine

keras_engine.TOLERANCES["probabilities"] = {tolerance}
print(keras_engine.main(pathlib.Path({str(path)!r}), '3.0.0', {side}, 0.0, 1.0), file=sys.stderr)
"""
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return ast.literal_eval(child.stderr.splitlines()[-1])


def test_a_compiled_network_that_differs_from_keras_is_rejected(brightness_file):
    code, output = compile_with(brightness_file, tolerance=-1.0)
    assert code == keras_engine.UNFAITHFUL
    assert output.startswith(b"the compiled network differs from Keras by ")


def test_a_model_that_keras_cannot_load_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "model.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path)
    code, output = compile_with(path)
    assert code == keras_engine.UNFIT
    assert output.startswith(b"its input has the shape (None, 4)")


@pytest.mark.parametrize(("side", "code"), [(0, keras_engine.UNFAITHFUL), (48, 0)])
def test_a_network_without_a_fixed_size_is_compiled_for_the_configured_size(tmp_path, side, code):
    path = tmp_path / "model.h5"
    brightness_model(size=(None, None)).save(path)
    found, output = compile_with(path, side)
    assert found == code
    assert code or zipfile.ZipFile(io.BytesIO(output)).testzip() is None


def test_the_compiler_prints_nothing_but_its_result(brightness_file):
    command = [sys.executable, "-I", str(COMPILER), str(brightness_file), "3.0.0", "0", "0", "1"]
    child = subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert child.stdout.startswith(b"PK")
    assert zipfile.ZipFile(io.BytesIO(child.stdout)).namelist() == ["facts.json", "network.tflite"]
