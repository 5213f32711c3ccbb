"""Take a screenshot of every state of the page, to be looked at.

`python -m tests.support.screenshots FOLDER [MODEL.h5]` writes them. The images are phantoms. Without MODEL the network
is `crack_model`, which knows nothing but phantoms. docs/images/page-*.png are three of the screenshots.
"""

import functools
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app import Service, create_app
from config import read_config
from model_loader import load
from tests.support.browser import ThreadedServer, chromium, missing
from tests.support.dicoms import dicom_file
from tests.support.phantoms import encoded, phantom
from web.errors import ApiError

DESKTOP, TABLET, PHONE = (
    {"width": width, "height": height} for width, height in ((1366, 768), (820, 1180), (360, 740))
)
KINDS = ("fractura", "fisura", "none")


class Mood:
    """The error that the service answers with, for states of the page that a healthy service never causes."""

    error: Exception | None = None


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


class Studio:
    """Takes screenshots, each in a newly opened page."""

    def __init__(self, browser: Any, server: ThreadedServer, mood: Mood, folder: Path) -> None:
        self.browser, self.server, self.mood, self.folder = browser, server, mood, folder

    def take(self, name: str, pose: Callable[[Any], None], viewport: dict[str, int] = DESKTOP, **options: Any) -> None:
        """Open the page, bring it into a state, take a screenshot."""
        self.mood.error = None
        context = self.browser.new_context(viewport=viewport, device_scale_factor=1, **options)
        page = context.new_page()
        page.goto(self.server.url)
        page.wait_for_selector("[data-ready]")
        pose(page)
        page.wait_for_timeout(600)
        small(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).save(self.folder / f"{name}.png", optimize=True)
        context.close()
        print(name)


def show(*files: dict[str, Any], heat: bool = True) -> Callable[[Any], None]:
    def pose(page: Any) -> None:
        page.set_input_files("#files", list(files))
        page.locator("#visit:not(:has(li:not(.is-done, .is-failed)))").wait_for(timeout=30_000)
        if heat:
            page.wait_for_selector("#heat-note[data-state=done]", timeout=30_000)

    return pose


def then(first: Callable[[Any], None], *more: Callable[[Any], Any]) -> Callable[[Any], None]:
    def pose(page: Any) -> None:
        first(page)
        for act in more:
            act(page)

    return pose


def take_all(studio: Studio) -> None:
    """Take a screenshot of every state."""
    three = show(*(film(kind) for kind in KINDS))
    studio.take("empty", lambda page: None)
    studio.take("empty-dark-phone", lambda page: None, PHONE, color_scheme="dark", has_touch=True)
    studio.take("fractura", three)
    studio.take("fisura-dark", then(show(film("fisura"), film("fractura"))), color_scheme="dark")
    studio.take("none-english", then(show(film("none")), lambda page: page.click("[data-language=en]")))
    studio.take("photograph-refused", show(photograph(), heat=True))
    studio.take("blank", show(upload("vacia.png", encoded(Image.new("L", (400, 300), 9)))))
    studio.take("tiff", then(show(deep()), lambda page: page.click("summary")))
    studio.take("dicom", show(dicom()))
    studio.take("ten", show(*(film(KINDS[seed % 3], seed, (600, 480)) for seed in range(10))))
    studio.take(
        "inverted",
        then(show(film("fisura")), lambda page: page.click("[data-tool=invert]"), _zoomed),
    )
    studio.take("unreadable", show(upload("rota.png", encoded(phantom())[:500]), heat=False))
    studio.take("phone", show(film("fisura"), film("none")), PHONE, has_touch=True)
    studio.take(
        "phone-viewer",
        then(show(film("fractura")), lambda page: page.locator("#stage").scroll_into_view_if_needed()),
        PHONE,
        has_touch=True,
    )
    studio.take("tablet", three, TABLET, color_scheme="dark")
    studio.take("busy", _troubled(studio, ApiError("overloaded", seconds=7), ".is-busy"))
    studio.take("key", _troubled(studio, ApiError("unauthorized"), "dialog[open]"), color_scheme="dark")
    studio.take("gone", _left_alone(studio))
    studio.take("drop", _dragged)
    studio.take("print", then(three, lambda page: page.emulate_media(media="print")), {"width": 690, "height": 1010})


def _zoomed(page: Any) -> None:
    page.focus("#stage")
    for _ in range(5):
        page.keyboard.press("+")


def _troubled(studio: Studio, error: Exception, sign: str) -> Callable[[Any], None]:
    def pose(page: Any) -> None:
        studio.mood.error = error
        page.set_input_files("#files", [film("fractura")])
        page.wait_for_selector(sign)

    return pose


def _left_alone(studio: Studio) -> Callable[[Any], None]:
    def pose(page: Any) -> None:
        show(film("fisura"))(page)
        studio.server.stop()
        page.set_input_files("#files", [film("fractura", 1)])
        page.wait_for_selector(".is-gone")
        studio.server.start()

    return pose


def _dragged(page: Any) -> None:
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["x"], "x.png"));
          dispatchEvent(new DragEvent("dragenter", { dataTransfer: data, bubbles: true }));
        }"""
    )


def moody_app(service: Service, config: Any, mood: Mood) -> Any:
    """Return the application, which answers /predict with the error that the mood holds, if any."""
    app = create_app(config, service)

    def trouble() -> None:
        from flask import request

        if mood.error and request.path == "/predict":
            raise mood.error

    app.before_request(trouble)
    return app


def crack_config(folder: Path) -> Any:
    """Write `crack_model` into a folder and return settings that serve it."""
    from tests.support.models import crack_model

    path = folder / "cracks.h5"
    crack_model().save(path)
    settings = {"BONE_MODEL_PATH": str(path), "BONE_RESIZE": "letterbox", "BONE_CONFIDENCE_THRESHOLD": "0.7"}
    return read_config(settings)


def main(arguments: list[str]) -> int:
    """Take the screenshots and return the exit code."""
    if not arguments or missing():
        print(missing() or __doc__, file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        chosen = arguments[1:] and read_config({"BONE_MODEL_PATH": arguments[1]})
        config = chosen or crack_config(Path(scratch))
        mood = Mood()
        server = ThreadedServer(moody_app(Service(load(config)), config, mood))
        with chromium() as browser:
            take_all(Studio(browser, server, mood, folder))
        server.stop()
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # threads of TensorFlow may still be at work
