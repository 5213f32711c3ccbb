"""Take a screenshot of every state of the page in every size, theme and language, to be looked at.

`python -m tests.support.screenshots FOLDER [STATE...]` writes STATE-SIZE-THEME-LANGUAGE.png and exits with 1 where
axe-core finds a violation. The images are phantoms, and the network is `crack_model`, which knows nothing but phantoms;
for some states its outputs are replaced. docs/images/page-fractura.png is `fractura-1440-light-es.png`.
"""

import dataclasses
import functools
import io
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from PIL import Image

from app import Service, create_app
from config import read_config
from model_loader import Images, Outputs, load
from tests.support.browser import ThreadedServer, chromium, missing
from tests.support.dicoms import dicom_file
from tests.support.phantoms import encoded, phantom
from web.errors import ApiError

SIZES: Final = {"1440": (1440, 900), "1024": (1024, 768), "390": (390, 844), "side": (844, 390)}  # (width, height)
PHONES: Final = ("390", "side")
PHONE: Final = {"width": 390, "height": 844}
LOOKS: Final = (("light", "es"), ("dark", "en"), ("light", "en"), ("dark", "es"))
KINDS: Final = ("fractura", "fisura", "none")
QUANTILES: Final = {"fisura": 0.7, "fractura": 0.7, "none": 0.7}  # a name is possible from 30 % on
AXE: Final = Path(__file__).parents[1] / "vendor" / "axe.min.js"
Pose = Callable[["Sitting"], None]


class Mood:
    """What the service answers with instead, for states that a healthy one with `crack_model` never causes."""

    error: Exception | None = None
    outputs: tuple[float, ...] | None = None
    familiarity: float = 1.0


