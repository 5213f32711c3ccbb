"""No Docker here: what the Dockerfile copies is copied into a clean folder, and its commands are run there."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from conftest import ROOT
from phantoms import encoded, phantom

from benchmarks.service import RunningServer

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()


def copied():
    """Return the names that COPY takes from the context."""
    lines = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_the_context_holds_what_is_copied():
    allowed = [pattern.removeprefix("!") for pattern in IGNORED if pattern.startswith("!")]
    for source in copied():
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), source


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    for source in copied():
        for path in ROOT.glob(source):
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            else:
                shutil.copy(path, folder)
    return folder


def test_the_image_serves_without_writing_into_its_folder(image, tmp_path):
    before = sorted(image.rglob("*"))
    environment = dict(re.findall(r"(PYTHON\w+)=(\S+)", DOCKERFILE)) | {"HOME": str(tmp_path)}
    server = RunningServer(environment, image)
    try:
        server.wait("/ready")
        assert "<html" in requests.get(server.url + "/", timeout=10).text
        answer = requests.post(server.url + "/predict", files={"image": encoded(phantom())}, timeout=30)
        assert answer.status_code == 200
        assert health_check(server.port) == 0
    finally:
        server.end()
        server.close()
    assert sorted(image.rglob("*")) == before
    assert health_check(server.port) != 0


def health_check(port):
    command = json.loads(re.search(r"HEALTHCHECK.*CMD (\[.*\])", DOCKERFILE)[1])
    environment = os.environ | {"BONE_PORT": str(port)}
    return subprocess.run(
        [sys.executable, *command[1:]], env=environment, check=False, capture_output=True, timeout=30
    ).returncode


def test_the_image_runs_as_nobody_and_stops_by_signal():
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert re.search(r'^ENTRYPOINT \["python", "app.py"\]$', DOCKERFILE, re.MULTILINE)


def test_every_module_of_the_root_is_in_the_image(image):
    assert {path.name for path in ROOT.glob("*.py")} == {path.name for path in image.glob("*.py")}
    assert not list(Path(image).glob("tests"))
