"""Answers of every kind from a real server, each checked against the server's own OpenAPI document."""

import concurrent.futures
import signal

import jsonschema
import requests
from PIL import Image

from app import Service, create_app
from config import read_config
from tests.conftest import make_classifier
from tests.support import browser
from tests.support.phantoms import encoded, phantom
from tests.support.server import serving

KEY = {"X-API-Key": "key"}
BRIGHT = encoded(phantom().point(lambda value: 250 - value % 8))
FAINT = encoded(phantom())
BLANK = encoded(Image.new("L", (64, 64), 90))
SLOW = encoded(Image.effect_noise((1900, 1900), 60), "JPEG")
LANGUAGES = ("es", "en")
BROKEN_FORM = {"data": b"--x\r\nnonsense", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}


def files(*images):
    return {"files": [("image", ("film.png", image)) for image in images]}


def raw(data, media):
    return {"data": data, "headers": {"Content-Type": media}}


REFUSED = {  # each is sent in both languages
    "missing_image": {},
    "empty_image": files(b""),
    "several_images": files(FAINT, FAINT),
    "malformed_request": BROKEN_FORM,
    "image_too_large": files(bytes(3_000_001)),
    "request_too_large": {"files": [("other", (None, "x"))] * 20},
    "too_many_pixels": files(encoded(Image.new("L", (2100, 2100)))),
    "unsupported_image": raw(b"text", "image/png"),
    "unreadable_image": files(FAINT[:-200]),
    "image_too_small": files(encoded(Image.new("L", (31, 64)))),
}


class Checked:
    """The answers of a server, and the document that they are checked against."""

    def __init__(self, url):
        self.url = url
        self.document = {}
        self.answers = []

    def send(self, method, path, query="", **options):
        headers = KEY | options.pop("headers", {})
        answer = requests.request(method, self.url + path + query, headers=headers, timeout=60, **options)
        self.answers.append((method, path, answer))
        return answer

    def check(self):
        for method, path, answer in self.answers:
            operation = self.document["paths"].get(path, self.document["paths"]["/model"])
            (described,) = operation.values()
            response = described["responses"][str(answer.status_code)]
            for name in response["headers"]:
                header = self.document["components"]["headers"][name]
                sent = answer.headers[name]
                self.validate(header["schema"], int(sent) if header["schema"]["type"] == "integer" else sent)
            media = answer.headers["Content-Type"].partition(";")[0]
            schema = response["content"][media]["schema"]
            if method != "HEAD":
                self.validate(schema, answer.json() if "json" in media else answer.text)

    def validate(self, schema, found):
        jsonschema.Draft202012Validator(schema | {"components": self.document["components"]}).validate(found)


def test_answers_of_every_kind_are_as_the_document_describes(brightness_file):
    with serving(
        BONE_MODEL_PATH=str(brightness_file),
        BONE_CONFIDENCE_THRESHOLD="0.6",
        BONE_API_KEYS="key",
        BONE_MAX_UPLOAD_MB="3",
        BONE_MAX_PIXELS="4000000",
        BONE_MAX_IN_FLIGHT="1",
        BONE_MAX_QUEUE="4",
        BONE_DEADLINE_SECONDS="0.05",
    ) as server:
        checked = Checked(server.wait("/ready").url)
        checked.document = requests.get(server.url + "/openapi.json", timeout=30).json()
        send_every_kind(checked)
        send_a_crowd(checked)
        send_while_it_stops(checked, server.process)
    for service, expected in ((Service(), "not_ready"), (Service(make_classifier(predict=broken)), "internal_error")):
        checked.url = browser.ThreadedServer(create_app(read_config({}), service)).url.rstrip("/")
        assert {code(answer) for answer in send_in_both(checked, files(FAINT))} == {expected}
    assert len(checked.answers) > 60
    checked.check()


def broken(images):
    raise RuntimeError


def send_in_both(checked, request):
    return [checked.send("POST", "/predict", f"?lang={lang}", **request) for lang in LANGUAGES]


def send_every_kind(checked):
    for expected, request in REFUSED.items():
        assert {code(answer) for answer in send_in_both(checked, request)} == {expected}
    for lang in LANGUAGES:
        for film in (BRIGHT, FAINT, BLANK):
            for extras in ("", "&detail=true", "&explain=true", "&detail=1&explain=1"):
                assert checked.send("POST", "/predict", f"?lang={lang}{extras}", **files(film)).status_code == 200
        for query in (f"?lang={lang}", f"?lang={lang}&detail=1"):
            batch = checked.send("POST", "/predict/batch", query, **files(BRIGHT, FAINT, b"text")).json()
            assert [result.get("code") for result in batch["results"]] == [None, None, "unsupported_image"]
        assert checked.send("POST", "/predict/batch", f"?lang={lang}", **files(*[FAINT] * 17)).status_code == 413
        assert checked.send("POST", "/predict/batch", f"?lang={lang}").status_code == 400
        zipped = checked.send("POST", "/predict/batch", f"?lang={lang}", headers={"Content-Encoding": "gzip"})
        assert zipped.status_code == 415
        assert checked.send("GET", "/predict", f"?lang={lang}").status_code == 405
        assert checked.send("GET", "/nowhere", f"?lang={lang}").status_code == 404
        unauthorized = checked.send("POST", "/predict", f"?lang={lang}", headers={"X-API-Key": "x"}, **files(FAINT))
        assert unauthorized.status_code == 401
    assert checked.send("POST", "/predict", **raw(BRIGHT, "application/octet-stream")).json()["success"] == 1
    for path in ("/model", "/ready", "/health", "/metrics", "/openapi.json"):
        assert checked.send("GET", path).status_code == checked.send("HEAD", path).status_code == 200


def send_a_crowd(checked):
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        crowd = [
            pool.submit(checked.send, "POST", path, f"?lang={lang}", **files(SLOW, *more))
            for lang in LANGUAGES * 12
            for path, more in (("/predict", ()), ("/predict/batch", (SLOW, SLOW)))
        ]
    answers = [future.result() for future in crowd]
    assert {code(answer) for answer in answers} >= {None, "overloaded", "deadline_exceeded"}
    for answer in answers:  # a batch is refused as a whole or not at all
        assert {result.get("code") for result in answer.json().get("results", [])} <= {None}


def send_while_it_stops(checked, process):
    """Let the server finish a batch while it refuses everything else."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        batch = pool.submit(checked.send, "POST", "/predict/batch", **files(*[SLOW] * 7))
        while requests.get(checked.url + "/metrics", timeout=30).text.count("bone_in_flight 1.0") == 0:
            assert not batch.done()
        process.send_signal(signal.SIGTERM)
        assert {code(answer) for answer in send_in_both(checked, files(FAINT))} == {"draining"}
        assert [result.get("code") for result in batch.result().json()["results"]] == [None] * 7


def code(answer):
    return answer.json().get("code")


def test_preflights_name_what_a_page_may_send(server):
    for path, method in (("/predict", "POST"), ("/predict/batch", "POST"), ("/model", "GET")):
        asked = {
            "Origin": "https://clinic.example",
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type,x-api-key,x-request-id",
        }
        answer = requests.options(server.url + path, headers=asked, timeout=30)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert set(answer.headers["Allow"].split(", ")) >= {"OPTIONS", method}
        assert "X-Request-ID" in answer.headers
