import io
import re
from pathlib import Path

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app import Service, create_app
from config import read_config
from tests.conftest import make_classifier
from tests.support.phantoms import encoded, phantom
from web import openapi
from web.messages import ERRORS

API_PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text(encoding="utf-8")

UNDESCRIBED = {"/", "/docs", "/model-card", "/static/<path:filename>"}


@pytest.fixture(scope="session")
def document(shipped_server):
    return schemathesis.openapi.from_url(shipped_server.url + "/openapi.json")


@pytest.mark.parametrize("path", openapi.describe(read_config({}))["paths"])
def test_the_real_server_answers_as_its_description_says(document, path):
    (operation,) = document[path].values()

    @given(case=operation.as_strategy())
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    def answers_as_described(case):
        # No schema can state what makes bytes a radiograph, so generated ones are rightly refused.
        case.call_and_validate(timeout=30, excluded_checks=[positive_data_acceptance])

    answers_as_described()


@pytest.fixture
def described(client):
    return client.get("/openapi.json").json


def test_every_route_is_described_and_every_described_route_exists(client, described):
    rules = {rule.rule for rule in client.application.url_map.iter_rules()}
    assert rules - UNDESCRIBED == set(described["paths"])
    methods = {
        (rule.rule, method.lower())
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}
        if rule.rule not in UNDESCRIBED
    }
    assert methods == {(path, method) for path, item in described["paths"].items() for method in item}


def test_every_error_code_is_described_as_in_the_table_of_the_api_page(described):
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| (.+) \|$", API_PAGE, re.MULTILINE)
    assert [(int(status), code, when) for status, code, when in rows] == [
        (ERRORS[code].status, code, when) for code, when in openapi.WHEN.items()
    ]
    assert set(described["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == set(ERRORS)
    responses = described["paths"]["/predict"]["post"]["responses"]
    for status, code, when in rows:
        assert f"`{code}`: {when}" in responses[status]["description"]


def strings(node):
    if isinstance(node, str):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from strings(child)


def test_no_sentence_of_the_document_has_a_field_to_fill_in(described):
    found = list(strings(described))
    assert len(found) > 500
    assert not [text for text in found if re.search(r"[{][a-z]", text)]


def test_examples_conform_and_those_of_errors_are_what_the_service_answers(client, described):
    contents = [
        content
        for item in described["paths"].values()
        for operation in item.values()
        for response in operation["responses"].values()
        for content in response["content"].values()
    ]
    for content in contents:
        for example in content.get("examples", {}).values():
            validator(described, content["schema"]).validate(example["value"])
    unsupported = described["paths"]["/predict"]["post"]["responses"]["415"]["content"]["application/problem+json"]
    files = {"image": (io.BytesIO(b"no image"), "a.png")}
    given = client.post("/predict?lang=en", data=files, headers={"X-Request-ID": openapi.EXAMPLE_ID}).json
    assert given == unsupported["examples"]["unsupported_image"]["value"]


def test_keys_are_described_where_they_are_required():
    for keys, expected in (("", []), ("secret", [{"apiKey": []}])):
        client = create_app(read_config({"BONE_API_KEYS": keys}), Service(make_classifier())).test_client()
        assert client.get("/openapi.json").json["paths"]["/predict"]["post"]["security"] == expected


def validator(described, schema):
    return jsonschema.Draft202012Validator(schema | {"components": described["components"]})


def conforms(described, name, found):
    validator(described, {"$ref": f"#/components/schemas/{name}"}).validate(found)


def test_real_answers_conform(client, described):
    def post(data, route="/predict", query=""):
        return client.post(route + query, data={"image": (io.BytesIO(data), "a.png")}).json

    conforms(described, "Success", post(encoded(phantom().point(lambda value: 250 - value % 8))))
    conforms(described, "Failure", post(encoded(phantom()), query="?detail=1&explain=1"))
    conforms(described, "Problem", post(b"no image"))
    conforms(described, "Batch", post(encoded(phantom()), "/predict/batch", "?detail=1"))
    conforms(described, "Model", client.get("/model").json)


def test_the_schemas_reject_other_answers(client, described):
    found = client.post("/predict", data={"image": (io.BytesIO(encoded(phantom())), "a.png")}).json
    for spoilt in (found | {"extra": 1}, found | {"confidence": 101}, found | {"success": 1}):
        with pytest.raises(jsonschema.ValidationError):
            conforms(described, "Failure", spoilt)
