import pytest

from inference.prevalence import read_prevalence
from model_loader import ModelError
from tests.support.models import brightness_model, load_file, with_attributes

PRIOR = '{"fisura": 0.1, "fractura": 0.3, "none": 0.6}'
CLASSES = ("fisura", "fractura")


@pytest.fixture
def file_with_prior(tmp_path):
    path = tmp_path / "model.h5"
    brightness_model(none=0.2).save(path)
    return with_attributes(path, prior=PRIOR)


def test_the_prevalence_is_compared_with_the_prior_of_the_file(file_with_prior):
    plain = load_file(file_with_prior)
    assert plain.prevalence is None
    assert plain.describe()["prevalence"] is None
    found = load_file(file_with_prior, BONE_PREVALENCE="fractura=0.06,fisura=0.02")
    assert found.prevalence.ratios == pytest.approx((0.2, 0.2, 0.92 / 0.6))
    assert found.describe()["prior"] == {"fisura": 0.1, "fractura": 0.3, "none": 0.6}
    assert found.describe()["prevalence"] == pytest.approx({"fisura": 0.02, "fractura": 0.06, "none": 0.92})


def test_the_prevalence_uses_the_names_that_the_operator_gives_the_classes(file_with_prior):
    found = load_file(file_with_prior, BONE_CLASS_NAMES="crack,break", BONE_PREVALENCE="crack=0.05,break=0.15")
    assert found.prevalence.ratios == pytest.approx((0.5, 0.5, 0.8 / 0.6))


def test_a_prevalence_stops_the_start_where_the_file_has_no_prior(file):
    with pytest.raises(ModelError, match=r"it states no prior \(bone_prior\), so BONE_PREVALENCE cannot be used"):
        load_file(file, BONE_PREVALENCE="fisura=0.02,fractura=0.06")


@pytest.mark.parametrize("chosen", [{"fisura": 0.1}, {"fisura": 0.1, "rota": 0.1}, {"fractura": 0.1, "none": 0.5}])
def test_a_prevalence_must_name_each_class_and_nothing_else(chosen):
    sentence = "must state the prevalence of each of fisura, fractura, and of nothing else"
    with pytest.raises(ModelError, match=sentence):
        read_prevalence(chosen, {"prior": PRIOR}, CLASSES, has_none=True)


@pytest.mark.parametrize("prior", ['{"fisura": 0, "fractura": 0.4, "none": 0.6}', '{"fisura": 0.4}', "0.5"])
def test_a_prior_that_does_not_fit_stops_the_start(prior):
    with pytest.raises(ModelError, match="bone_prior"):
        read_prevalence({"fisura": 0.02, "fractura": 0.06}, {"prior": prior}, CLASSES, has_none=True)


def test_without_a_none_output_nothing_is_left_for_none():
    found = read_prevalence(
        {"fisura": 0.02, "fractura": 0.06}, {"prior": '{"fisura": 0.5, "fractura": 0.5}'}, CLASSES, has_none=False
    )
    assert found.ratios == pytest.approx((0.04, 0.12))
    assert found.shares == {"fisura": 0.02, "fractura": 0.06}
