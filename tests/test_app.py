import dataclasses
import io
import json
import logging
import re
import tempfile
import threading
import time

import numpy as np
import pytest
import requests
from PIL import Image

from app import Service, create_app, main
from config import SCALINGS, read_config
from model_loader import Outputs
from tests.conftest import brightness, make_classifier
from tests.support.phantoms import encoded, phantom

PROBLEM_KEYS = ["success", "message", "type", "title", "status", "code", "requestId"]


def grey(value, size=(64, 64)):
    """Return stripes of 5 more and 5 less, so that the network sees `value` and the image is not blank."""
    stripes = np.where(np.arange(size[0]) % 2, value + 5, value - 5)
    return encoded(Image.fromarray(np.tile(stripes.astype(np.uint8), (size[1], 1))))


def send(client, data=None, query="", **kwargs):
    files = {"image": (io.BytesIO(grey(250) if data is None else data), "radiograph.png")}
    return client.post(f"/predict{query}", data=files, **kwargs)


def body(response):
    return json.loads(response.data, object_pairs_hook=dict)


def problem(response, status, code):
    found = body(response)
    assert response.status_code == status, found
    assert response.content_type == "application/problem+json"
    assert list(found) == PROBLEM_KEYS
    assert (found["success"], found["status"], found["code"]) == (0, status, code)
    assert found["requestId"] == response.headers["X-Request-ID"]
    return found


def test_a_bright_image_is_fractura_for_the_network_that_measures_brightness(client):
    response = send(client)
    assert response.content_type == "application/json"
    assert response.data.decode() == (
        '{"success":1,"predictedClass":"fractura","confidence":98.04,'
        '"allProbabilities":[{"class":"fisura","probability":1.96},{"class":"fractura","probability":98.04}]}\n'
    )


def test_a_grey_image_is_neither(client):
    response = send(client, grey(153))
    assert response.status_code == 200
    assert body(response) == {
        "success": 0,
        "message": "La imagen no corresponde a ninguna de las clases conocidas (fisura o fractura).",
        "confidence": 60.0,
        "allProbabilities": [{"class": "fisura", "probability": 40.0}, {"class": "fractura", "probability": 60.0}],
    }


@pytest.mark.parametrize("brightness", [0, 128, 255])
def test_a_blank_image_is_neither_and_the_network_is_not_run(config, brightness):
    for outputs, confidence in ((3, 0.0), (2, 50.0)):  # with a none output, and without: then the two coincide
        client = create_app(config, Service(make_classifier(predict=None, outputs=outputs))).test_client()
        found = body(send(client, encoded(Image.new("L", (64, 64), brightness))))
        assert (found["success"], found["confidence"]) == (0, confidence)
        assert [entry["probability"] for entry in found["allProbabilities"]] == [50.0, 50.0]


def test_the_message_is_english_only_on_request(client):
    english = send(client, grey(153), "?lang=en")
    assert body(english)["message"] == (
        "The image matches none of the known classes: fisura (hairline fracture) or fractura (fracture)."
    )
    browser = send(client, grey(153), headers={"Accept-Language": "en"})
    assert body(browser)["message"].startswith("La imagen")
    assert body(send(client, grey(153), "?lang=fr"))["message"].startswith("La imagen")


def test_the_default_language_can_be_set():
    client = create_app(read_config({"BONE_LANGUAGE": "en"}), Service(make_classifier())).test_client()
    assert problem(client.get("/nowhere"), 404, "not_found")["message"] == "This route does not exist."
    assert problem(client.get("/nowhere?lang=es"), 404, "not_found")["message"] == "Esta ruta no existe."


def test_a_request_without_an_image_is_refused(client):
    for data in ({}, {"image": "text"}, {"image": (io.BytesIO(b""), "")}, {"other": (io.BytesIO(grey(100)), "a.png")}):
        problem(client.post("/predict", data=data, content_type="multipart/form-data"), 400, "missing_image")
    problem(client.post("/predict"), 400, "missing_image")
    problem(client.post("/predict", json={"image": "x"}), 400, "missing_image")


def test_an_empty_file_is_refused(client):
    problem(send(client, b""), 400, "empty_image")


def test_two_images_are_refused(client):
    files = {"image": [(io.BytesIO(grey(100)), "a.png"), (io.BytesIO(grey(100)), "b.png")]}
    problem(client.post("/predict", data=files), 400, "several_images")


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("multipart/form-data", b"--x\r\n\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"not multipart at all"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\ncut',
        ),
        ("multipart/form-data; boundary=x", b"--x\r\nno header\r\n\r\nvalue\r\n--x--\r\n"),
    ],
)
def test_a_broken_multipart_body_is_refused(client, content_type, data):
    problem(client.post("/predict", data=data, content_type=content_type), 400, "malformed_request")


