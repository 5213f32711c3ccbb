import h5py
import keras
import numpy as np
import pytest
import requests

from config import read_config
from model_loader import ModelError, load
from preprocessing import decode, prepare
from tests.support.models import BOTH, ENVIRONMENT, KERAS_2_ALONE, brightness_model, built
from tests.support.phantoms import encoded, phantom
from tests.support.server import serving

KINDS = [("Keras 3", name) for name in BOTH] + [("Keras 2", name) for name in BOTH | KERAS_2_ALONE]
IMAGE = encoded(phantom("fractura"))


def load_file(path, **environment):
    return load(read_config({"BONE_MODEL_PATH": str(path), "BONE_ENGINE": "tensorflow"} | environment))


def with_attributes(path, **attributes):
    with h5py.File(path, "a") as file:
        file.attrs.update({f"bone_{name}": value for name, value in attributes.items()})
    return path


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.h5"
    brightness_model().save(path)
    return path


@pytest.mark.parametrize(("generation", "name"), KINDS)
def test_a_file_answers_as_keras_itself_does_on_both_engines(generation, name, tmp_path):
    model = built(generation, name)
    path = tmp_path / "model.h5"
    model.save(path)
    environment = ENVIRONMENT.get(name, {}) | {"BONE_CONFIDENCE_THRESHOLD": "0.9"}
    classifier = load_file(path, **environment)
    image, _ = decode(IMAGE, 10_000_000)
    inputs = prepare(image, classifier.input_size, classifier.channels, classifier.scaling, classifier.resize)
    expected = model.predict_on_batch(inputs)
    if name == "several_outputs":
        expected, evidence = expected[1], expected[2]
        assert np.allclose(classifier.predict(inputs).evidence, evidence, atol=1e-3)
    if name == "sigmoid":
        expected = np.concatenate([1 - expected, expected], axis=1)
    assert np.allclose(classifier.predict(inputs).probabilities, expected, atol=1e-3)
    compiled = {"BONE_ENGINE": "compiled", "BONE_CACHE_DIR": str(tmp_path / "cache")}
    with serving(BONE_MODEL_PATH=str(path), **compiled, **environment) as server:
        server.wait("/ready")
        answer = requests.post(server.url + "/predict", files={"image": IMAGE}, timeout=30).json()
    known = expected[0][:2]
    assert answer["confidence"] == pytest.approx(100 * known.max(), abs=0.1)
    shares = [entry["probability"] for entry in answer["allProbabilities"]]
    assert shares == pytest.approx(100 * known / known.sum(), abs=0.1)


def test_several_images_at_once_get_the_outputs_of_one_at_a_time(file):
    classifier = load_file(file)
    images = np.random.default_rng(0).random((5, 32, 32, 3), dtype=np.float32)
    together = classifier.predict(images).probabilities
    assert np.allclose(
        together, [classifier.predict(image[np.newaxis]).probabilities[0] for image in images], atol=1e-6
    )


def test_what_a_file_states_belongs_to_it(file):
    stated = {"class_names": "sana,rota", "threshold": 0.7, "scaling": "none", "resize": "letterbox", "version": "v1"}
    stated |= {"quality": '{"auc": 0.8}'}
    with pytest.raises(ModelError, match="not probabilities"):  # 0 to 255 is too bright for it
        load_file(with_attributes(file, **stated))
    found = load_file(file, BONE_SCALING="unit").describe()
    assert (found["classNames"], found["threshold"], found["resize"]) == (["sana", "rota"], 0.7, "letterbox")
    assert (found["version"], found["quality"]) == ("v1", {"auc": 0.8})
    assert found["sources"] == {
        "classNames": "file",
        "threshold": "file",
        "scaling": "environment",
        "resize": "file",
        "inputSize": "network",
    }


def test_a_variable_wins_over_the_file(file):
    with_attributes(file, threshold=0.7, class_names="sana,rota", resize="letterbox")
    classifier = load_file(
        file, BONE_CONFIDENCE_THRESHOLD="0.8", BONE_CLASS_NAMES="a,b", BONE_RESIZE="stretch", BONE_SCALING="unit"
    )
    assert (classifier.threshold, classifier.class_names, classifier.resize) == (0.8, ("a", "b"), "stretch")


def test_a_file_that_states_nothing_gets_the_defaults_and_one_warning(file, caplog):
    classifier = load_file(file)
    assert (classifier.threshold, classifier.class_names) == (0.985, ("fisura", "fractura"))
    assert (classifier.scaling, classifier.resize, classifier.input_size) == ("unit", "stretch", (32, 32))
    assert [record.message for record in caplog.records if record.name == "bone.model"] == [
        "The threshold 0.985 is the default and was not chosen for this model."
    ]


def test_a_threshold_of_the_file_warns_of_nothing(file, caplog):
    load_file(with_attributes(file, threshold=0.8))
    assert not [record for record in caplog.records if record.name == "bone.model"]


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"class_names": "fisura"}, "bone_class_names is 'fisura'; it must be two or more different names"),
        ({"class_names": "a,b,c,d"}, r"it has 2 outputs, but the 4 class names \(a, b, c, d\) want 4, or 5"),
        ({"threshold": 1.5}, "bone_threshold is 1.5; it must be a number from 0 to 1"),
        ({"threshold": "high"}, "bone_threshold is 'high'"),
        ({"threshold": 0.5}, "the threshold 0.5 of its attribute bone_threshold could never reject an image"),
        ({"scaling": "imagenet"}, "bone_scaling is 'imagenet'; it must be unit or none"),
        ({"resize": 3}, "bone_resize is 3; it must be letterbox or stretch"),
        ({"input_size": 12.5}, "bone_input_size is 12.5; it must be a whole number of pixels"),
        ({"input_size": np.inf}, "bone_input_size is inf"),
        ({"input_size": 64}, "its input is 32 × 32 pixels, but its attribute bone_input_size says 64"),
    ],
)
def test_an_attribute_that_does_not_fit_is_refused_by_name(file, attributes, sentence):
    with pytest.raises(ModelError, match=sentence):
        load_file(with_attributes(file, **attributes))


def test_a_network_of_any_size_takes_its_size_from_the_setting(tmp_path):
    path = tmp_path / "model.h5"
    brightness_model(size=(None, None)).save(path)
    with pytest.raises(ModelError, match="it takes images of any size; set BONE_INPUT_SIZE"):
        load_file(path)
    assert load_file(path, BONE_INPUT_SIZE="48").input_size == (48, 48)
    assert load_file(with_attributes(path, input_size=40)).input_size == (40, 40)
    assert load_file(path, BONE_INPUT_SIZE="48").settings["input_size"].source == "environment"


def write_golden(path, inputs, outputs):
    with h5py.File(path, "a") as file:
        file.pop("bone_golden", None)
        group = file.create_group("bone_golden")
        group["inputs"] = inputs
        group["outputs"] = outputs


def test_golden_outputs_must_come_back(file):
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


def test_operators_between_layers_are_refused_where_keras_3_wrote_them(tmp_path):
    image = keras.Input((32, 32, 3))
    flat = keras.layers.Flatten()(image / 2.0)
    keras.Model(image, keras.layers.Dense(2, activation="softmax")(flat)).save(tmp_path / "model.h5")
    with pytest.raises(ModelError, match="operators between its layers"):
        load_file(tmp_path / "model.h5")
