import keras
import numpy as np
import pytest

from model_loader import ModelError
from tests.support.models import load_file


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda k: k.Sequential([k.Input((8,)), k.layers.Dense(2, "softmax")]), "its input has the shape"),
        (lambda k: k.Sequential([k.Input((8, 8, 4)), k.layers.Flatten(), k.layers.Dense(2, "softmax")]), "1 or 3"),
        (lambda k: k.Sequential([k.Input((8, 8, 3)), k.layers.Conv2D(2, 3, activation="softmax")]), "its output has"),
        (lambda k: k.Sequential([k.Input((8, 8, 3)), k.layers.Flatten(), k.layers.Dense(5, "softmax")]), "5 outputs"),
        (
            lambda k: k.Sequential([k.Input((32, 32, 3)), k.layers.Flatten(), k.layers.Dense(2)]),
            "are not probabilities",
        ),
        (
            lambda k: k.Model([a := k.Input((8, 8, 3)), b := k.Input((8, 8, 3))], k.layers.Add()([a, b])),
            "it must have one input",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_a_sentence_that_says_what_would(tmp_path, build, sentence):
    path = tmp_path / "model.h5"
    build(keras).save(path)
    with pytest.raises(ModelError, match=sentence):
        load_file(path)


def test_evidence_of_a_shape_that_cannot_be_explained_is_refused(tmp_path):
    image = keras.Input((32, 32, 3))
    evidence = keras.layers.Conv2D(1, 3, strides=4, name="evidence")(image)
    head = keras.layers.Dense(2, activation="softmax", name="probabilities")(keras.layers.Flatten()(evidence))
    keras.Model(image, [head, evidence]).save(tmp_path / "model.h5")
    with pytest.raises(ModelError, match=r"its output evidence has the shape .* \(rows, columns, 2 classes\)"):
        load_file(tmp_path / "model.h5")


def with_familiarity(path, units, activation):
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    head = keras.layers.Dense(2, activation="softmax", name="probabilities")(pooled)
    familiarity = keras.layers.Dense(units, activation, kernel_initializer="ones", name="familiarity")(pooled)
    keras.Model(image, [head, familiarity]).save(path)
    return path


def test_familiarity_comes_with_the_probabilities(tmp_path):
    classifier = load_file(with_familiarity(tmp_path / "model.h5", 1, "sigmoid"))
    images = np.random.default_rng(0).random((4, 32, 32, 3), dtype=np.float32)
    expected = 1 / (1 + np.exp(-images.mean(axis=(1, 2)).sum(axis=1, keepdims=True)))
    assert np.allclose(classifier.predict(images).familiarity, expected, atol=1e-5)
    assert classifier.describe()["familiarityOutput"]


@pytest.mark.parametrize(
    ("units", "activation", "sentence"),
    [
        (2, "sigmoid", r"its output familiarity has the shape \(None, 2\); it must be \(images, 1\)"),
        (1, "linear", "its output familiarity is not a share from 0 to 1"),
    ],
)
def test_familiarity_that_is_not_one_share_is_refused(tmp_path, units, activation, sentence):
    with pytest.raises(ModelError, match=sentence):
        load_file(with_familiarity(tmp_path / "model.h5", units, activation))