def test_an_image_with_too_many_bytes_is_refused():
    client = create_app(read_config({"BONE_MAX_UPLOAD_MB": "0.01"}), Service(make_classifier())).test_client()
    for size in (10_001, 200_000):  # within and beyond the limit of the body
        message = problem(send(client, bytes(size)), 413, "image_too_large")["message"]
        assert message == "El archivo es demasiado grande: el máximo es de 0,01 MB."
    problem(send(client, b"x" * 10_000), 415, "unsupported_image")


def test_too_many_parts_or_fields_are_refused(client):
    parts = {f"field{index}": "x" for index in range(9)}
    refused = problem(client.post("/predict", data=parts, content_type="multipart/form-data"), 413, "request_too_large")
    assert refused["message"] == (
        "El formulario tiene demasiados campos o demasiado texto: como máximo, 8 campos y 200 kB."
    )
    long = {"field": "x" * 300_000}
    problem(client.post("/predict", data=long, content_type="multipart/form-data"), 413, "request_too_large")


def test_errors_of_decoding_reach_the_caller(client):
    problem(send(client, b"%PDF-1.7"), 415, "unsupported_image")
    problem(send(client, grey(9)[:60]), 422, "unreadable_image")
    problem(send(client, grey(9, (31, 200))), 422, "image_too_small")


def test_too_many_pixels_are_refused():
    client = create_app(read_config({"BONE_MAX_PIXELS": "4095"}), Service(make_classifier())).test_client()
    problem(send(client, grey(250)), 413, "too_many_pixels")


