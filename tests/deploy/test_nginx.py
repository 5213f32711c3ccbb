"""The service under a path of a real nginx with TLS: the configuration is the one that docs/deployment.md shows."""

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.conftest import ROOT
from tests.support.browser import chromium, missing
from tests.support.phantoms import encoded, phantom
from tests.support.programs import free_port, need, running
from tests.support.server import serving

pytestmark = [
    pytest.mark.slow,
    need("nginx", "nginx"),
    need("openssl", "openssl"),
]
in_browser = pytest.mark.skipif(missing() is not None, reason=str(missing()))

DEPLOYMENT = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
AROUND = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr notice;
events {{}}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    client_body_temp_path {folder}/bodies; proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/bones.conf;
}}
"""


class Proxy:
    """A running nginx, its address and the folder of its files."""

    def __init__(self, folder):
        self.folder = folder
        self.port, self.plain_port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}/bones/"
        self.client = requests.Session()
        self.client.verify = str(folder / "clinic.pem")
        self.client.trust_env = False  # REQUESTS_CA_BUNDLE would be used instead

    def write(self, service_port):
        """Write the document's configuration, with ports and a certificate of our own and nothing else changed."""
        text = re.search(r"```nginx\n(.*?)```", DEPLOYMENT, re.DOTALL)[1]
        for old, new in {
            "server 127.0.0.1:5010;": f"server 127.0.0.1:{service_port};",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "/etc/nginx/tls": str(self.folder),
        }.items():
            assert old in text
            text = text.replace(old, new)
        (self.folder / "bones.conf").write_text(text, encoding="utf-8")
        (self.folder / "nginx.conf").write_text(AROUND.format(folder=self.folder), encoding="utf-8")

    def answers(self):
        try:
            return self.get("ready").status_code == 200
        except requests.ConnectionError:
            return False

    def get(self, route, **kwargs):
        return self.client.get(self.url + route, timeout=10, **kwargs)

    def post(self, route, **kwargs):
        return self.client.post(self.url + route, timeout=60, **kwargs)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    from tests.support.models import crack_model

    proxy = Proxy(tmp_path_factory.mktemp("nginx"))
    certificate = [
        "-keyout",
        "clinic.key",
        "-out",
        "clinic.pem",
        "-subj",
        "/CN=clinic",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-days",
        "1",
    ]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *certificate]
    subprocess.run(make, cwd=proxy.folder, check=True, capture_output=True, timeout=60)
    crack_model().save(proxy.folder / "cracks.h5")
    model = {
        "BONE_MODEL_PATH": str(proxy.folder / "cracks.h5"),
        "BONE_RESIZE": "letterbox",
        "BONE_ENGINE": "tensorflow",
    }
    with serving(BONE_URL_PREFIX="/bones", BONE_CONFIDENCE_THRESHOLD="0.7", **model) as server:
        server.wait("/ready")
        proxy.write(server.port)
        nginx = [shutil.which("nginx"), "-p", str(proxy.folder), "-c", str(proxy.folder / "nginx.conf")]
        with running(nginx, proxy.folder / "log", proxy.answers):
            yield proxy


@pytest.fixture
def page(proxy):
    """A page whose requests must all go to the service's own path, and whose console must stay silent."""
    with chromium() as browser:
        page = browser.new_context(ignore_https_errors=True, locale="es-ES").new_page()
        page.set_default_timeout(20_000)
        addresses, complaints = [], []
        page.on("request", lambda request: addresses.append(request.url))
        page.on("response", lambda answer: answer.status >= 400 and complaints.append(f"{answer.status} {answer.url}"))
        page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
        yield page
        assert [url for url in addresses if not url.startswith((proxy.url, "blob:", "data:"))] == []
        assert complaints == []


@in_browser
def test_the_page_works_under_the_path(proxy, page):
    page.goto(proxy.url)
    page.wait_for_selector("[data-ready]")
    page.set_input_files(
        "input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": encoded(phantom("fractura"))}
    )
    page.wait_for_selector("#visit li.is-done")
    page.wait_for_selector("#heat-note[data-state=done]")
    page.click("[data-language=en]")
    page.wait_for_selector("html[lang=en]")
    assert "# Model card" in proxy.get("model-card").text


@in_browser
def test_the_docs_call_the_service_under_the_path(proxy, page):
    page.goto(proxy.url + "docs")
    health = page.locator(".opblock", has=page.locator('[data-path="/health"]'))
    health.locator(".opblock-summary-control").click()
    health.get_by_role("button", name="Try it out").click()
    health.get_by_role("button", name="Execute").click()
    assert f"{proxy.url}health" in health.locator(".request-url").inner_text()
    health.locator(".live-responses-table .response-col_status", has_text="200").wait_for()


def test_the_path_without_its_slash_and_plain_http_lead_to_the_page(proxy):
    answer = proxy.client.get(proxy.url.rstrip("/"), timeout=10)
    assert (answer.status_code, answer.url) == (200, proxy.url)
    plain = requests.get(f"http://127.0.0.1:{proxy.plain_port}/bones/?lang=en", allow_redirects=False, timeout=10)
    assert (plain.status_code, plain.headers["Location"]) == (301, "https://127.0.0.1/bones/?lang=en")


def test_headers_go_through_both_ways_and_tls_is_required_from_then_on(proxy):
    answer = proxy.get("health", headers={"X-Request-ID": "trace-1"})
    assert answer.headers["X-Request-ID"] == "trace-1"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "Content-Security-Policy" in proxy.get("").headers


def test_the_series_are_not_for_the_world(proxy):
    assert proxy.get("metrics").status_code == 404


def test_a_batch_of_five_large_films_goes_through_and_no_film_touches_the_disk(proxy):
    large = encoded(phantom()) + bytes(19_900_000)  # a PNG may be followed by anything
    answer = proxy.post("predict/batch?detail=1", files=[("image", (f"{n}.png", large)) for n in range(5)])
    assert answer.status_code == 200
    assert len(answer.json()["results"]) == 5
    answer = proxy.post("predict?explain=1", files={"image": encoded(phantom())})
    assert answer.status_code == 200
    assert [path for path in proxy.folder.glob("[ba]*/**/*") if path.is_file()] == []


def test_a_film_over_the_limit_is_refused_by_the_service_itself(proxy):
    answer = proxy.post("predict", files={"image": bytes(21_000_000)}, headers={"Origin": "https://a.example"})
    assert (answer.status_code, answer.json()["code"]) == (413, "image_too_large")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_one_client_alone_cannot_take_all_the_service(proxy):
    with ThreadPoolExecutor(10) as clients:
        statuses = list(clients.map(lambda _: proxy.post("predict").status_code, range(200)))
    assert set(statuses) == {400, 429}
    assert proxy.get("ready").status_code == 200
