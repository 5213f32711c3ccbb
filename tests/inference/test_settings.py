import numpy as np
import pytest

from inference.settings import read_by_name, read_evidence_scale, read_labels
from model_loader import ModelError
from tests.support.models import brightness_model, load_file, teachable_machine, with_attributes


def test_attributes_belong_to_the_file_that_states_them(file):
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


def test_a_variable_has_precedence_over_the_file(file):
    with_attributes(file, threshold=0.7, class_names="sana,rota", resize="letterbox")
    classifier = load_file(
        file, BONE_CONFIDENCE_THRESHOLD="0.8", BONE_CLASS_NAMES="a,b", BONE_RESIZE="stretch", BONE_SCALING="unit"
    )
    assert (classifier.threshold, classifier.class_names, classifier.resize) == (0.8, ("a", "b"), "stretch")


def test_a_file_without_attributes_gets_the_defaults_and_one_warning(file, caplog):
    classifier = load_file(file)
    assert (classifier.threshold, classifier.class_names) == (0.985, ("fisura", "fractura"))
    assert (classifier.scaling, classifier.resize, classifier.input_size) == ("unit", "stretch", (32, 32))
    assert [record.message for record in caplog.records if record.name == "bone.model"] == [
        "The scaling unit (0 to 1) was assumed: neither the file nor its first layers show which one the network was "
        "trained with, and with a wrong one it answers at random. Compare them on images whose class you know with "
        "`python app.py check FILE IMAGE`, and set BONE_SCALING.",
        "The threshold 0.985 is the default and was not chosen for this model.",
    ]


def test_a_threshold_from_the_file_causes_no_warning(file, caplog):
    load_file(with_attributes(file, threshold=0.8, scaling="unit"))
    assert not [record for record in caplog.records if record.name == "bone.model"]


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"class_names": "fisura"}, "bone_class_names is 'fisura'; it must be two or more different names"),
        ({"class_names": "a,b,c,d"}, r"it has 2 outputs, but the 4 class names \(a, b, c, d\) need 4, or 5"),
        ({"threshold": 1.5}, "bone_threshold is 1.5; it must be a number from 0 to 1"),
        ({"threshold": "high"}, "bone_threshold is 'high'"),
        ({"threshold": 0.5}, "the threshold 0.5 of its attribute bone_threshold could never reject an image"),
        (
            {"scaling": "imagenet"},
            "bone_scaling is 'imagenet'; .* one of unit, none, tf, caffe, torch, or set BONE_SCALING",
        ),
        ({"resize": 3}, "bone_resize is 3; it must be one of letterbox, stretch"),
        ({"input_size": 12.5}, "bone_input_size is 12.5; it must be a whole number from 16 to 4,096"),
        ({"input_size": np.inf}, "bone_input_size is inf"),
        ({"input_size": 64}, "its input is 32 × 32 pixels, but its attribute bone_input_size says 64"),
    ],
)
def test_an_attribute_that_does_not_fit_is_refused_by_name(file, attributes, sentence):
    with pytest.raises(ModelError, match=sentence):
        load_file(with_attributes(file, **attributes))


def test_a_network_without_a_fixed_size_gets_its_size_from_the_setting(tmp_path):
    path = tmp_path / "model.h5"
    brightness_model(size=(None, None)).save(path)
    with pytest.raises(ModelError, match="it takes images of any size; set BONE_INPUT_SIZE"):
        load_file(path)
    assert load_file(path, BONE_INPUT_SIZE="48").input_size == (48, 48)
    assert load_file(with_attributes(path, input_size=40)).input_size == (40, 40)
    assert load_file(path, BONE_INPUT_SIZE="48").settings["input_size"].source == "environment"


CONFORMAL = '{"fisura": 0.1, "fractura": 0.25, "none": 1}'


@pytest.fixture
def file_with_none(tmp_path):
    path = tmp_path / "model.h5"
    brightness_model(none=0.2).save(path)
    return path


def test_the_file_states_quantiles_and_the_scale_of_its_evidence(file_with_none):
    plain = load_file(file_with_none).describe()
    assert (plain["conformal"], plain["evidenceScale"], plain["familiarityOutput"]) == (None, None, False)
    found = load_file(with_attributes(file_with_none, conformal=CONFORMAL, evidence='{"from": -2, "to": 6.5}'))
    assert found.conformal == {"fisura": 0.1, "fractura": 0.25, "none": 1.0}
    assert found.evidence_scale == (-2.0, 6.5)
    assert found.describe()["conformal"] == {"fisura": 0.1, "fractura": 0.25, "none": 1.0}
    assert found.describe()["evidenceScale"] == {"from": -2.0, "to": 6.5}


