import io
import re

import numpy as np
import pytest
import requests
from PIL import Image
from werkzeug.test import EnvironBuilder

from app import Service, create_app
from config import read_config
from tests.conftest import make_classifier
from tests.support.phantoms import encoded, phantom
from web.uploads import RAW_TYPES, StrictRequest, one_image


def film(brightness):
    stripes = np.where(np.arange(64) % 2, brightness + 5, brightness - 5)
    return encoded(Image.fromarray(np.tile(stripes.astype(np.uint8), (64, 1))))


def batch(client, images, query=""):
    files = {"image": [(io.BytesIO(image), f"{number}.png") for number, image in enumerate(images)]}
    return client.post(f"/predict/batch{query}", data=files)


def one(client, image):
    return client.post("/predict", data={"image": (io.BytesIO(image), "a.png")}).json


def test_a_batch_gets_in_order_the_answers_that_its_images_get_alone(client):
    images = [film(brightness) for brightness in (250, 20, 128, 230)]
    assert batch(client, images).json == {"results": [one(client, image) for image in images]}


def test_a_bad_image_does_not_affect_the_others_of_its_batch(client):
    images = [film(250), b"no image", film(250)[:60], b"", encoded(Image.new("L", (16, 16))), film(240)]
    response = batch(client, images, "?lang=en")
    assert response.status_code == 200
    found = response.json["results"]
    assert [result.get("code") for result in found] == [
        None,
        "unsupported_image",
        "unreadable_image",
        "empty_image",
        "image_too_small",
        None,
    ]
    assert found[1]["message"].startswith("The file is not an image")
    assert found[1]["requestId"] == response.headers["X-Request-ID"]
    assert found[5]["predictedClass"] == "fractura"


def test_an_internal_error_in_one_image_does_not_affect_the_others_of_its_batch(config):
    from tests.conftest import brightness

    def fragile(images):
        if images.mean() < 0.5:
            raise RuntimeError("secret")
        return brightness(images)

    client = create_app(config, Service(make_classifier(predict=fragile))).test_client()
    found = batch(client, [film(250), film(20), film(240)])
    assert [result.get("code") for result in found.json["results"]] == [None, "internal_error", None]
    assert "secret" not in found.text


def test_a_batch_has_limits_of_its_own():
    config = read_config({"BONE_MAX_BATCH": "3", "BONE_MAX_UPLOAD_MB": "0.1"})
    client = create_app(config, Service(make_classifier())).test_client()
    assert len(batch(client, [film(250)] * 3).json["results"]) == 3
    too_many = batch(client, [film(250)] * 4)
    assert (too_many.status_code, too_many.json["code"]) == (413, "request_too_large")
    assert too_many.json["message"] == "La petición tiene demasiadas imágenes: envía como máximo 3 imágenes."
    too_large = batch(client, [film(250), bytes(100_001)])
    assert [result.get("code") for result in too_large.json["results"]] == [None, "image_too_large"]
    together = batch(client, [bytes(100_000)] * 4)
    assert (together.status_code, together.json["code"]) == (413, "request_too_large")
    assert together.json["message"] == "Las imágenes son demasiado grandes en conjunto: el máximo es de 0,3 MB."


def test_a_batch_without_images_or_without_a_key_is_refused():
    client = create_app(read_config({"BONE_API_KEYS": "key"}), Service(make_classifier())).test_client()
    assert client.post("/predict/batch").json["code"] == "unauthorized"
    assert client.post("/predict/batch", headers={"X-API-Key": "key"}).json["code"] == "missing_image"
    broken = client.post(
        "/predict/batch", data=b"--x", content_type="multipart/form-data", headers={"X-API-Key": "key"}
    )
    assert broken.json["code"] == "malformed_request"


