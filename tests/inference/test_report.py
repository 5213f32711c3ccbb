from inference.inspection import read_model_file
from inference.report import describe_classifier, describe_file
from tests.support.models import load_file, with_attributes


def report(path, **environment):
    return "\n".join([*describe_file(read_model_file(path)), *describe_classifier(load_file(path, **environment))])


def test_a_report_says_what_the_file_is_and_where_each_setting_comes_from(file):
    with_attributes(file, threshold=0.8, scaling="unit")
    text = report(file, BONE_RESIZE="letterbox")
    assert "4 kinds of layer:\n  Dense, Functional, GlobalAveragePooling2D, InputLayer\n" in text
    assert "It fits: 32 × 32 pixels, 3 channel(s), 2 outputs." in text
    assert "BONE_CONFIDENCE_THRESHOLD 0.8, from the file" in text
    assert "BONE_RESIZE 'letterbox', from the environment" in text
    assert "BONE_INPUT_SIZE (32, 32), from the network" in text
    assert "none of the classes: no output of its own" in text
    assert "golden outputs: none in the file" in text
    assert "assumed" not in text


def test_a_report_warns_of_a_scaling_that_nothing_states(file):
    assert "The scaling was assumed: unit, 0 to 1. Add images whose class you know to this command" in report(file)
    assert "assumed" not in report(file, BONE_SCALING="unit")