def upload(name: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def film(kind: str, seed: int = 0, size: tuple[int, int] = (1200, 960)) -> dict[str, Any]:
    return upload(f"{kind}-{seed + 1}.png", _drawn(kind, seed, size))


@functools.cache
def _drawn(kind: str, seed: int, size: tuple[int, int]) -> bytes:
    return encoded(phantom(kind, size, seed))  # type: ignore[arg-type]


def photograph() -> dict[str, Any]:
    """Return a colour picture that is not a radiograph."""
    rows, columns = np.mgrid[0:600, 0:800] / 600
    colours = np.stack([0.9 * columns / 1.34, 0.5 + 0.4 * np.sin(9 * columns), 1 - rows], axis=2)
    return upload("IMG_2041.jpg", encoded(Image.fromarray((255 * colours).astype(np.uint8)), "JPEG"))


def deep() -> dict[str, Any]:
    """Return a TIFF of 12 bits in 16, which browsers cannot display."""
    samples = np.asarray(phantom("fractura", (1000, 800), 4)).astype(np.uint16) * 16
    return upload("antebrazo.tif", encoded(Image.fromarray(samples), "TIFF"))


def dicom() -> dict[str, Any]:
    """Return a MONOCHROME1 DICOM file whose name has no suffix."""
    samples = 255 - np.asarray(phantom("fractura", (1000, 800), 4))
    return upload("IM000001", dicom_file(samples, PhotometricInterpretation="MONOCHROME1"))


def small(picture: Image.Image) -> Image.Image:
    """Reduce a picture to 256 colours: 192 for its few coloured pixels, the rest grey."""
    pixels = np.asarray(picture).astype(int)
    is_grey = np.ptp(pixels, axis=2) < 6
    coloured = Image.fromarray(pixels[~is_grey][None].astype(np.uint8)) if not is_grey.all() else picture
    colours = coloured.quantize(192, dither=Image.Dither.NONE).getpalette() or []
    greys = [level for step in range(64) for level in [round(step * 255 / 63)] * 3]
    palette = Image.new("P", (1, 1))
    palette.putpalette((colours + greys)[:768])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def blank() -> dict[str, Any]:
    """Return an image of one brightness."""
    return upload("vacia.png", encoded(Image.new("L", (400, 300), 9)))


class Sitting(NamedTuple):
    """A newly opened page, the service behind it, and its mood."""

    page: Any
    server: ThreadedServer
    mood: Mood

    def show(self, *files: dict[str, Any], explained: bool = False) -> None:
        """Choose files and wait for their answers, and for the map of the first."""
        self.page.set_input_files("#files", list(files))
        self.page.locator("#visit:not(:has(li:not(.is-done, .is-failed)))").wait_for(timeout=60_000)
        if explained:
            self.page.wait_for_selector("#heat-note[data-state=done]", timeout=60_000)


def _every_kind(sitting: Sitting) -> None:
    sitting.show(*(film(kind) for kind in KINDS), blank(), upload("informe.pdf", b"%PDF-1.7"), explained=True)


def _drag(sitting: Sitting) -> None:
    sitting.page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["x"], "x.png"));
          dispatchEvent(new DragEvent("dragenter", { dataTransfer: data, bubbles: true }));
        }"""
    )


def _answered_with(*outputs: float, explained: bool = False) -> Pose:
    def pose(sitting: Sitting) -> None:
        sitting.mood.outputs = outputs
        sitting.show(film("fractura", 2), explained=explained)

    return pose


def _unfamiliar(file: dict[str, Any]) -> Pose:
    def pose(sitting: Sitting) -> None:
        sitting.mood.familiarity = 0.001
        sitting.show(file)

    return pose


def _asked(sitting: Sitting) -> None:
    _answered_with(0.02, 0.06, 0.92)(sitting)
    sitting.page.click("#result button")
    sitting.page.wait_for_selector("#heat-note[data-state=done]")


def _heated(sitting: Sitting) -> None:
    sitting.show(film("fractura", 3), explained=True)
    sitting.page.locator("#heat").fill("60")
    for _ in range(4):
        sitting.page.click("[data-tool=zoom_in]")


def _detailed(sitting: Sitting) -> None:
    sitting.show(dicom(), explained=True)
    sitting.page.click("summary")


def _many(sitting: Sitting) -> None:
    sitting.show(*(film(KINDS[seed % 3], seed, (600, 480)) for seed in range(20)), explained=True)
    sitting.page.click("#sort")


def _troubled(error: Exception, sign: str) -> Pose:
    def pose(sitting: Sitting) -> None:
        sitting.mood.error = error
        sitting.page.set_input_files("#files", [film("fractura")])
        sitting.page.wait_for_selector(sign)

    return pose


def _wrong_key(sitting: Sitting) -> None:
    _troubled(ApiError("unauthorized"), "dialog[open]")(sitting)
    sitting.page.keyboard.type("wrong")
    sitting.page.keyboard.press("Enter")
    sitting.page.wait_for_selector("#key-wrong:not([hidden])")


def _gone(sitting: Sitting) -> None:
    sitting.server.stop()
    sitting.page.set_input_files("#files", [film("fractura", 1)])
    sitting.page.wait_for_selector(".is-gone")
    sitting.server.start()


def _printed(sitting: Sitting) -> None:
    _every_kind(sitting)
    sitting.page.emulate_media(media="print")


STATES: Final[Mapping[str, Pose]] = {
    "empty": lambda sitting: None,
    "drop": _drag,
    "fractura": _every_kind,
    "fisura": _answered_with(0.93, 0.05, 0.02, explained=True),
    "type-doubtful": _answered_with(0.35, 0.6, 0.05, explained=True),
    "doubtful": _answered_with(0.05, 0.31, 0.64),
    "unfamiliar-doubtful": _unfamiliar(film("fractura")),
    "refused": lambda sitting: sitting.show(film("none")),
    "asked": _asked,
    "unfamiliar": _unfamiliar(photograph()),
    "blank": lambda sitting: sitting.show(blank()),
    "heated": _heated,
    "details": _detailed,
    "many": _many,
    "unsupported": lambda sitting: sitting.show(upload("informe.pdf", b"%PDF-1.7")),
    "unreadable": lambda sitting: sitting.show(upload("rota.png", encoded(phantom())[:500])),
    "too-large": lambda sitting: sitting.show(upload("grande.tif", bytes(2_100_000))),
    "busy": _troubled(ApiError("overloaded", seconds=7), ".is-busy"),
    "internal-error": _troubled(ApiError("internal_error"), ".is-failed"),
    "key": _troubled(ApiError("unauthorized"), "dialog[open]"),
    "wrong-key": _wrong_key,
    "gone": _gone,
    "print": _printed,
}


def violations(page: Any) -> list[tuple[str, list[str]]]:
    """Return the violations that axe-core finds in the page's present state; the page must have loaded AXE."""
    found = page.evaluate(
        "axe.run(document, { resultTypes: ['violations'], rules: { 'target-size': { enabled: true } } })"
    )["violations"]
    return [(rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in found]


def take(sitting: Sitting, state: str, file: Path) -> list[tuple[str, list[str]]]:
    """Bring the page into a state, write its screenshot, and return axe-core's violations."""
    STATES[state](sitting)
    sitting.page.wait_for_timeout(400)
    small(Image.open(io.BytesIO(sitting.page.screenshot())).convert("RGB")).save(file, optimize=True)
    return violations(sitting.page)


@contextmanager
def sat(browser: Any, server: ThreadedServer, mood: Mood, size: str, theme: str, language: str) -> Iterator[Sitting]:
    """Open the page in a browser of its own, with a service in its usual mood."""
    mood.error, mood.outputs, mood.familiarity = None, None, 1.0
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=theme,
        locale={"es": "es-ES", "en": "en-GB"}[language],
        has_touch=size in PHONES,
        is_mobile=size in PHONES,
    )
    context.add_init_script(path=AXE)
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector("[data-ready]")
    yield Sitting(page, server, mood)
    context.close()