def test_the_real_server_accepts_a_batch_larger_than_one_image_may_be(shipped_server):
    noise = np.random.default_rng(0).integers(0, 256, (3000, 3000), dtype=np.uint8)
    image = encoded(Image.fromarray(noise))  # 9 MB
    files = [("image", image)] * 4
    answer = requests.post(shipped_server.url + "/predict/batch", files=files, timeout=60)
    assert [result["success"] for result in answer.json()["results"]] == [answer.json()["results"][0]["success"]] * 4


@pytest.mark.parametrize("media_type", sorted(RAW_TYPES))
def test_an_image_may_be_the_body_itself(client, media_type):
    image = film(250)
    answer = client.post("/predict", data=image, content_type=f"{media_type}; charset=binary")
    assert answer.json == one(client, image)


def test_an_image_in_the_body_is_recognised_by_content_not_by_type(client):
    assert client.post("/predict", data=film(250), content_type="image/jpeg").json == one(client, film(250))
    assert client.post("/predict", data=b"text", content_type="image/png").json["code"] == "unsupported_image"
    assert client.post("/predict", data=b"", content_type="image/png").json["code"] == "empty_image"
    assert client.post("/predict", data=film(250), content_type="text/plain").json["code"] == "missing_image"


def test_a_urlencoded_form_is_not_read(client):
    body = io.BytesIO(b"image=%61" * 1_000)
    for path in ("/predict", "/predict/batch"):
        answer = client.post(path, input_stream=body, content_type="application/x-www-form-urlencoded")
        assert (answer.status_code, answer.json["code"]) == (400, "missing_image")
    assert body.tell() == 0


def test_a_raw_body_has_the_limit_of_one_image():
    client = create_app(read_config({"BONE_MAX_UPLOAD_MB": "0.1"}), Service(make_classifier())).test_client()
    for size in (100_001, 200_000):
        answer = client.post("/predict", data=bytes(size), content_type="image/png")
        assert (answer.status_code, answer.json["code"]) == (413, "image_too_large")


def sample(text, name, **labels):
    inside = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
    series = name + (f"{{{inside}}}" if labels else "")
    return float(re.search(rf"^{re.escape(series)} (.*)$", text, re.MULTILINE)[1])


def test_metrics_count_requests_verdicts_and_stages(client):
    one(client, film(250))
    one(client, film(20))
    one(client, b"no image")
    client.get("/nowhere/PEREZ")
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain")
    text = answer.text
    assert sample(text, "bone_requests_total", route="/predict", status="200", code="") == 2
    assert sample(text, "bone_requests_total", route="/predict", status="415", code="unsupported_image") == 1
    assert sample(text, "bone_requests_total", route="none", status="404", code="not_found") == 1
    assert sample(text, "bone_verdicts_total", outcome="fractura") == 1
    assert sample(text, "bone_verdicts_total", outcome="fisura") == 1
    assert sample(text, "bone_confidence_count") == 2
    assert sample(text, "bone_brightness_sum") == pytest.approx((250 + 20) / 255, abs=0.01)
    for stage in ("queue", "decode", "network"):
        assert sample(text, "bone_stage_seconds_count", stage=stage) >= 2
    assert sample(text, "bone_in_flight") == 0
    assert sample(text, "bone_queue_depth") == 0
    assert "bone_model_info{" in text
    assert "PEREZ" not in text


def test_a_blank_image_is_counted_without_a_brightness(client):
    one(client, encoded(Image.new("L", (64, 64), 200)))
    text = client.get("/metrics").text
    assert sample(text, "bone_verdicts_total", outcome="none") == 1
    assert sample(text, "bone_brightness_count") == 0


def test_the_metrics_of_the_real_server_count_a_phantom(shipped_server):
    requests.post(shipped_server.url + "/predict", files={"image": encoded(phantom())}, timeout=30)
    text = requests.get(shipped_server.url + "/metrics", timeout=10).text
    assert "process_resident_memory_bytes" in text
    assert 'bone_request_seconds_bucket{le="0.1",route="/predict"}' in text


