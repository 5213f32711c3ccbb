"""Clients in TypeScript, generated from the OpenAPI document, and two linters of it. `make clients` installs them."""

import functools
import http.server
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
import requests

from tests.support import browser
from tests.support.phantoms import encoded, phantom

SOURCES = Path(__file__).parent / "clients"
PACKAGES = SOURCES / "node_modules"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("node"), reason="install Node.js for the generated clients"),
    pytest.mark.skipif(not PACKAGES.is_dir(), reason="run make clients for the packages of the generated clients"),
]


def run(folder, program, *arguments):
    completed = subprocess.run(
        [PACKAGES / ".bin" / program, *arguments],
        cwd=folder,
        capture_output=True,
        check=False,
        text=True,
        timeout=280,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout + completed.stderr


@pytest.fixture(scope="module")
def folder(server, tmp_path_factory):
    """A folder with the document of a real server, and all sources."""
    folder = tmp_path_factory.mktemp("clients")
    for source in SOURCES.glob("*.*"):
        shutil.copy(source, folder)
    (folder / "node_modules").symlink_to(PACKAGES)
    (folder / "openapi.json").write_bytes(requests.get(server.url + "/openapi.json", timeout=30).content)
    return folder


@pytest.fixture(scope="module")
def frontend(folder):
    """The clients, generated and compiled with --strict, served from an origin of their own."""
    run(folder, "openapi-ts")
    run(folder, "openapi-typescript", "openapi.json", "--output", "openapi.d.ts")
    run(folder, "tsc", "--project", ".")
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as frontend:
        threading.Thread(target=frontend.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{frontend.server_port}/"
        frontend.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    "linter",
    [
        ("redocly", "lint", "openapi.json", "--max-problems=100"),
        ("spectral", "lint", "openapi.json", "--ruleset", "spectral.yaml"),
    ],
    ids=lambda linter: linter[0],
)
def test_a_linter_finds_nothing_in_the_document(folder, linter):
    found = run(folder, *linter)
    assert "warning" not in found.lower().replace("deprecation warning", "")


@pytest.mark.timeout(600)
@pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))
def test_generated_clients_compile_strictly_and_upload_a_file_from_a_browser(frontend, server, tmp_path):
    film = tmp_path / "film.png"
    film.write_bytes(encoded(phantom().point(lambda value: 250 - value % 8)))
    with browser.chromium() as chromium:
        page = chromium.new_page()
        page.goto(frontend)
        page.locator("input").set_input_files(film)
        found = {
            client: page.evaluate("([client, service]) => upload(client, service)", [client, server.url])
            for client in ("sdk", "types")
        }
    assert found["sdk"] == ["fractura", "PNG", "1", "unsupported_image", "fisura,fractura", "empty_image"]
    assert found["types"] == ["fractura", "occlusion", "1", "1", "true", "missing_image"]