def moody_app(service: Service, config: Any, mood: Mood) -> Any:
    """Return the application, which answers /predict with the error that the mood holds, if any."""
    app = create_app(config, service)

    def trouble() -> None:
        from flask import request

        if mood.error and request.path == "/predict":
            raise mood.error

    app.before_request(trouble)
    return app


def moody_service(config: Any, mood: Mood) -> Service:
    """Return a service whose network finds cracks, and answers with the outputs that the mood holds, if any."""
    classifier = load(config)

    def predict(images: Images) -> Outputs:
        found = classifier.predict(images)
        probabilities = np.array([mood.outputs], np.float32) if mood.outputs else found.probabilities
        familiarity = np.full((len(images), 1), mood.familiarity, np.float32)
        return found._replace(probabilities=probabilities, familiarity=familiarity)

    return Service(dataclasses.replace(classifier, predict=predict, conformal=QUANTILES, has_familiarity=True))


def crack_config(folder: Path) -> Any:
    """Write `crack_model` into a folder and return settings that serve it."""
    from tests.support.models import crack_model

    path = folder / "cracks.h5"
    crack_model().save(path)
    settings = {"BONE_MODEL_PATH": str(path), "BONE_RESIZE": "letterbox", "BONE_CONFIDENCE_THRESHOLD": "0.32"}
    return read_config(settings | {"BONE_MAX_UPLOAD_MB": "2"})


def main(arguments: list[str]) -> int:
    """Take the screenshots and return the exit code."""
    folder, *chosen = arguments or [""]
    if not folder or missing() or not set(chosen) <= set(STATES):
        print(missing() or f"{__doc__}\nStates: {', '.join(STATES)}", file=sys.stderr)
        return 2
    Path(folder).mkdir(parents=True, exist_ok=True)
    exit_code, mood = 0, Mood()
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        config = crack_config(Path(scratch))
        server = ThreadedServer(moody_app(moody_service(config, mood), config, mood))
        for (theme, language), size, state in itertools.product(LOOKS, SIZES, chosen or STATES):
            name = f"{state}-{size}-{theme}-{language}"
            with sat(browser, server, mood, size, theme, language) as sitting:
                found = take(sitting, state, Path(folder) / f"{name}.png")
            print(name, *found, flush=True)
            exit_code = 1 if found else exit_code
        server.stop()
    return exit_code


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # threads of TensorFlow may still be at work
