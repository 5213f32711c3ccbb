"""The image without Docker: what the Dockerfile copies is copied into a clean folder, where its commands run."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import requests

from tests.conftest import ROOT
from tests.support.phantoms import encoded, phantom
from tests.support.server import SERVICE, serving

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()


def copied():
    """Return the names that COPY reads from the build context."""
    lines = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_the_build_context_contains_what_is_copied():
    allowed = [pattern.removeprefix("!") for pattern in IGNORED if pattern.startswith("!")]
    for source in copied():
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), source


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Return the folder that COPY would create."""
    folder = tmp_path_factory.mktemp("image")
    for source in copied():
        for path in ROOT.glob(source):
            if path.is_dir():
                shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def built(image):
    """Return the same folder after the command that compiles the network."""
    engine, command = re.search(
        r"^RUN (BONE_ENGINE=\S+) BONE_CACHE_DIR=/tmp/compiled python (app\.py check \S+)$", DOCKERFILE, re.MULTILINE
    ).groups()
    assert DOCKERFILE.count("COPY --from=compiled / ./compiled") == 2
    environment = os.environ | dict([engine.split("=")]) | {"BONE_CACHE_DIR": str(image / "compiled")}
    arguments = [sys.executable, *command.split()]
    subprocess.run(arguments, cwd=image, env=environment, check=True, capture_output=True, timeout=300)
    for compiled in [*image.rglob("__pycache__")]:
        shutil.rmtree(compiled)
    return image


def inside(text, folder):
    return text.replace("/app/", f"{folder}/")


def environment_of(folder, home):
    stated = re.findall(r"\b((?:PYTHON|BONE_)\w+)=(\S+)", re.search(r"^ENV PATH.*$", DOCKERFILE, re.MULTILINE)[0])
    return {name: inside(value, folder) for name, value in stated} | {"HOME": str(home)}


@pytest.mark.slow
def test_the_image_serves_the_compiled_network_and_writes_nothing_into_its_folder(built, tmp_path):
    before = sorted(built.rglob("*"))
    with serving(SERVICE, built, **environment_of(built, tmp_path)) as server:
        server.wait("/ready")
        assert "compiling" not in server.output
        assert "<html" in requests.get(server.url + "/", timeout=10).text
        answer = requests.post(server.url + "/predict", files={"image": encoded(phantom())}, timeout=30)
        assert answer.status_code == 200
        assert health_check(server.port) == 0
    assert sorted(built.rglob("*")) == before
    assert health_check(server.port) != 0


@pytest.mark.slow
def test_the_slim_image_serves_its_model_and_refuses_another_with_a_reason(built, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=60)
    python = tmp_path / "venv/bin/python"
    install = [python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", ROOT / "requirements/slim.txt"]
    subprocess.run(install, check=True, timeout=300)
    environment = environment_of(built, tmp_path)
    command = (str(python), "app.py")
    with serving(command, built, **environment) as server:
        server.wait("/ready")
        answer = requests.post(server.url + "/predict", files={"image": encoded(phantom())}, timeout=30).json()
        assert requests.get(server.url + "/model", timeout=10).json()["engine"] == "litert"
        assert answer["success"] in (0, 1)
    another = shutil.copy(built / "bone_fracture_classifier.h5", tmp_path / "another.h5")
    with h5py.File(another, "a") as file:
        file.attrs["bone_version"] = "another"
    with serving(command, built, **environment | {"BONE_MODEL_PATH": str(another)}) as stopped:
        assert stopped.process.wait(60) == 1
        assert "was not compiled for this installation; install TensorFlow" in stopped.output


def health_check(port):
    command = json.loads(re.search(r"HEALTHCHECK.*CMD (\[.*\])", DOCKERFILE)[1])
    environment = os.environ | {"BONE_PORT": str(port)}
    return subprocess.run(
        [sys.executable, *command[1:]], env=environment, check=False, capture_output=True, timeout=30
    ).returncode


def test_the_slim_build_installs_no_tensorflow_where_a_compiled_network_is_given():
    found = re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    stages = {name: text for _, name, text in found}
    bases = {name: base for base, name, _ in found}
    needed, open_ends = set(), {"slim"}
    while open_ends:
        name = open_ends.pop()
        needed.add(name)
        sources = {*re.findall(r"--from=(\S+)", stages[name]), bases[name]} & stages.keys()
        open_ends |= sources - needed - {"compiled"}  # `--build-context compiled=FOLDER` takes the place of that stage
    assert needed == {"slim", "packages-slim", "service"}
    assert not [name for name in needed if "requirements.txt" in stages[name]]


def test_the_image_does_not_run_as_root_and_stops_by_signal():
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert re.search(r'^ENTRYPOINT \["python", "app.py"\]$', DOCKERFILE, re.MULTILINE)


ROOMS = ("imaging", "inference", "web")


def test_every_module_of_the_service_is_in_the_image(image):
    modules = {path.relative_to(ROOT) for folder in ("", *ROOMS) for path in (ROOT / folder).glob("*.py")}
    assert modules == {path.relative_to(image) for path in image.rglob("*.py")}
    assert not list(Path(image).glob("tests"))


@pytest.mark.slow
def test_the_list_of_packages_names_every_pinned_one(tmp_path):
    planned = subprocess.run(
        ["make", "-n", "--no-print-directory", "-o", "setup-dev", "sbom"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    command = planned.stdout.splitlines()[-1].replace("sbom-slim.json", str(tmp_path / "sbom.json")).split()
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    if made.returncode and re.search(
        "failed to fetch|error sending request|no solution found", made.stderr, re.IGNORECASE
    ):
        pytest.skip("the generator of `make sbom` could not be installed: no package index can be reached")
    assert made.returncode == 0, made.stderr
    listed = {(one["name"], one["version"]) for one in json.loads((tmp_path / "sbom.json").read_text())["components"]}
    pinned = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements/slim.txt").read_text(), re.MULTILINE)
    assert listed == set(pinned)