def test_quantiles_follow_the_names_that_the_operator_gives_the_classes(file_with_none):
    with_attributes(file_with_none, conformal=CONFORMAL)
    found = load_file(file_with_none, BONE_CLASS_NAMES="crack,break").conformal
    assert found == {"crack": 0.1, "break": 0.25, "none": 1.0}


def test_quantiles_of_a_network_without_a_none_output_are_for_the_classes_only(file):
    with_attributes(file, conformal='{"fisura": 0.1, "fractura": 0.2}')
    assert load_file(file).conformal == {"fisura": 0.1, "fractura": 0.2}


@pytest.mark.parametrize(
    "conformal",
    [
        '{"fisura": 0.1, "fractura": 0.25}',
        '{"fisura": 0.1, "fractura": 0.25, "none": 1.5}',
        '{"fisura": 0.1, "fractura": 0.25, "none": NaN}',
        '{"fisura": 0.1, "fractura": 0.25, "none": "0.3"}',
        '{"fisura": 0.1, "fractura": 0.25, "none": null}',
        '{"fisura": 0.1, "fractura": 0.25, "none": 0.5, "other": 0.5}',
        "[0.1, 0.25, 0.5]",
        "0.1",
        "{",
        0.5,
    ],
)
def test_quantiles_that_do_not_fit_the_classes_are_refused(conformal):
    sentence = r"bone_conformal is .*; it must be a JSON object with .* for each of fisura, fractura, none\."
    with pytest.raises(ModelError, match=sentence):
        read_by_name("conformal", {"conformal": conformal}, ("fisura", "fractura"), has_none=True)


def test_quantiles_for_another_number_of_classes_are_refused():
    stated = {"conformal": '{"a": 0.1, "b": 0.2}', "class_names": "a,b"}
    with pytest.raises(ModelError, match="for each of a, b"):
        read_by_name("conformal", stated, ("c", "d", "e"), has_none=False)


@pytest.mark.parametrize(
    "scale",
    [
        '{"from": 2, "to": 2}',
        '{"from": 3, "to": 2}',
        '{"from": 0, "to": Infinity}',
        '{"from": NaN, "to": 2}',
        '{"to": 2}',
        '{"from": 0, "to": 2, "by": 1}',
        "[0, 2]",
        "x",
        3,
    ],
)
def test_a_nonsensical_scale_of_evidence_is_refused(scale):
    sentence = r'bone_evidence is .*; it must be a JSON object with two numbers, "from" less than "to"\.'
    with pytest.raises(ModelError, match=sentence):
        read_evidence_scale({"evidence": scale})


def as_teachable_machine(file, labels):
    file.with_name("labels.txt").write_text(labels, encoding="utf-8")
    return file.rename(file.with_name("keras_model.h5"))


def test_a_model_of_teachable_machine_works_as_exported(tmp_path, caplog):
    model = teachable_machine(tmp_path, "0 Hueso roto\n1 luxación\n")
    path = tmp_path / "keras_model.h5"
    classifier = load_file(path, BONE_CONFIDENCE_THRESHOLD="0.9")
    assert (classifier.class_names, classifier.scaling) == (("Hueso roto", "luxación"), "tf")
    assert {classifier.settings[name].source for name in ("class_names", "scaling")} == {"labels"}
    assert not [record for record in caplog.records if record.name == "bone.model"]
    images = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    assert np.allclose(classifier.predict(images).probabilities, model.predict_on_batch(images), atol=1e-5)
    with_attributes(path, class_names="a,b", scaling="unit")
    assert load_file(path).class_names == ("a", "b")
    assert load_file(path, BONE_CLASS_NAMES="c,d").class_names == ("c", "d")
    assert load_file(path).scaling == "unit"


def test_a_last_label_for_none_of_the_classes_is_the_none_output(file_with_none):
    path = as_teachable_machine(file_with_none, "0 fisura\n1 fractura\n2 Ninguna\n")
    classifier = load_file(path, BONE_SCALING="unit")
    assert (classifier.class_names, classifier.has_none_output) == (("fisura", "fractura"), True)


@pytest.mark.parametrize(
    "labels",
    ["", "a\nb\n", "1 a\n2 b\n", "0 a\n1 b\n0 a\n1 b\n", "0 a\n1 \n", "0 a\n1 a\n", "0 a\n"],
)
def test_labels_of_another_kind_are_ignored(file, labels):
    assert read_labels(as_teachable_machine(file, labels)) is None


def test_labels_beside_a_file_of_another_name_are_ignored(file):
    file.with_name("labels.txt").write_text("0 a\n1 b\n", encoding="utf-8")
    assert read_labels(file) is None
