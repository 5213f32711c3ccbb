from pathlib import Path

import pytest

from config import SETTINGS, ConfigError, available_cores, read_config, unknown_variables


def test_without_variables_the_defaults_of_the_contract_hold():
    config = read_config({})
    assert (config.host, config.port) == ("0.0.0.0", 5010)  # noqa: S104
    assert config.model_path == Path("bone_fracture_classifier.h5")
    assert config.max_upload_bytes == 20_000_000
    assert config.max_body_bytes == 20_064_000
    assert config.max_pixels == 50_000_000
    assert config.cors_origins == ("*",)
    assert config.language == "es"
    assert config.drain_seconds == 10
    assert config.engine == "auto"
    assert (config.class_names, config.threshold, config.scaling, config.resize, config.input_size) == (None,) * 5


@pytest.mark.parametrize(
    ("variable", "written", "field", "read"),
    [
        ("BONE_PORT", "8080", "port", 8080),
        ("BONE_CLASS_NAMES", "sana, rota", "class_names", ("sana", "rota")),
        ("BONE_CONFIDENCE_THRESHOLD", "0.5", "threshold", 0.5),
        ("BONE_MAX_UPLOAD_MB", "0.5", "max_upload_bytes", 500_000),
        (
            "BONE_CORS_ORIGINS",
            "https://a.example,https://b.example",
            "cors_origins",
            ("https://a.example", "https://b.example"),
        ),
        ("BONE_INPUT_SIZE", "224", "input_size", 224),
        ("BONE_PREVALENCE", "fisura=0.02, fractura = 0.06", "prevalence", {"fisura": 0.02, "fractura": 0.06}),
        ("BONE_LANGUAGE", " en ", "language", "en"),
        ("BONE_PORT", "", "port", 5010),
    ],
)
def test_a_variable_sets_its_field(variable, written, field, read):
    assert getattr(read_config({variable: written}), field) == read


@pytest.mark.parametrize(
    ("variable", "written"),
    [
        ("BONE_PORT", "0"),
        ("BONE_PORT", "65536"),
        ("BONE_PORT", "5010.0"),
        ("BONE_PORT", "٥٠١٠"),
        ("BONE_PORT", "tcp://10.0.0.1:5010"),
        ("BONE_CONFIDENCE_THRESHOLD", "1.01"),
        ("BONE_CONFIDENCE_THRESHOLD", "98,5"),
        ("BONE_CONFIDENCE_THRESHOLD", "nan"),
        ("BONE_CLASS_NAMES", "fisura"),
        ("BONE_CLASS_NAMES", "fisura,fisura"),
        ("BONE_CLASS_NAMES", "fisura,,fractura"),
        ("BONE_SCALING", "Unit"),
        ("BONE_RESIZE", "crop"),
        ("BONE_INPUT_SIZE", "-1"),
        ("BONE_MAX_UPLOAD_MB", "0"),
        ("BONE_MAX_UPLOAD_MB", "inf"),
        ("BONE_MAX_PIXELS", "90000000"),
        ("BONE_CORS_ORIGINS", "clinic.example"),
        ("BONE_CORS_ORIGINS", "https://*.clinic.example"),
        ("BONE_CORS_ORIGINS", "https://clinic.example/"),
        ("BONE_CORS_ORIGINS", "*,https://clinic.example"),
        ("BONE_LANGUAGE", "fr"),
        ("BONE_DRAIN_SECONDS", "-1"),
        ("BONE_ENGINE", "torch"),
        ("BONE_PREVALENCE", "fisura"),
        ("BONE_PREVALENCE", "fisura=2%,fractura=6%"),
        ("BONE_PREVALENCE", "fisura=0,fractura=0.06"),
        ("BONE_PREVALENCE", "fisura=-0.1,fractura=0.06"),
        ("BONE_PREVALENCE", "fisura=0.4,fractura=0.6"),
        ("BONE_PREVALENCE", "fisura=nan,fractura=0.06"),
        ("BONE_PREVALENCE", "fisura=0.02,fisura=0.06"),
        ("BONE_PREVALENCE", "fisura=0.02=0.03"),
    ],
)
def test_a_bad_value_is_refused_with_a_sentence_that_names_the_variable(variable, written):
    with pytest.raises(ConfigError, match=rf"^{variable} is .* it must be .*\.$"):
        read_config({variable: written})


def test_every_variable_has_a_meaning_and_a_name_of_the_common_form():
    assert all(setting.variable.startswith("BONE_") and setting.meaning for setting in SETTINGS)


def test_a_misspelt_variable_is_reported_with_the_one_it_resembles():
    assert unknown_variables({"BONE_PROT": "1", "BONE_XYZ": "1", "HOME": "/"}) == {
        "BONE_PROT": "BONE_PORT",
        "BONE_XYZ": None,
    }


def test_one_image_per_core_is_processed_unless_a_number_is_set():
    assert available_cores() >= 1
    assert read_config({}).slots == available_cores()
    assert read_config({"BONE_MAX_IN_FLIGHT": "3"}).slots == 3
