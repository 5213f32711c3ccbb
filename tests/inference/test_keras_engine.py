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


IN_A_CHILD = """
import pathlib, sys
from inference import keras_engine

found = {}
for name, (path, side, tolerance) in CASES.items():
    keras_engine.TOLERANCES["probabilities"] = tolerance
    found[name] = keras_engine.main(pathlib.Path(path), "3.0.0", side, 0.0, 1.0)
print(found, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def compiled(brightness_file, tmp_path_factory):
    """The compiler's exit codes and outputs by name, all from one child process, since TensorFlow is slow to import."""
    folder, usual = tmp_path_factory.mktemp("models"), keras_engine.TOLERANCES["probabilities"]
    flat, any_size = str(folder / "flat.h5"), str(folder / "any_size.h5")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(flat)
    brightness_model(size=(None, None)).save(any_size)
    cases = {
        "too strict": (str(brightness_file), 0, -1.0),
        "not an image": (flat, 0, usual),
        "without a size": (any_size, 0, usual),
        "of 48 pixels": (any_size, 48, usual),
    }
    command = [sys.executable, "-c", f"CASES = {cases!r}\n{IN_A_CHILD}"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=True)
    return ast.literal_eval(child.stderr.splitlines()[-1])


def test_a_compiled_network_that_differs_from_keras_is_rejected(compiled):
    code, output = compiled["too strict"]
    assert code == keras_engine.UNFAITHFUL
    assert output.startswith(b"the compiled network differs from Keras by ")


def test_a_model_that_keras_cannot_load_is_refused_in_one_sentence(compiled):
    code, output = compiled["not an image"]
    assert code == keras_engine.UNFIT
    assert output.startswith(b"its input has the shape (None, 4)")


def test_a_network_without_a_fixed_size_is_compiled_for_the_configured_size(compiled):
    code, output = compiled["of 48 pixels"]
    assert code == 0
    assert zipfile.ZipFile(io.BytesIO(output)).testzip() is None
    assert compiled["without a size"] == (keras_engine.UNFAITHFUL, b"the size of its input is not known")


def test_the_compiler_prints_nothing_but_its_result(brightness_file):
    command = [sys.executable, "-I", str(COMPILER), str(brightness_file), "3.0.0", "0", "0", "1"]
    child = subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert child.stdout.startswith(b"PK")
    assert zipfile.ZipFile(io.BytesIO(child.stdout)).namelist() == ["facts.json", "network.tflite"]