def posted(body):
    request = requests.Request("POST", "http://localhost/predict", files={"image": ("a.png", body)}).prepare()
    environment = EnvironBuilder(
        method="POST", input_stream=io.BytesIO(request.body), content_type=request.headers["Content-Type"]
    ).get_environ()
    return StrictRequest(environment | {"CONTENT_LENGTH": str(len(request.body))})


@pytest.mark.parametrize("length", [1, 500, 65_400, 65_536, 66_536, 200_000])
@pytest.mark.parametrize("content", [b"\r\n--", b"\r", b"--\r\n\n", b"\xff\xda\0"])
def test_a_file_in_a_form_arrives_unchanged(length, content):
    body = (content * (length // len(content) + 1))[:length]
    assert one_image(posted(body), 10**6) == body


def sent(client, headers, data=None, query="?lang=en-GB"):
    """Send a form of one part whose headers are written by hand."""
    image = film(250) if data is None else data
    body = b"--b\r\n" + headers + b"\r\n\r\n" + image + b"\r\n--b--\r\n"
    return client.post(f"/predict{query}", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"}).json


@pytest.mark.parametrize(
    "kind", ["image/jpeg", "IMAGE/PNG", "image/jpg; x=y", "application/octet-stream", "image/pjpeg"]
)
def test_a_part_with_the_type_of_an_image_is_a_file_without_a_name(client, kind):
    large = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (1200, 1100), dtype=np.uint8)))
    part = b'Content-Disposition: form-data; name="image"'
    with_name = sent(client, part + b'; filename="a.png"', large, "")
    assert sent(client, part + b"\r\nContent-Type: " + kind.encode(), large, "") == with_name


@pytest.mark.parametrize(
    "name", ["rodilla ñ".encode("latin-1"), "膝".encode("gbk"), "ひざ".encode("shift-jis"), b"\xff\x80"]
)
def test_a_file_name_may_be_in_any_encoding(client, name):
    headers = b'Content-Disposition: form-data; name="image"; filename="' + name + b'.png"'
    assert sent(client, headers, query="") == one(client, film(250))


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        (b'name="image"', "The field “image” contains text: send the image in it as a file."),
        (b'name="image[]"; filename="a"', "The file is in another field: send it in the field “image”."),
        (b'name="file"; filename="a"', "The file is in another field: send it in the field “image”."),
        (b'name="images"', "The image is missing: send it in the form field “image”."),
        (b'name="image"; filename=""', "The image is missing: send it in the form field “image”."),
    ],
)
def test_a_form_without_a_file_in_image_is_told_what_to_send(client, headers, sentence):
    body = sent(client, b"Content-Disposition: form-data; " + headers, b"iVBORw0KGgo=")
    assert (body["status"], body["code"], body["message"]) == (400, "missing_image", sentence)


@pytest.mark.parametrize("lang", ["EN", "en-GB", "en_us"])
def test_a_language_may_name_a_country(client, lang):
    assert client.post(f"/predict?lang={lang}").json["message"].startswith("The image is missing")
    assert client.post("/predict?lang=ES").json["message"].startswith("Falta")


@pytest.mark.parametrize("kind", ["image/jpg", "image/pjpeg", "image/tif", "multipart/form-data; boundary=b"])
def test_a_compressed_body_is_called_that(client, kind):
    headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
    refused = client.post("/predict?lang=en", data=film(250), headers=headers)
    assert (refused.status_code, refused.json["code"]) == (415, "unsupported_image")
    assert "Content-Encoding" in refused.json["message"]


def test_preflights_allow_the_headers_that_frontends_send(client):
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    allowed = client.options(
        "/predict", headers=asked | {"Access-Control-Request-Headers": "authorization,x-requested-with"}
    )
    assert {"authorization", "x-requested-with"} <= set(
        allowed.headers["Access-Control-Allow-Headers"].lower().split(", ")
    )
