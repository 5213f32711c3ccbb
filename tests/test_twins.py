"""One film in many formats: the shipped network gives each the same answer, within a percentage point."""

import csv
import io

import numpy as np
import pytest
import requests
from PIL import Image

from tests.support.phantoms import encoded, phantom


def rotated_by_exif(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image.transpose(Image.Transpose.ROTATE_90), exif=exif.tobytes())


def palette(image):
    coloured = image.convert("P")
    coloured.putpalette([value for level in range(256) for value in (level, level, level)])
    return encoded(coloured)


def deep(image, factor, image_format="PNG"):
    return encoded(Image.fromarray(np.rint(np.asarray(image, np.float64) * factor).astype(np.uint16)), image_format)


TWINS = {
    "16-bit PNG": lambda image: deep(image, 257),
    "12-bit PNG": lambda image: deep(image, 4095 / 255),
    "16-bit TIFF": lambda image: deep(image, 257, "TIFF"),
    "float TIFF": lambda image: encoded(Image.fromarray(np.asarray(image, np.float32) / 255), "TIFF"),
    "rotated by EXIF": rotated_by_exif,
    "palette": palette,
    "RGB": lambda image: encoded(image.convert("RGB")),
    "RGBA": lambda image: encoded(image.convert("RGBA")),
    "grey with alpha": lambda image: encoded(image.convert("LA")),
    "BMP": lambda image: encoded(image, "BMP"),
    "lossless WebP": lambda image: encoded(image.convert("RGB"), "WEBP", lossless=True),
}


def numbers(server, data):
    answer = requests.post(server.url + "/predict", files={"image": data}, timeout=30).json()
    return [answer["confidence"], *(entry["probability"] for entry in answer["allProbabilities"])]


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("crack", ["none", "fisura", "fractura"])
def test_a_twin_gets_the_answer_of_its_twin(shipped_server, name, crack):
    film = phantom(crack, seed=3).point(lambda value: min(255, value + 25))  # partly white: all bits are used
    assert numbers(shipped_server, TWINS[name](film)) == pytest.approx(numbers(shipped_server, encoded(film)), abs=1)


@pytest.mark.parametrize("crack", ["none", "fisura", "fractura"])
def test_a_jpeg_gets_the_answer_of_the_png_made_from_it(shipped_server, crack):
    jpeg = encoded(phantom(crack, seed=3), "JPEG", quality=95)
    png = encoded(Image.open(io.BytesIO(jpeg)))
    assert numbers(shipped_server, jpeg) == numbers(shipped_server, png)


def test_compressing_a_real_radiograph_at_quality_95_changes_the_answer_by_less_than_a_point(shipped_server, data_dir):
    with (data_dir / "manifest.csv").open(encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)][::60]
    changes = []
    for path in paths:
        film = Image.open(data_dir / path).convert("L")
        before, after = (numbers(shipped_server, data) for data in (encoded(film), encoded(film, "JPEG", quality=95)))
        changes.append(abs(before[0] - after[0]))
    assert np.median(changes) < 1  # the median: the network may depend on noise that JPEG removes


def test_twins_of_real_radiographs_agree_too(shipped_server, data_dir):
    with (data_dir / "manifest.csv").open(encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)][::250]
    for path in paths:
        film = Image.open(data_dir / path).convert("L")
        if np.asarray(film).max() < 128:
            continue  # a 16-bit twin of a film that uses half the range is brighter by design
        expected = numbers(shipped_server, encoded(film))
        for name, twin in TWINS.items():
            assert numbers(shipped_server, twin(film)) == pytest.approx(expected, abs=1), (path, name)
