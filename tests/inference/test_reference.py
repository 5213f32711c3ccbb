import json

import numpy as np
import pytest

from inference.reference import read_reference
from model_loader import ModelError
from tests.support.models import brightness_model, load_file, with_attributes

CLASSES = ("fisura", "fractura")
PRIOR = '{"fisura": 0.1, "fractura": 0.3, "none": 0.6}'


def only(tenth):
    """Return the shares of films that all lie in one tenth."""
    return [float(number == tenth) for number in range(10)]


FRACTURED = {"fisura": only(5), "fractura": only(9), "none": only(0)}
REFERENCE = json.dumps({"fractured": FRACTURED})


@pytest.fixture
def file_with_reference(tmp_path):
    path = tmp_path / "model.h5"
    brightness_model(none=0.2).save(path)
    return with_attributes(path, prior=PRIOR, reference=REFERENCE)


def test_the_classes_are_mixed_as_common_as_in_the_prior(file_with_reference):
    found = load_file(file_with_reference).describe()["reference"]
    assert found == {"fractured": pytest.approx([0.6, 0, 0, 0, 0, 0.1, 0, 0, 0, 0.3])}


def test_the_classes_are_mixed_as_common_as_the_operator_says(file_with_reference):
    found = load_file(file_with_reference, BONE_PREVALENCE="fisura=0.02,fractura=0.06").reference
    assert found["fractured"] == pytest.approx([0.92, 0, 0, 0, 0, 0.02, 0, 0, 0, 0.06])


def test_the_classes_may_have_other_names_than_in_the_file(file_with_reference):
    found = load_file(file_with_reference, BONE_CLASS_NAMES="crack,break", BONE_PREVALENCE="crack=0.2,break=0.3")
    assert found.reference["fractured"] == pytest.approx([0.5, 0, 0, 0, 0, 0.2, 0, 0, 0, 0.3])


def test_a_file_without_a_reference_leaves_it_out(file):
    classifier = load_file(file)
    assert classifier.reference is None
    assert "reference" not in classifier.describe()


def test_a_reference_without_a_prior_stops_the_start():
    with pytest.raises(ModelError, match="bone_reference needs bone_prior"):
        read_reference({"reference": REFERENCE}, CLASSES, None, has_none=True)


@pytest.mark.parametrize(
    "reference",
    [
        "{}",
        "[]",
        "x",
        1.5,
        json.dumps({"other": FRACTURED}),
        json.dumps({"fractured": [0.1] * 10}),
        json.dumps({"fractured": FRACTURED | {"none": [1.0]}}),
        json.dumps({"fractured": FRACTURED | {"none": [0.2] * 10}}),
        json.dumps({"fractured": FRACTURED | {"none": [2.0, -1.0, *[0.0] * 8]}}),
        json.dumps({"fractured": FRACTURED | {"none": ["0.1"] * 10}}),
        json.dumps({"fractured": FRACTURED | {"none": [np.nan] * 10}}),
        json.dumps({"fractured": {"fisura": only(5), "fractura": only(9)}}),
        json.dumps({"fractured": FRACTURED | {"cat": only(1)}}),
    ],
)
def test_a_reference_that_does_not_fit_is_refused(reference):
    sentence = r"bone_reference is .*; it must be a JSON object with fractured or familiarity, each with 10 shares"
    with pytest.raises(ModelError, match=sentence):
        read_reference({"reference": reference, "prior": PRIOR}, CLASSES, None, has_none=True)
