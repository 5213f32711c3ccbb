import keras
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
def test_a_network_that_does_not_fit_is_refused_with_what_would_be_right(tmp_path, build, sentence):
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
