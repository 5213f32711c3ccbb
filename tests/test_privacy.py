import io
import os
import sys
import time
from pathlib import Path

import pytest
import requests
from PIL import Image, PngImagePlugin

from tests.support.phantoms import encoded
from tests.support.server import serving

MARK = "PEREZMARKED7731"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which exists on Linux")


def marked_image():
    """Return a PNG with the mark in its text, its EXIF block and after its end; large enough for buffers to spill."""
    exif = Image.Exif()
    exif[0x010E] = MARK
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", MARK)
    noise = Image.frombytes("L", (1500, 1500), os.urandom(1500 * 1500))
    return encoded(noise, exif=exif.tobytes(), pnginfo=text) + MARK.encode() * 1000


def send_the_mark(server):
    """Send the mark as a file name, in good and damaged content, a field, a header, a path and a query string."""
    image = marked_image()
    for data in (image, image[: len(image) // 2], MARK.encode() * 100_000, b"\xff\xd8\xff" + MARK.encode() * 1000, b""):
        files = {"image": (f"{MARK}.png", io.BytesIO(data), f"image/{MARK}")}
        yield requests.post(server.url + "/predict", files=files, timeout=60)
    yield requests.post(server.url + "/predict", files={"image": image, MARK: b"x"}, data={"name": MARK}, timeout=60)
    yield requests.get(f"{server.url}/{MARK}?patient={MARK}", headers={"Referer": MARK, "User-Agent": MARK}, timeout=60)
    yield requests.post(
        f"{server.url}/predict?lang={MARK}", data=MARK, headers={"X-Request-ID": f"{MARK} the patient"}, timeout=60
    )
    yield requests.post(f"{server.url}/predict", headers={"Content-Type": f"multipart/{MARK}"}, data=MARK, timeout=60)


def written_since(moment, folders):
    for folder in folders:
        for path in Path(folder).rglob("*"):
            try:
                if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= moment:
                    yield path, path.read_bytes()
            except OSError:
                continue


def test_an_upload_leaves_nothing_in_logs_answers_files_or_open_files(brightness_file, tmp_path):
    before = time.time() - 1
    with serving(
        BONE_MODEL_PATH=str(brightness_file), BONE_CONFIDENCE_THRESHOLD="0.6", TMPDIR=str(tmp_path), HOME=str(tmp_path)
    ) as server:
        server.wait("/ready")
        answers = list(send_the_mark(server))
        open_files = {str(link.readlink()) for link in Path(f"/proc/{server.process.pid}/fd").iterdir()}
        assert sum("(deleted)" in name for name in open_files) == 1  # the log that this test reads
        for path, content in written_since(before, [tmp_path, brightness_file.parent, "/dev/shm"]):  # noqa: S108
            assert MARK.encode() not in content, path
        assert MARK not in server.output
    assert {answer.status_code for answer in answers} >= {200, 400, 404, 415, 422}
    for answer in answers:
        assert MARK not in answer.text
        assert MARK not in str(answer.headers)
