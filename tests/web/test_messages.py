import json
import re
import string

import pytest

from tests.conftest import ROOT
from web.messages import ENGLISH_CLASS_NAMES, ERRORS, REASONS, error_message, none_of_them

ALL = {**ERRORS, **REASONS}


@pytest.mark.parametrize("code", ALL)
def test_both_languages_of_an_error_state_the_same_facts(code):
    facts = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in ALL[code][1:]]
    assert facts[0] == facts[1]


@pytest.mark.parametrize("code", ALL)
def test_an_error_has_a_client_or_server_status_and_two_sentences(code):
    status, spanish, english = ALL[code]
    assert 400 <= status < 600
    assert spanish != english
    assert spanish.endswith(".")
    assert english.endswith(".")


def test_both_languages_of_the_page_have_the_same_sentences_and_facts():
    spanish, english = (
        json.loads((ROOT / "static" / "texts" / f"{code}.json").read_text(encoding="utf-8")) for code in ("es", "en")
    )
    assert list(spanish) == list(english)
    for key, text in spanish.items():
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", english[key])), key


@pytest.mark.parametrize(
    ("language", "banned"),
    [
        ("es", "hablan a favor|no dice ser|trae demasiad|no sabe mostrar|las conocidas|requestId|se ha podido|:g}"),
        ("en", "is no image|maximum are|hablan|requestId|no such|:g}"),
    ],
)
def test_no_sentence_for_people_is_a_calque_or_names_a_key_of_the_json(language, banned):
    page = json.loads((ROOT / "static" / "texts" / f"{language}.json").read_text(encoding="utf-8"))
    errors = [getattr(message, language) for message in ALL.values()]
    found = [text for text in (*page.values(), *errors) if re.search(banned, text)]
    assert found == []


def test_the_page_and_the_messages_translate_class_names_alike():
    page = json.loads((ROOT / "static" / "texts" / "en.json").read_text(encoding="utf-8"))
    assert {name: page[f"class_{name}"] for name in ENGLISH_CLASS_NAMES} == ENGLISH_CLASS_NAMES


@pytest.mark.parametrize(
    ("code", "facts", "spanish", "english"),
    [
        ("image_too_large", {"limit_mb": 0.5}, "el máximo es de 0,5 MB.", "the maximum is 0.5 MB."),
        ("image_too_large", {"limit_mb": 20.0}, "el máximo es de 20 MB.", "the maximum is 20 MB."),
        ("unsupported_image", {"formats": ("PNG", "DICOM")}, "envía PNG o DICOM.", "send PNG or DICOM."),
        ("method_not_allowed", {"allowed": ("GET", "OPTIONS")}, "usa GET u OPTIONS.", "use GET or OPTIONS."),
        ("method_not_allowed", {"allowed": ("GET",)}, "usa GET.", "use GET."),
        (
            "request_too_large",
            {"reason": "too_many_images", "limit": 16},
            "envía como máximo 16 imágenes.",
            "send at most 16 images.",
        ),
    ],
)
def test_numbers_and_lists_are_written_as_the_language_has_them(code, facts, spanish, english):
    assert error_message(code, "es", facts)[1].endswith(spanish)
    assert error_message(code, "en", facts)[1].endswith(english)


def test_facts_are_filled_in():
    assert error_message("image_too_small", "en", {"limit": 32}) == (
        422,
        "The image is too small: each side must be at least 32 pixels.",
    )


def test_a_reason_chooses_its_own_sentence():
    facts = {"reason": "modality", "modality": "CT", "accepted": ("CR", "DX")}
    assert error_message("unsupported_image", "en", facts) == (
        415,
        "The DICOM file has the modality CT, which is not that of a radiograph: send CR or DX.",
    )


def test_the_refusal_names_the_configured_classes():
    assert none_of_them(["fisura", "fractura"], "es") == (
        "La imagen no corresponde a ninguna de las clases conocidas (fisura o fractura)."
    )
    assert none_of_them(["fractura", "b", "c"], "en") == (
        "The image matches none of the known classes: fractura (fracture), b or c."
    )


@pytest.mark.parametrize("name", ["osteoporosis", "hombro", "ósea"])
def test_spanish_uses_u_before_the_sound_o(name):
    assert f"(fisura u {name})" in none_of_them(["fisura", name], "es")