def test_unknown_routes_and_methods_are_problems_too(client):
    problem(client.get("/nowhere"), 404, "not_found")
    response = client.get("/predict")
    problem(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_an_internal_error_is_logged_in_full_and_answered_without_its_text(config, caplog):
    def fail(images):
        raise RuntimeError("secret of the network")

    client = create_app(config, Service(make_classifier(predict=fail))).test_client()
    response = send(client)
    problem(response, 500, "internal_error")
    assert "secret" not in response.text
    logged = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert logged.requestId == response.headers["X-Request-ID"]
    assert "secret of the network" in caplog.text


def test_outputs_that_are_not_probabilities_are_an_internal_error(config):
    broken = make_classifier(predict=lambda images: Outputs(np.full((1, 2), np.nan, np.float32), None))
    problem(send(create_app(config, Service(broken)).test_client()), 500, "internal_error")


def test_until_the_model_is_loaded_only_health_answers(config):
    client = create_app(config, Service()).test_client()
    assert client.get("/health").status_code == 200
    for response in (client.get("/ready"), client.get("/model"), send(client), client.get("/nowhere")):
        problem(response, 503, "not_ready")


def test_while_draining_only_health_answers(config):
    service = Service(make_classifier())
    client = create_app(config, service).test_client()
    assert client.get("/ready").status_code == 200
    service.drain()
    assert client.get("/health").status_code == 200
    for response in (client.get("/ready"), send(client)):
        problem(response, 503, "draining")


def test_another_origin_may_call_and_read_what_it_needs(client):
    preflight = client.options(
        "/predict",
        headers={
            "Origin": "https://clinic.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-api-key",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert preflight.headers["Access-Control-Allow-Headers"] == "x-api-key"
    assert "Access-Control-Allow-Credentials" not in preflight.headers
    answer = send(client, headers={"Origin": "https://clinic.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
    assert exposed == {"Retry-After", "X-Request-ID", "Server-Timing"}
    refused = client.post("/predict", headers={"Origin": "https://clinic.example"})
    assert refused.headers["Access-Control-Allow-Origin"] == "*"


def test_a_preflight_passes_before_the_model_is_loaded(config):
    client = create_app(config, Service()).test_client()
    headers = {"Origin": "https://clinic.example", "Access-Control-Request-Method": "POST"}
    assert client.options("/predict", headers=headers).headers["Access-Control-Allow-Origin"] == "*"


def test_only_configured_origins_may_call():
    config = read_config({"BONE_CORS_ORIGINS": "https://clinic.example"})
    client = create_app(config, Service(make_classifier())).test_client()
    ours = client.get("/health", headers={"Origin": "https://clinic.example"})
    assert ours.headers["Access-Control-Allow-Origin"] == "https://clinic.example"
    theirs = client.get("/health", headers={"Origin": "https://other.example"})
    assert "Access-Control-Allow-Origin" not in theirs.headers


def test_a_request_keeps_the_id_that_its_client_sent_if_that_is_harmless(client):
    assert client.get("/health", headers={"X-Request-ID": "trace-1.b_2"}).headers["X-Request-ID"] == "trace-1.b_2"
    for hostile in ("a b", "x" * 65, "ñ", '"'):
        given = client.get("/health", headers={"X-Request-ID": hostile}).headers["X-Request-ID"]
        assert re.fullmatch(r"[0-9a-f]{32}", given)


def test_one_line_is_logged_for_each_request_without_names(client, caplog):
    caplog.set_level(logging.INFO, logger="bone")
    client.post("/predict?lang=en", data={"image": (io.BytesIO(grey(250)), "PEREZ_JUAN.png")})
    client.get("/PEREZ_JUAN")
    first, second = (record for record in caplog.records if record.message == "request")
    assert (first.status, first.outcome, first.route, first.method) == (200, "fractura", "/predict", "POST")
    assert first.bytes > 0
    assert first.ms > 0
    assert (second.status, second.outcome, second.route) == (404, "not_found", None)
    assert "PEREZ" not in str([record.__dict__ for record in caplog.records])


def test_probes_are_logged_at_debug_level(client, caplog):
    caplog.set_level(logging.DEBUG, logger="bone")
    for route in ("/health", "/ready", "/metrics", "/model"):
        client.get(route)
    levels = [record.levelname for record in caplog.records if record.message == "request"]
    assert levels == ["DEBUG", "DEBUG", "DEBUG", "INFO"]


def test_the_log_says_which_key_was_used_by_its_number(caplog):
    caplog.set_level(logging.INFO, logger="bone")
    config = read_config({"BONE_API_KEYS": "old-key,new-key"})
    client = create_app(config, Service(make_classifier())).test_client()
    for key in ("new-key", "old-key", "other"):
        send(client, headers={"X-API-Key": key})
    records = [record for record in caplog.records if record.message == "request"]
    assert [getattr(record, "key", None) for record in records] == [2, 1, None]
    assert "-key" not in str([record.__dict__ for record in records])


def test_the_model_route_states_what_is_loaded_and_the_source_of_each_value(client):
    found = body(client.get("/model?lang=en"))
    assert found["classNames"] == ["fisura", "fractura"]
    assert found["threshold"] == 0.8
    assert found["inputSize"] == {"height": 32, "width": 32, "channels": 1}
    assert found["sources"]["threshold"] == "default"
    assert found["noneOutput"] is False
    assert len(found["sha256"]) == 64
    assert "not a medical device" in found["intendedUse"]


def test_answers_are_neither_sniffed_nor_stored(client):
    response = send(client, encoded(phantom()))
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"


def test_uploads_never_leave_memory(client, monkeypatch):
    def no_file(*args, **kwargs):
        raise AssertionError("an upload was written to disk")

    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000), dtype=np.uint8)
    files = {"image": ("a.png", encoded(Image.fromarray(noise)))}
    request = requests.Request("POST", "http://localhost/predict", files=files).prepare()
    for name in ("SpooledTemporaryFile", "TemporaryFile", "NamedTemporaryFile"):
        monkeypatch.setattr(tempfile, name, no_file)
        monkeypatch.setattr(f"werkzeug.formparser.{name}", no_file, raising=False)
    answer = client.post("/predict", data=request.body, content_type=request.headers["Content-Type"])
    assert answer.status_code == 200


def test_check_prints_what_a_file_is_and_how_it_would_be_served(brightness_file, capsys, monkeypatch):
    monkeypatch.setenv("BONE_CONFIDENCE_THRESHOLD", "0.7")
    assert main(["check", str(brightness_file)]) == 0
    said = capsys.readouterr().out
    assert "Written by Keras 3." in said
    assert "It fits: 32 × 32 pixels, 3 channel(s), 2 outputs." in said
    assert "BONE_CONFIDENCE_THRESHOLD 0.7, from the environment" in said
    assert "BONE_RESIZE 'stretch', by default" in said


def test_check_shows_what_the_network_answers_with_each_scaling(brightness_file, tmp_path, capsys):
    (tmp_path / "film.png").write_bytes(encoded(phantom()))
    (tmp_path / "notes.png").write_bytes(b"not an image")
    images = [str(tmp_path / name) for name in ("film.png", "notes.png", "absent.png")]
    assert main(["check", str(brightness_file), *images]) == 0
    film, notes, absent = capsys.readouterr().out.split(".png:\n")[1:]
    assert re.findall(r"BONE_SCALING=(\w+)", film) == list(SCALINGS)
    assert re.search(r"BONE_SCALING=unit   (fisura|fractura) [\d.]+ %, confidence [\d.]+ % \(in use\)\n", film)
    assert re.search(r"BONE_SCALING=none   outputs that are not probabilities", film)
    assert "unsupported_image" in notes
    assert "No such file" in absent


def test_check_prints_what_to_set_if_a_file_does_not_fit(brightness_file, capsys, monkeypatch):
    monkeypatch.setenv("BONE_CLASS_NAMES", "a,b,c,d")
    assert main(["check", str(brightness_file)]) == 1
    assert "name its classes in BONE_CLASS_NAMES" in capsys.readouterr().err


def test_other_arguments_are_answered_with_the_usage(capsys):
    assert main(["serve"]) == 2
    assert "Usage" in capsys.readouterr().err


def test_a_key_is_required_where_keys_are_configured():
    config = read_config({"BONE_API_KEYS": "old-key,new-key"})
    client = create_app(config, Service(make_classifier())).test_client()
    for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": "old"}, {"X-API-Key": "old-key,new-key"}, {"X-API-Key": "ñ"}):
        response = send(client, headers=headers)
        problem(response, 401, "unauthorized")
        assert response.headers["WWW-Authenticate"].startswith("ApiKey")
    for key in ("old-key", "new-key"):
        assert send(client, headers={"X-API-Key": key}).status_code == 200
    for route in ("/health", "/ready", "/model"):
        assert client.get(route).status_code == 200
    preflight = {"Origin": "https://clinic.example", "Access-Control-Request-Method": "POST"}
    assert client.options("/predict", headers=preflight).status_code == 200


def test_an_api_key_never_appears_in_an_error(monkeypatch, capsys):
    monkeypatch.setenv("BONE_API_KEYS", "secret key")
    assert main([]) == 1
    printed = capsys.readouterr().err
    assert "BONE_API_KEYS" in printed
    assert "secret" not in printed


def test_a_full_queue_is_answered_with_429_and_a_passed_deadline_with_504(config):
    started, finish = threading.Event(), threading.Event()

    def slow(images):
        started.set()
        finish.wait(10)
        return brightness(images)

    config = dataclasses.replace(config, max_in_flight=1, max_queue=1, deadline_seconds=0.3)
    app = create_app(config, Service(make_classifier(predict=slow)))
    answers = {}

    def ask(name):
        answers[name] = send(app.test_client())

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("first", "second")]
    threads[0].start()
    assert started.wait(10)
    threads[1].start()
    time.sleep(0.1)
    refused = send(app.test_client())
    problem(refused, 429, "overloaded")
    assert int(refused.headers["Retry-After"]) >= 1
    assert app.test_client().get("/health").status_code == 200
    threads[1].join(10)
    problem(answers["second"], 504, "deadline_exceeded")
    finish.set()
    threads[0].join(10)
    assert answers["first"].status_code == 200


def test_detail_says_how_the_answer_came_about(client):
    response = send(client, grey(153), "?detail=1")
    found = body(response)
    assert list(found) == ["success", "message", "confidence", "allProbabilities", "detail"]
    milliseconds = found["detail"].pop("milliseconds")
    assert found["detail"] == {
        "reason": "low_confidence",
        "noneProbability": None,
        "fractured": None,
        "certainty": "sure",
        "threshold": 80.0,
        "decoder": {
            "format": "PNG",
            "bits": 8,
            "inverted": False,
            "rotated": 0,
            "mirrored": False,
            "frames": 1,
            "originalSize": {"height": 64, "width": 64},
        },
        "model": {"sha256": "0" * 64, "version": None},
    }
    assert list(milliseconds) == ["queue", "decode", "prepare", "network", "total"]
    assert 0 < milliseconds["decode"] <= milliseconds["total"]
    assert re.fullmatch(
        r"queue;dur=[\d.]+, decode;dur=[\d.]+, prepare;dur=[\d.]+, network;dur=[\d.]+, total;dur=[\d.]+",
        response.headers["Server-Timing"],
    )


@pytest.mark.parametrize(
    ("probabilities", "reason", "none"),
    [
        ([0.05, 0.95, 0.0], None, 0.0),
        ([0.3, 0.5, 0.2], "low_confidence", 20.0),
        ([0.1, 0.3, 0.6], "none", 60.0),
        ([0.1, 0.295, 0.605], "none", 60.5),
    ],
)
def test_detail_gives_the_reason_for_a_refusal_and_the_probability_of_none(config, probabilities, reason, none):
    outputs = Outputs(np.array([probabilities], np.float32), None)
    client = create_app(config, Service(make_classifier(predict=lambda images: outputs, outputs=3))).test_client()
    detail = body(send(client, query="?detail=1"))["detail"]
    assert (detail["reason"], detail["noneProbability"]) == (reason, none)
    assert detail["fractured"] == pytest.approx(100 - none)


def test_detail_says_what_is_possible_where_the_file_holds_quantiles(config):
    outputs = Outputs(np.array([[0.1, 0.5, 0.4]], np.float32), familiarity=np.array([[0.3]], np.float32))
    quantiles = {"fisura": 0.2, "fractura": 0.6, "none": 0.7}
    classifier = dataclasses.replace(
        make_classifier(0.4, lambda images: outputs, outputs=3), conformal=quantiles, has_familiarity=True
    )
    client = create_app(config, Service(classifier)).test_client()
    found = body(send(client, query="?detail=1"))
    assert list(found) == ["success", "predictedClass", "confidence", "allProbabilities", "detail"]
    assert list(found["detail"])[:5] == ["reason", "noneProbability", "fractured", "possible", "certainty"]
    assert (found["detail"]["possible"], found["detail"]["certainty"]) == (["fractura", "none"], "doubtful")
    assert found["detail"]["fractured"] == 60.0
    assert list(body(send(client))) == ["success", "predictedClass", "confidence", "allProbabilities"]


def test_explain_adds_a_heat_map_after_the_keys_of_the_contract(client):
    found = body(send(client, encoded(phantom("fractura")), "?explain=1"))
    assert list(found)[-2:] == ["allProbabilities", "explanation"]
    assert list(found["explanation"]) == ["image", "map", "peak", "box", "boxes", "method", "caveat"]
    assert found["explanation"]["method"] == "occlusion"
    assert "comprueba siempre la radiografía" in found["explanation"]["caveat"]
    assert 0 <= found["explanation"]["peak"]["x"] <= 1
    assert set(found["explanation"]["box"]) == {"x", "y", "width", "height"}
    assert found["explanation"]["boxes"][0] == found["explanation"]["box"] | {"strength": 1.0}


def test_an_image_without_evidence_has_no_map_where_the_file_states_a_scale(config):
    evidence = np.full((1, 8, 8, 2), -9, np.float32)
    evidence[0, 2, 2] = -3
    outputs = Outputs(np.array([[0.2, 0.8]], np.float32), evidence)
    relative = make_classifier(predict=lambda images: outputs)
    for scale, boxes in ((None, 1), ((-2.0, 4.0), 0), ((-9.0, -3.0), 1)):
        classifier = dataclasses.replace(relative, evidence_scale=scale)
        client = create_app(config, Service(classifier)).test_client()
        found = body(send(client, query="?explain=1"))["explanation"]
        assert len(found["boxes"]) == boxes
        assert (found["peak"] is None) == (found["box"] is None) == (boxes == 0)


def test_detail_and_explain_combine_and_other_values_are_ignored(client):
    plain = body(send(client))
    both = body(send(client, query="?detail=True&explain=true&lang=en"))
    assert list(both) == [*plain, "explanation", "detail"]
    assert "explain" in both["detail"]["milliseconds"]
    assert "always check the radiograph" in both["explanation"]["caveat"]
    for query in ("?detail=0", "?explain=yes&detail=false", "?other=1", "?detail=", "?detail=0&detail=1"):
        assert body(send(client, query=query)) == plain


def test_a_blank_image_is_explained_without_the_network(config):
    client = create_app(config, Service(make_classifier(predict=None))).test_client()
    found = body(send(client, encoded(Image.new("L", (64, 64), 9)), "?detail=1&explain=1"))
    assert found["detail"]["reason"] == "blank"
    assert found["explanation"]["method"] == "none"
    assert found["explanation"]["peak"] is None
    assert "no se consultó" in found["explanation"]["caveat"]
    assert "network" not in found["detail"]["milliseconds"]


def test_a_second_explanation_at_the_same_time_is_told_when_to_retry(config):
    app = create_app(config, Service(make_classifier()))
    client = app.test_client()
    with app.extensions["bone"].admissions.explanations.slot():
        response = send(client, query="?explain=1")
        assert problem(response, 429, "overloaded")["message"].startswith("El servicio está ocupado")
        assert int(response.headers["Retry-After"]) >= 1
        assert send(client).status_code == 200
    assert send(client, query="?explain=1").status_code == 200
