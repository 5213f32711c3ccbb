"""The page in a real browser: what a person does with it, from the first drop to the printed report."""

import base64
import csv
import dataclasses
import hashlib
import io
import json
import re
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app import Service, create_app
from config import read_config
from model_loader import Outputs
from tests.conftest import make_classifier
from tests.support.browser import ThreadedServer, chromium, missing
from tests.support.phantoms import encoded, phantom
from tests.support.screenshots import (
    AXE,
    KINDS,
    PHONE,
    QUANTILES,
    Mood,
    blank,
    deep,
    dicom,
    film,
    moody_app,
    photograph,
    upload,
    violations,
)
from tests.support.server import serving
from web.errors import ApiError

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

SETTLED = "#visit:not(:has(li:not(.is-done, .is-failed)))"
EXPLAINED = "#heat-note[data-state=done]"
SPANISH_NOTICE = "Ayuda para investigación y triaje; no es un producto sanitario (dispositivo médico)."


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A real server process with a network that finds the cracks of phantoms."""
    from tests.support.models import crack_model

    path = tmp_path_factory.mktemp("cracks") / "cracks.h5"
    crack_model().save(path)
    settings = {"BONE_MODEL_PATH": str(path), "BONE_RESIZE": "letterbox", "BONE_CONFIDENCE_THRESHOLD": "0.7"}
    with serving(**settings) as server:
        yield server.wait("/ready")


class Moody:
    """A server that can be made to refuse, to stop and to start again; its network measures brightness."""

    def __init__(self, **settings):
        self.mood = Mood()
        config = read_config({"BONE_MAX_UPLOAD_MB": "1"} | settings)
        self.server = ThreadedServer(moody_app(Service(make_classifier(threshold=0.7)), config, self.mood))
        self.url = self.server.url


@pytest.fixture
def moody():
    server = Moody()
    yield server
    server.server.stop()


class Visitor:
    """A person with a browser of their own."""

    def __init__(self, browser, **options):
        usual = {"viewport": {"width": 1280, "height": 800}, "locale": "es-ES", "reduced_motion": "reduce"}
        self.context = browser.new_context(**usual | options)
        self.context.add_init_script(path=AXE)
        self.context.add_init_script("window.print = () => { window.printed = (window.printed ?? 0) + 1 }")
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints, self.addresses = [], []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.addresses.append(request.url))

    def _heard(self, message):
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def visit(self, url):
        self.url = url
        self.page.goto(url)
        self.page.wait_for_selector("[data-ready]")
        return self.page

    def leave(self):
        """Close the browser; assert no errors, no foreign requests and no accessibility violations."""
        assert self.complaints == []
        strangers = [url for url in self.addresses if not url.startswith((self.url, "blob:", "data:"))]
        assert strangers == []
        assert violations(self.page) == []
        self.context.close()


@pytest.fixture
def visitor(browser):
    person = Visitor(browser)
    yield person
    person.leave()


def choose(page, *files, explained=True):
    page.set_input_files("#files", list(files))
    page.locator(SETTLED).wait_for()
    if explained:
        page.locator(EXPLAINED).wait_for()


def drop(page, data, name="tibia.png"):
    page.evaluate(
        """([base64, name]) => {
          const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], name, { type: "image/png" }));
          const target = document.querySelector("main");
          for (const type of ["dragenter", "dragover", "drop"]) {
            target.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
          }
        }""",
        [base64.b64encode(data).decode(), name],
    )


def title(page):
    return page.locator("#result h3").inner_text()


def test_from_the_drop_to_the_heat_map_to_the_print(service, visitor):
    page = visitor.visit(service.url)
    assert violations(page) == []
    drop(page, encoded(phantom("fractura", (1200, 960))))
    page.locator(EXPLAINED).wait_for()
    assert title(page) == "Fractura"
    assert re.fullmatch(r"¿Hay fractura\? >?\d+\s%", page.inner_text("#result .big"))
    assert re.fullmatch(r"Tipo: fisura\s<?\d+\s% / fractura\s>?\d+\s%", page.inner_text("#result .type"))
    widths = page.locator("#result .stack .fill").evaluate_all(
        "all => all.map((fill) => parseFloat(fill.style.width || fill.style.inlineSize))"
    )
    assert sum(widths) == pytest.approx(100, abs=0.05)
    assert "No se sabe con qué frecuencia acierta este modelo." in page.inner_text("#result")
    assert (
        page.locator("#map").evaluate("map => getComputedStyle(map).opacity") == "0"
    )  # no wash over the bone at first
    assert page.locator("#map").get_attribute("src").startswith("data:image/png")
    assert page.locator("#picture").get_attribute("src").startswith("blob:")
    film_box, peak = page.locator("#film").bounding_box(), page.locator(".spot").first.bounding_box()
    assert film_box["y"] + 0.4 * film_box["height"] < peak["y"] < film_box["y"] + 0.6 * film_box["height"]
    page.locator("#heat").fill("60")
    assert page.locator("#map").evaluate("map => getComputedStyle(map).opacity") == "0.6"
    assert "escala propia de esta imagen" in page.inner_text(".legend")
    page.uncheck("#outline")
    assert page.locator(".spot").first.is_hidden()
    page.click("#print")
    assert page.evaluate("window.printed") == 1
    paper = page.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) == 1
    page.emulate_media(media="print")
    report = page.inner_text("body")
    digest = hashlib.sha256(encoded(phantom("fractura", (1200, 960)))).hexdigest()
    parts = ("Informe de clasificación", "Fractura", "SHA-256", "tibia.png", SPANISH_NOTICE, "No delimita")
    for part in (*parts, "Paciente", "Identificador de la petición", digest):
        assert part in report
    assert "Añadir" not in report
    assert page.locator(".report-heat img").count() == 2
    page.emulate_media(media="screen")


def test_the_notice_is_always_visible_and_the_headers_are_strict(service, visitor):
    page = visitor.visit(service.url)
    assert page.locator(".notice").inner_text() == SPANISH_NOTICE
    answer = page.request.get(service.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    choose(page, *(film(kind) for kind in KINDS))
    assert page.locator(".notice").bounding_box()["y"] < 800


@pytest.mark.parametrize("settings", [{"color_scheme": "dark"}, {"viewport": PHONE, "has_touch": True}])
def test_the_page_works_as_well_in_dark_colours_and_on_a_phone(service, browser, settings):
    person = Visitor(browser, **settings)
    page = person.visit(service.url)
    assert violations(page) == []
    choose(page, *(film(kind) for kind in KINDS))
    for index, kind in enumerate(("Fractura", "Fisura", "No reconocida")):
        page.locator("#visit .row").nth(index).click()
        if kind != "No reconocida":
            page.locator(EXPLAINED).wait_for()
        assert title(page) == kind
        assert violations(page) == []
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator(".notice").is_visible()
    if "color_scheme" in settings:
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
        page.reload()
        page.wait_for_selector("[data-theme=light]")
    else:
        assert (
            page.locator("#intake [data-pick=camera]").evaluate("button => getComputedStyle(button).display") != "none"
        )
    person.leave()


def test_a_photograph_is_refused_in_words_without_map_or_type_unless_asked(service, visitor):
    page = visitor.visit(service.url)
    choose(page, photograph(), explained=False)
    assert title(page) == "No reconocida"
    assert "Esto no descarta una fractura." in page.inner_text("#result")
    assert "La red no ve indicios suficientes de fisura o fractura" in page.inner_text("#result")
    assert page.inner_text("#result .big").startswith("¿Hay fractura?")
    assert page.locator("#result .type, #result .stack, .spot").count() == 0
    assert page.locator("#heat").is_disabled()
    assert not [url for url in visitor.addresses if "explain" in url]
    page.click("summary")
    assert "JPEG, 8 bits" in page.inner_text("details")
    page.click("text=Mostrar tipo y zonas")
    page.locator(EXPLAINED).wait_for()
    assert page.locator("#result .stack").count() == 1
    assert page.evaluate("document.activeElement.id") == "result-title"
    assert [url for url in visitor.addresses if "explain" in url]


def test_a_blank_image_is_refused_and_said_to_be_blank(service, visitor):
    page = visitor.visit(service.url)
    choose(page, blank(), explained=False)
    assert title(page) == "No reconocida: imagen vacía"
    assert "La imagen es uniforme y no se ha analizado" in page.inner_text("#result")
    assert page.locator("#result .odds").count() == 0
    assert page.locator("text=Mostrar tipo y zonas").count() == 0


def answering(outputs, familiarity, conformal):
    """Return a service whose network answers every image alike."""
    given = Outputs(np.array([outputs], np.float32), familiarity=np.array([[familiarity]], np.float32))
    classifier = make_classifier(threshold=0.32, predict=lambda images: given, outputs=3)
    return Service(dataclasses.replace(classifier, conformal=conformal, has_familiarity=True))


DOUBTFUL, REFUSED = ("Dudosa", "doubtful"), ("No reconocida", "none")
UNUSUAL = ("No reconocida: imagen inusual", "none")


@pytest.mark.parametrize(
    ("outputs", "familiarity", "conformal", "verdict", "said"),
    [
        ((0.055, 0.345, 0.6), 1.0, None, DOUBTFUL, "es más probable que no la haya"),
        ((0.05, 0.6, 0.35), 1.0, QUANTILES, DOUBTFUL, "Caben varias respuestas: fractura o sin fractura."),
        ((0.35, 0.6, 0.05), 1.0, QUANTILES, DOUBTFUL, "no está claro si es fisura o fractura."),
        ((0.02, 0.97, 0.01), 0.001, QUANTILES, DOUBTFUL, "no se parece a las que la red conoce"),
        ((0.02, 0.97, 0.01), 1.0, QUANTILES, ("Fractura", "class-1"), "conminuta"),
        ((0.9, 0.05, 0.05), 1.0, QUANTILES, ("Fisura", "class-0"), "sin desplazamiento"),
        ((0.01, 0.02, 0.97), 1.0, QUANTILES, REFUSED, "puede tratarse de un hueso sano"),
        ((0.01, 0.02, 0.97), 0.001, QUANTILES, UNUSUAL, "comprueba que es una radiografía ósea"),
        ((0.3, 0.01, 0.69), 1.0, QUANTILES | {"none": 0.2}, DOUBTFUL, "la única respuesta que no se puede excluir"),
        ((0.34, 0.33, 0.33), 1.0, dict.fromkeys(QUANTILES, 0.6), DOUBTFUL, "Ninguna de las respuestas posibles"),
        ((0.01, 0.33, 0.66), 1.0, QUANTILES | {"fractura": 0.6}, DOUBTFUL, "es más probable que no la haya"),
        ((0.05, 0.31, 0.64), 1.0, QUANTILES, DOUBTFUL, "Caben varias respuestas: fractura o sin fractura."),
    ],
)
def test_a_class_is_shown_only_where_the_answer_is_sure(visitor, outputs, familiarity, conformal, verdict, said):
    server = ThreadedServer(create_app(read_config({}), answering(outputs, familiarity, conformal)))
    page = visitor.visit(server.url)
    choose(page, film("none"), explained=False)
    shown, tone = verdict
    assert title(page) == shown
    assert said in page.inner_text("#result")
    assert page.locator(f"#result .verdict.tone-{tone}").count() == 1
    red = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--class-1')")
    tones = page.locator("#result .fill.tone-class-1").evaluate_all(
        "all => all.map((fill) => getComputedStyle(fill).getPropertyValue('--tone'))"
    )
    assert (red in tones) == (tones != [] and tone.startswith("class"))  # amber where the answer is doubtful
    assert page.inner_text("#visit .row-verdict").capitalize() in (shown, shown.partition(": ")[2].capitalize())
    assert said in page.inner_text("#spoken")
    assert violations(page) == []
    shares = [int(share) for share in re.findall(r"(\d+)\s%", page.inner_text("#result"))]
    if page.locator("#result .stack").count():
        chance, *types = shares[: 1 + 2]
        *known, rest = shares[3:6]
        assert (sum(types), sum(known), chance + rest) == (100, chance, 100)
    else:
        assert shares == ([] if shown == UNUSUAL[0] else [round(100 * (1 - outputs[2]))])
    server.stop()


def test_the_model_states_how_good_it_is_at_hospitals_that_it_never_saw(visitor):
    rates = {"fractured_accepted_a": 0.417, "fractured_accepted_b": 0.938, "fractured_accepted_mean": 0.595}
    figures = {name: {"value": value} for name, value in (rates | {"normal_rejected_mean": 0.933}).items()}
    service = answering((0.02, 0.97, 0.01), 1.0, QUANTILES)
    stated = {"quality": json.dumps({"sourcesLeftOut": {"figures": figures}})}
    service.classifier = dataclasses.replace(service.classifier, stated=stated)
    server = ThreadedServer(create_app(read_config({}), service))
    page = visitor.visit(server.url)
    choose(page, film("none"), explained=False)
    said = page.inner_text("#result")
    assert "encontró unas 60 de cada 100 fracturas (entre 42 y 94, según el hospital)" in said
    assert "vio fractura en unos 7 de cada 100 huesos sanos" in said
    with page.expect_popup() as card:  # in a tab of its own: the list lives in this one
        page.click("text=Ficha del modelo")
    assert "Model card" in card.value.inner_text("body")
    server.stop()


def test_the_sha_256_of_a_film_is_right_where_browsers_offer_none(moody, visitor):
    visitor.context.add_init_script("Object.defineProperty(crypto, 'subtle', { value: undefined })")
    page = visitor.visit(moody.url)
    data = encoded(phantom("fisura", (700, 500)))
    choose(page, upload("a.png", data), explained=False)
    page.emulate_media(media="print")
    page.locator(f"#report:has-text('{hashlib.sha256(data).hexdigest()}')").wait_for()
    page.emulate_media(media="screen")


def test_the_language_is_that_of_the_address_else_that_of_the_browser(service, browser):
    for locale, query, expected in (("en-GB", "", "en"), ("en-GB", "?lang=es", "es"), ("fr-FR", "", "es")):
        person = Visitor(browser, locale=locale)
        page = person.visit(service.url)
        if query:
            page.goto(f"{service.url}/{query}")
            page.wait_for_selector("[data-ready]")
        assert page.get_attribute("html", "lang") == expected
        sent = page.request.get(f"{service.url}/{query}", headers={"Accept-Language": locale})
        assert f'<html lang="{expected}">' in sent.text()  # without a script, too
        person.leave()


@pytest.mark.parametrize(
    ("file", "decoded"), [(deep(), ["TIFF, 12 bits"]), (dicom(), ["DICOM, 8 bits", "invertida"])], ids=["TIFF", "DICOM"]
)
def test_an_image_that_the_browser_cannot_show_is_shown_as_the_network_saw_it(service, visitor, file, decoded):
    page = visitor.visit(service.url)
    choose(page, file)
    assert title(page) == "Fractura"
    assert page.locator("#picture").get_attribute("src").startswith("data:image/jpeg")
    assert page.locator("#visit img").get_attribute("src").startswith("data:image/jpeg")
    page.click("summary")
    for fact in decoded:
        assert fact in page.inner_text("details")


def test_ten_images_are_answered_and_one_explanation_is_asked_for(service, visitor):
    page = visitor.visit(service.url)
    choose(page, *(film(KINDS[seed % 3], seed, (480, 384)) for seed in range(10)))
    names = page.locator("#visit .row-state").all_inner_texts()
    assert [name.split()[0] for name in names] == ["Fractura", "Fisura", "No"] * 3 + ["Fractura"]
    assert sum("explain" in url for url in visitor.addresses) == 1
    page.locator("#visit .remove").first.click()
    assert page.locator("#visit li").count() == 9
    assert page.evaluate("document.activeElement === document.querySelector('#visit .row')")
    page.click("#sort")
    sorted_names = [name.split()[0] for name in page.locator("#visit .row-state").all_inner_texts()]
    assert sorted_names[-3:] == ["No"] * 3
    with page.expect_download() as download:
        page.click("#table")
    assert download.value.suggested_filename == "radiografias.csv"
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text), delimiter=";"))  # as spreadsheets with a decimal comma expect
    assert [row["verdict"].split()[0] for row in rows] == sorted_names
    assert all(row["file"].endswith(".png") and row["request_id"] and len(row["sha256"]) == 64 for row in rows)
    assert all(re.fullmatch(r"\d+(,\d+)?", row["fractured"]) for row in rows)
    page.click("#sort")
    assert [name.split()[0] for name in page.locator("#visit .row-state").all_inner_texts()] == [
        name.split()[0] for name in names[1:]
    ]
    page.click("#clear")
    assert page.locator("#intake").is_visible()
    assert page.evaluate("document.activeElement.dataset.pick") == "files"


def test_the_language_is_switched_and_remembered(service, visitor):
    page = visitor.visit(service.url)
    choose(page, film("none"), film("fisura"), explained=False)
    assert title(page) == "No reconocida"
    page.click("text=Mostrar tipo y zonas")
    page.locator(EXPLAINED).wait_for()
    assert page.inner_text("#heat-note") == "No destaca ninguna zona."
    page.click("[data-language=en]")
    page.wait_for_selector("[data-language=en][aria-pressed=true]")
    assert title(page) == "Not recognised"
    page.locator("#visit .row").nth(1).click()
    page.locator("#heat-note [lang=en]").wait_for()
    assert title(page) == "Hairline fracture"
    assert "The region with the most evidence is" in page.inner_text("#heat-note")
    assert "always check the radiograph itself" in page.inner_text("#heat-note")
    assert page.locator(".notice").inner_text() == "Research and triage aid; not a medical device."
    page.reload()
    page.wait_for_selector("[data-ready]")
    assert page.get_attribute("html", "lang") == "en"
    assert page.inner_text("#intake h2") == "Choose one or more radiographs"


def test_everything_works_with_the_keyboard_alone(service, visitor):
    choosers = []
    visitor.page.on("filechooser", lambda chooser: choosers.extend([chooser]))
    page = visitor.visit(service.url)
    for _ in range(5):  # past the languages and the theme
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.pick") == "files"
    page.keyboard.press("Enter")
    while not choosers:
        page.wait_for_timeout(50)
    choosers[0].set_files([film("fisura"), film("fractura")])
    page.locator(EXPLAINED).wait_for()
    reached = []
    for _ in range(24):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        if reached[-1] == "stage":
            page.keyboard.press("+")
            page.keyboard.press("ArrowLeft")
            page.keyboard.press("i")
        if reached[-1] == "heat":
            page.keyboard.press("Home")
        if reached[-1] == "print":
            page.keyboard.press("Enter")
            break
    assert [name for name in reached if name in ("stage", "heat", "brightness", "contrast", "print")] == [
        "stage",
        "heat",
        "brightness",
        "contrast",
        "print",
    ]
    assert "scale(1.25)" in page.get_attribute("#film", "style")
    assert page.get_attribute("[data-tool=invert]", "aria-pressed") == "true"
    assert page.input_value("#heat") == "0"
    assert page.evaluate("window.printed") == 1


def test_the_viewer_zooms_pans_and_sets_its_window(service, visitor):
    page = visitor.visit(service.url)
    choose(page, film("fisura"))
    stage = page.locator("#stage").bounding_box()
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    page.mouse.down()
    page.mouse.move(x + 60, y + 30)
    page.mouse.up()
    assert re.search(
        r"translate\((59|60|61)[\d.]*px, (29|30|31)[\d.]*px\) scale\(2\.1", page.get_attribute("#film", "style")
    )
    page.mouse.down(button="right")
    page.mouse.move(x + 120, y - 30)
    page.mouse.up(button="right")
    assert float(page.input_value("#contrast")) > 0
    assert float(page.input_value("#brightness")) > 0
    assert "windowed" in page.get_attribute("#picture", "class")
    page.click("[data-tool=reset]")
    assert "translate(0px, 0px) scale(1)" in page.get_attribute("#film", "style")
    assert page.input_value("#contrast") == "0"


def test_an_image_can_be_pasted(moody, visitor):
    page = visitor.visit(moody.url)
    page.evaluate(
        """(base64) => {
          const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([bytes], "image.png", { type: "image/png" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
        }""",
        base64.b64encode(encoded(phantom())).decode(),
    )
    page.locator(SETTLED).wait_for()
    assert page.locator("#visit li").count() == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"%PDF-1.7", "envía PNG, JPEG"),
        (encoded(phantom())[:700], "expórtala de nuevo"),
        (b"", "El archivo está vacío"),
        (bytes(1_200_000), "El archivo ocupa 1,2 MB y el máximo es de 1 MB"),
        (encoded(Image.new("L", (20, 20))), "al menos 32 píxeles"),
    ],
)
def test_an_error_says_what_to_do(moody, visitor, data, said):
    page = visitor.visit(moody.url)
    choose(page, upload("imagen", data), explained=False)
    assert title(page) == "No se pudo analizar"
    assert said in page.inner_text("#result")
    assert page.locator("#result button").all_inner_texts() == ["Elegir otra", "Quitar de la lista"]
    with page.expect_file_chooser() as chooser:
        page.click("text=Elegir otra")
    chooser.value.set_files([upload("otra", data)])
    page.locator(f"{SETTLED} li:has-text('otra')").wait_for()
    assert page.locator("#visit li").count() == 1
    assert page.evaluate("document.activeElement.id") == "result-title"
    page.click("text=Quitar de la lista")
    assert page.locator("#intake").is_visible()
    assert page.evaluate("document.activeElement.dataset.pick") == "files"


def test_an_error_of_the_service_can_be_tried_again(moody, visitor):
    page = visitor.visit(moody.url)
    moody.mood.error = ApiError("internal_error")
    choose(page, film("none"), explained=False)
    assert page.locator("#result button").all_inner_texts() == ["Reintentar", "Quitar de la lista"]
    assert "Identificador de la petición" in page.inner_text("#result")
    moody.mood.error = None
    page.click("#result .primary")
    page.locator(".is-done").wait_for()


def test_a_busy_service_is_retried_after_the_time_it_stated(moody, visitor):
    page = visitor.visit(moody.url)
    moody.mood.error = ApiError("overloaded", seconds=5)
    started = time.monotonic()
    page.set_input_files("#files", [film("none")])
    page.locator(".is-busy").wait_for()
    assert "El servicio está ocupado. Nuevo intento dentro de" in page.inner_text("#result")
    moody.mood.error = None
    assert violations(page) == []
    page.locator(SETTLED).wait_for()
    assert time.monotonic() - started >= 5
    assert sum("detail=1" in url for url in visitor.addresses) == 2


def test_the_page_waits_for_a_service_that_is_gone(moody, visitor):
    page = visitor.visit(moody.url)
    moody.server.stop()
    page.set_input_files("#files", [film("none")])
    page.locator("#gone").wait_for()
    assert "Comprueba que está en marcha" in page.inner_text("#gone")
    assert page.locator("#visit li.is-gone").count() == 1
    assert violations(page) == []
    moody.server.start()
    page.click("#gone-now")
    page.locator(SETTLED).wait_for()
    assert page.locator("#gone").is_hidden()
    visitor.complaints.clear()


def test_the_key_is_asked_for_once_and_kept_in_memory_only(browser):
    moody, person = (
        Moody(BONE_API_KEYS="right-key"),
        Visitor(browser, permissions=["clipboard-read", "clipboard-write"]),
    )
    page = person.visit(moody.url)
    page.set_input_files("#files", [film("none"), film("fisura")])
    page.locator("dialog[open]").wait_for()
    assert violations(page) == []
    page.keyboard.type("wrong-key")
    page.keyboard.press("Enter")
    page.locator("#key-wrong:visible").wait_for()
    page.keyboard.type("right-key")
    page.keyboard.press("Enter")
    page.locator(SETTLED).wait_for()
    assert page.locator("#visit li.is-done").count() == 2
    kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie]) + document.body.outerHTML")
    assert "right-key" not in kept
    page.click("[data-copy=curl]")
    page.locator("#copied:has-text('curl')").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "X-API-Key: YOUR_KEY" in copied
    person.leave()
    moody.server.stop()


def test_the_request_is_copied_as_curl_as_fetch_and_as_json(service, browser):
    person = Visitor(browser, permissions=["clipboard-read", "clipboard-write"])
    page = person.visit(service.url)
    file = film("fractura")
    file["name"] = "it's \"one\", Juan's.png"
    choose(page, file)
    copied = {}
    for kind in ("curl", "fetch", "JSON"):
        page.click(f"[data-copy={kind}]")
        page.locator(f"#copied:has-text('{kind}')").wait_for()
        copied[kind] = page.evaluate("navigator.clipboard.readText()")
    answer = json.loads(copied["JSON"])
    assert answer["predictedClass"] == "fractura"
    assert f'fetch("{service.url}/predict?detail=1&lang=es", {{ method: "POST"' in copied["fetch"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / file["name"]).write_bytes(file["buffer"])
        said = subprocess.run(shlex.split(copied["curl"]), cwd=folder, capture_output=True, check=True)
    assert json.loads(said.stdout)["allProbabilities"] == answer["allProbabilities"]
    person.leave()


def test_the_upload_shows_its_progress(service, visitor):
    page = visitor.visit(service.url)
    network = visitor.context.new_cdp_session(page)
    full_speed = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    network.send("Network.emulateNetworkConditions", full_speed | {"uploadThroughput": 400_000})
    page.set_input_files("#files", [upload("grande.bmp", encoded(phantom("fractura", (900, 800)), "BMP"))])
    page.locator("#visit li.is-sending").wait_for()
    shown = set()
    while page.locator("#visit li.is-sending").count():
        shown.add(page.evaluate("document.querySelector('#result progress')?.value ?? 0"))
        page.wait_for_timeout(50)
    assert any(0.1 < share < 0.95 for share in shown)
    network.send("Network.emulateNetworkConditions", full_speed)  # the explanation sends the file again
    page.locator(EXPLAINED).wait_for()


def test_the_page_is_small(service, visitor):
    session = visitor.context.new_cdp_session(visitor.page)
    session.send("Network.enable")
    sizes = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page = visitor.visit(service.url)
    page.wait_for_timeout(300)
    assert len(sizes) > 15
    assert sum(sizes) < 150_000
