import json

import pytest

from app import Service, create_app
from config import ConfigError, read_config
from tests.conftest import make_classifier
from web.limits import BodyLimits


def client_of(prefix):
    return create_app(read_config({"BONE_URL_PREFIX": prefix}), Service(make_classifier())).test_client()


@pytest.mark.parametrize("path", ["/bones/", "/"])
def test_the_page_links_to_its_prefix_whether_or_not_the_proxy_removes_it(path):
    html = client_of("/bones").get(path).text
    assert html.count('"/bones/static/') > 10
    assert '"/static/' not in html


@pytest.mark.parametrize("path", ["/bones/openapi.json", "/openapi.json"])
def test_the_document_names_the_prefix_as_its_server(path):
    assert client_of("/bones").get(path).json["servers"] == [{"url": "/bones"}]


def test_without_a_prefix_the_server_is_the_root(client):
    assert client.get("/openapi.json").json["servers"] == [{"url": "/"}]
    assert client.get("/", headers={"X-Forwarded-Prefix": "/bones"}).text.count('"/bones/') == 0
    assert client.get("/bones/health").status_code == 404


def test_every_route_answers_under_the_prefix_and_nothing_else_does():
    client = client_of("/bones")
    for path in ("/health", "/ready", "/model", "/metrics", "/docs", "/model-card", "/static/icon.svg"):
        with client.get(f"/bones{path}") as under, client.get(path) as plain:
            assert under.status_code == plain.status_code == 200, path
    assert client.post("/bones/predict").json["code"] == "missing_image"
    assert client.get("/bonesX/health").status_code == 404
    assert client.get("/bones/bones/health").status_code == 404


def test_the_prefix_itself_leads_to_its_slash():
    answer = client_of("/imaging/bones").get("/imaging/bones?lang=en")
    assert (answer.status_code, answer.headers["Location"]) == (308, "/imaging/bones/?lang=en")


@pytest.mark.parametrize(
    ("sent", "server"),
    [
        ("/bones", "/bones"),
        ("/imaging/bones/", "/imaging/bones"),
        (None, "/"),
        ("", "/"),
        ("bones", "/"),
        ("//evil.example", "/"),
        ("/bones//x", "/"),
        ("/../x", "/"),
        ('/"><script>', "/"),
        ("https://evil.example", "/"),
    ],
)
def test_auto_takes_the_prefix_that_the_proxy_states_if_it_is_a_path(sent, server):
    headers = {} if sent is None else {"X-Forwarded-Prefix": sent}
    assert json.loads(client_of("auto").get("/openapi.json", headers=headers).text)["servers"] == [{"url": server}]


def test_auto_answers_a_proxy_that_does_not_remove_the_prefix():
    assert client_of("auto").get("/bones/health", headers={"X-Forwarded-Prefix": "/bones"}).status_code == 200


@pytest.mark.parametrize("written", ["bones", "/", "//bones", "/bones//x", "/bo nes", "/..", "https://clinic.example"])
def test_a_prefix_that_is_not_a_path_stops_the_start(written):
    with pytest.raises(ConfigError, match=r"^BONE_URL_PREFIX is .* it must be a path such as /bones, or auto\.$"):
        read_config({"BONE_URL_PREFIX": written})


def test_a_slash_at_the_end_of_a_prefix_is_not_needed():
    assert read_config({"BONE_URL_PREFIX": "/bones/"}).url_prefix == "/bones"


def test_a_batch_may_be_as_large_under_a_prefix():
    limits = BodyLimits(1, {"/predict/batch": 5})
    assert [limits.at(path) for path in ("/predict", "/predict/batch", "/bones/predict/batch")] == [1, 5, 5]
