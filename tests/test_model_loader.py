import subprocess
import sys

import keras
import numpy as np
import pytest

from model_loader import ModelError, Outputs
from prediction import judge
from preprocessing import decode, prepare
from tests.conftest import ROOT
from tests.support.models import BOTH, ENVIRONMENT, KERAS_2_ALONE, built, compile_here, load_file
from tests.support.phantoms import encoded, phantom

KINDS = [("Keras 3", name) for name in BOTH] + [("Keras 2", name) for name in BOTH | KERAS_2_ALONE]
IMAGE = encoded(phantom("fractura"))


@pytest.mark.parametrize(("generation", "name"), KINDS)
def test_both_engines_answer_as_keras_does(generation, name, tmp_path):
    model = built(generation, name)
    path = tmp_path / "model.h5"
    model.save(path)
    environment = ENVIRONMENT.get(name, {}) | {"BONE_CONFIDENCE_THRESHOLD": "0.9"}
    classifier = load_file(path, **environment)
    image, _ = decode(IMAGE, 10_000_000)
    inputs = prepare(image, classifier.input_size, classifier.channels, classifier.scaling, classifier.resize)
    expected = as_outputs(name, model.predict_on_batch(inputs))
    compiled = compile_here(path, classifier)
    for outputs in (classifier.predict(inputs), compiled.predict(inputs)):
        for found, wanted in zip(outputs, expected, strict=True):
            assert (found is None) == (wanted is None)
            assert wanted is None or np.allclose(found, wanted, atol=1e-3)
    verdict = judge(compiled.predict(inputs).probabilities[0], classifier.class_names, classifier.threshold)
    known = expected.probabilities[0][:2]
    assert verdict.confidence / 100 == pytest.approx(100 * known.max(), abs=0.1)
    assert np.array(verdict.shares) / 100 == pytest.approx(100 * known / known.sum(), abs=0.1)


def as_outputs(name, outputs):
    """Return what Keras gave as Outputs."""
    if name == "several_outputs":
        return Outputs(outputs[1], outputs[2])
    if name == "unusual":
        return Outputs(*outputs)
    return Outputs(np.concatenate([1 - outputs, outputs], axis=1) if name == "sigmoid" else outputs)


def test_several_images_at_once_get_the_outputs_that_they_get_one_at_a_time(brightness_file):
    classifier = load_file(brightness_file)
    images = np.random.default_rng(0).random((5, 32, 32, 3), dtype=np.float32)
    together = classifier.predict(images).probabilities
    assert np.allclose(
        together, [classifier.predict(image[np.newaxis]).probabilities[0] for image in images], atol=1e-6
    )


def test_operators_between_layers_are_refused_where_keras_3_wrote_them(tmp_path):
    image = keras.Input((32, 32, 3))
    flat = keras.layers.Flatten()(image / 2.0)
    keras.Model(image, keras.layers.Dense(2, activation="softmax")(flat)).save(tmp_path / "model.h5")
    with pytest.raises(ModelError, match="operators between its layers"):
        load_file(tmp_path / "model.h5")


def test_importing_model_loader_loads_neither_a_web_server_nor_a_network():
    code = "import sys, model_loader; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert not {"flask", "werkzeug", "tensorflow", "keras", "tf_keras", "ai_edge_litert"} & set(loaded)
