import contextlib
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from tests.conftest import ROOT
from tests.support.phantoms import encoded, phantom
from tests.support.server import RunningServer, serving
from web.admission import BATCHES_AT_ONCE, EXPLANATIONS_AT_ONCE
from web.limits import BODY_PIECE_BYTES, BodyBudget, CappedBuffer, is_too_slow

LARGE = encoded(
    Image.fromarray(np.tile(np.arange(0, 250, dtype=np.uint8), (6000, 20)))
)  # 30 megapixels: slow to decode


def predict(server, data, **kwargs):
    return requests.post(server.url + "/predict", files={"image": data}, timeout=60, **kwargs)


def test_the_port_is_bound_before_the_model_is_loaded(brightness_file):
    with serving(BONE_MODEL_PATH=str(brightness_file), BONE_ENGINE="tensorflow") as server:  # takes seconds to load
        server.wait("/health")
        early = requests.get(server.url + "/ready", timeout=5)
        assert (early.status_code, early.json()["code"]) == (503, "not_ready")
        assert predict(server, encoded(phantom())).json()["code"] == "not_ready"
        server.wait("/ready")
        assert predict(server, encoded(phantom())).status_code == 200


def test_a_radiograph_gets_an_answer(server):
    darkness, brightness = (
        entry["probability"] for entry in predict(server, encoded(phantom("fisura"))).json()["allProbabilities"]
    )
    assert brightness == pytest.approx(100 * np.asarray(phantom("fisura")).mean() / 255, abs=0.1)
    assert darkness + brightness == 100


@pytest.mark.parametrize("megabytes", [21, 100])
def test_a_body_over_the_limit_is_read_to_its_end_and_refused_as_json(server, megabytes):
    answer = predict(server, bytes(megabytes * 1_000_000), headers={"Origin": "https://clinic.example"})
    assert (answer.status_code, answer.json()["code"]) == (413, "image_too_large")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_body_over_the_limit_in_chunks_is_refused_as_json(server):
    body = (bytes(1_000_000) for _ in range(30))
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = requests.post(server.url + "/predict", data=body, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (413, "image_too_large")


def receive(connection):
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def test_a_client_that_asks_first_is_refused_before_it_sends(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 99000000\r\nExpect: 100-continue\r\n\r\n"
        )
        head, _, body = receive(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
    assert json.loads(body)["code"] == "image_too_large"


def test_a_client_that_asks_first_may_send_what_is_allowed(server):
    body = requests.Request("POST", server.url, files={"image": encoded(phantom())}).prepare()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        lines = (
            "POST /predict HTTP/1.1",
            "Host: localhost",
            f"Content-Type: {body.headers['Content-Type']}",
            f"Content-Length: {len(body.body)}",
            "Expect: 100-continue",
            "Connection: close",
        )
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body.body)
        assert receive(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files")
def test_connections_stay_within_the_limit_of_open_files():
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}));"
        "from web.limits import connection_limit; print(connection_limit())"
    )
    for hard, expected in ((300, 200), (5000, 2000)):
        command = [sys.executable, "-c", script.format(hard=hard)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60, text=True)
        assert int(ran.stdout) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files")
def test_idle_connections_make_room_before_there_are_too_many(brightness_file):
    command = ("sh", "-c", f"ulimit -n 160; exec {shlex.quote(sys.executable)} app.py")  # 60 connections
    with serving(command, BONE_MODEL_PATH=str(brightness_file)) as server, contextlib.ExitStack() as stack:

        def connection():
            return stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))

        assert "Connection" not in requests.get(server.wait("/ready").url + "/health", timeout=5).headers
        silent = [connection() for _ in range(40)]
        uploading = connection()
        uploading.sendall(b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab")
        assert requests.get(server.url + "/health", timeout=30).headers["Connection"] == "close"
        assert [one.recv(1) for one in silent] == [b""] * 40  # closed in half of IDLE_SECONDS
        uploading.sendall(b"cd")
        assert uploading.recv(100).startswith(b"HTTP/1.1 405")
        assert "Connection" not in requests.get(server.url + "/health", timeout=5).headers


def test_probes_are_answered_while_batches_explanations_and_predictions_all_queue(brightness_file):
    settings = {"BONE_MAX_IN_FLIGHT": "1", "BONE_MAX_QUEUE": "20", "BONE_DEADLINE_SECONDS": "6"}
    with serving(BONE_MODEL_PATH=str(brightness_file), **settings) as server:
        server.wait("/ready")
        statuses: list[int] = []

        def send(route, images):
            answer = requests.post(server.url + route, files=[("image", LARGE)] * images, timeout=60)
            statuses.append(answer.status_code)

        kinds = [("/predict/batch", 4)] * 22 + [("/predict?explain=1", 1)] * 4 + [("/predict", 1)] * 30
        clients = [threading.Thread(target=send, args=kind) for kind in kinds]
        for client in clients:
            client.start()
        waits, depths = [], []
        while any(client.is_alive() for client in clients):
            asked = time.monotonic()
            assert requests.get(server.url + "/health", timeout=60).status_code == 200
            waits.append(time.monotonic() - asked)
            metrics = requests.get(server.url + "/metrics", timeout=60).text
            depths.append(float(re.search(r"^bone_queue_depth (.*)$", metrics, re.MULTILINE)[1]))
            time.sleep(0.05)
    assert 429 in statuses
    assert max(depths) <= 20 + BATCHES_AT_ONCE + EXPLANATIONS_AT_ONCE
    assert max(waits) < 5  # while threads were too few it was the deadline, 6 s and more


def test_no_header_names_the_server_software(server):
    assert "Server" not in requests.get(server.url + "/health", timeout=5).headers


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"BONE_PORT": "none"}, "BONE_PORT is 'none'; it must be a whole number from 1 to 65,535."),
        ({"BONE_HOST": "256.0.0.1"}, "Cannot listen on 256.0.0.1 port"),
        ({"BONE_HOST": "a..b"}, "it is not a host name."),
        ({"BONE_MODEL_PATH": "README.md"}, "README.md cannot be used: it is not an HDF5 file"),
        ({"BONE_MODEL_PATH": "nowhere.h5"}, "nowhere.h5 cannot be used: there is no such file"),
    ],
)
def test_an_error_at_the_start_is_one_sentence_and_exit_code_1(environment, sentence):
    with serving(**environment) as server:
        assert server.process.wait(60) == 1
        assert sentence in server.output
        assert "Traceback" not in server.output


def test_a_port_in_use_gives_one_sentence_and_exit_code_1(server):
    with serving(BONE_PORT=str(server.port)) as second:
        assert second.process.wait(60) == 1
        assert f"Cannot listen on 127.0.0.1 port {server.port}: Address already in use." in second.output
        assert "Traceback" not in second.output


def test_a_threshold_that_could_never_reject_stops_the_start(brightness_file):
    with serving(BONE_MODEL_PATH=str(brightness_file), BONE_CONFIDENCE_THRESHOLD="0.5") as server:
        assert server.process.wait(60) == 1
        assert "the threshold 0.5 of BONE_CONFIDENCE_THRESHOLD could never reject" in server.output


def in_flight(server: RunningServer, requests_at_once: int) -> tuple[list[threading.Thread], list]:
    """Send slow requests at once and return when the server has begun to work on them."""
    answers: list = []

    def send() -> None:
        answers.append(predict(server, LARGE))

    threads = [threading.Thread(target=send) for _ in range(requests_at_once)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    return threads, answers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_the_requests_in_flight(brightness_file, number):
    with serving(BONE_MODEL_PATH=str(brightness_file), BONE_DRAIN_SECONDS="60", BONE_DEADLINE_SECONDS="60") as server:
        server.wait("/ready")
        idle = requests.Session()
        idle.get(server.url + "/health", timeout=5)  # a kept connection does not delay the stop
        threads, answers = in_flight(server, 8)
        server.process.send_signal(number)
        time.sleep(0.1)
        late = requests.get(server.url + "/ready", timeout=5)
        assert (late.status_code, late.json()["code"]) == (503, "draining")
        assert requests.get(server.url + "/health", timeout=5).status_code == 200
        assert predict(server, encoded(phantom())).json()["code"] == "draining"
        for thread in threads:
            thread.join(60)
        assert [answer.status_code for answer in answers] == [200] * 8
        assert server.process.wait(30) == 0
        assert re.search(r"draining: [1-8] requests in flight, for at most 60 s", server.output)  # some may be done


def test_an_idle_server_stops_at_once(brightness_file):
    with serving(BONE_MODEL_PATH=str(brightness_file), BONE_DRAIN_SECONDS="60") as server:
        server.wait("/ready").process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 0


def test_a_stop_while_the_model_is_loading_is_clean(brightness_file):
    with serving(BONE_MODEL_PATH=str(brightness_file)) as server:
        server.wait("/health").process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 0
        assert "Traceback" not in server.output


@contextmanager
def half_sent_request(server):
    """Hold a request open of whose 100 bytes four have arrived."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
        time.sleep(0.2)
        yield


def test_a_second_signal_ends_the_wait(brightness_file):
    with serving(BONE_MODEL_PATH=str(brightness_file), BONE_DRAIN_SECONDS="600") as server:
        server.wait("/ready")
        with half_sent_request(server):
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(5) == 0


def test_a_client_that_is_too_slow_does_not_delay_a_stop_beyond_the_limit(brightness_file):
    with serving(BONE_MODEL_PATH=str(brightness_file), BONE_DRAIN_SECONDS="1") as server:
        server.wait("/ready")
        with half_sent_request(server):
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(5) == 0


class Arriving:
    """A request that began at second 0 and has received so many bytes at each second."""

    def __init__(self, received):
        self.began = self.pace_began = 0
        self.pace_bytes, self.keeps_pace = 0, False
        self._received = received
        self.body_bytes_received = 0

    def cut_off_at(self, limit=1000):
        for now in range(limit):
            self.body_bytes_received = self._received(now)
            if is_too_slow(self, now):
                return now
        return None


def test_a_request_that_arrives_too_slowly_is_disconnected():
    assert not is_too_slow(None, 1000)
    assert Arriving(lambda now: now).cut_off_at() == 31  # a byte a second
    assert Arriving(lambda now: 0).cut_off_at() == 31  # half a header
    assert Arriving(lambda now: 12_500 * now).cut_off_at(200) is None  # 100 kbit/s, but an upload
    assert Arriving(lambda now: 12_500 * now).cut_off_at() == 301  # but not for ever
    assert Arriving(lambda now: 20_000_000 + now).cut_off_at() == 31  # early bytes do not excuse a later silence


def test_large_bodies_leave_room_for_small_ones():
    budget = BodyBudget(40_000_000)
    large = [CappedBuffer(20_000_000, budget, lambda: None) for _ in range(3)]
    for body in large:
        for _ in range(12):
            body.append(bytes(1_000_000))
    small = CappedBuffer(20_000_000, budget, lambda: None)
    small.append(bytes(1_500_000))
    assert len(small.getfile().read()) == 1_500_000
    assert [len(body.getfile().read()) for body in large] == [12_000_000, 12_000_000, 0]


def test_the_size_line_of_a_chunk_is_limited(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"a" * 8_100)
        assert receive(connection).startswith(b"HTTP/1.1 400")


def answer_to(server, raw):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(raw)
        return receive(connection)


def test_a_request_right_behind_a_large_body_is_not_read_as_part_of_it(server):
    image = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 900), np.uint8)))
    start = f"POST /predict HTTP/1.1\r\nContent-Type: image/png\r\nContent-Length: {len(image)}\r\n\r\n".encode()
    answers = answer_to(server, start + image + b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert len(image) > 3 * BODY_PIECE_BYTES
    assert answers.count(b"HTTP/1.1 200") == 2
    assert answers.endswith(requests.get(server.url + "/health", timeout=5).content)


CHUNKED = (
    b"POST /predict HTTP/1.1\r\nContent-Type: image/png\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize("chunks", [b"\r\n" * 32_001, b"1\r\na\r\n" * 13_474, b"5\r\nabcde\r\n" * 17_067])
def test_chunks_that_are_nearly_empty_are_refused(server, chunks):
    assert b"The chunks are too small." in answer_to(server, CHUNKED + chunks)


@pytest.mark.parametrize("chunks", [b"1\r\na\r\n" * 10_000, (b"32\r\n" + b"a" * 50 + b"\r\n") * 10_000])
def test_a_body_in_small_chunks_is_read(server, chunks):
    assert b"unsupported_image" in answer_to(server, CHUNKED + chunks + b"0\r\n\r\n")


@pytest.mark.parametrize("spaces", [b" " * 256, b" \t" * 128, (b" " * 100 + b"\r\n") * 3 + b" "])
@pytest.mark.parametrize("ending", [b"", b"a", b"\x01"])
def test_a_header_of_spaces_is_refused_before_the_regular_expression_runs(server, spaces, ending):
    answer = answer_to(server, b"GET /health HTTP/1.1\r\nConnection: close\r\nX:" + spaces + ending + b"\r\n\r\n")
    assert b" 400 Bad Request" in answer
    assert b"255 spaces in a row" in answer


def test_a_header_may_hold_spaces_and_be_folded(server):
    header = b"X: a" + b" " * 200 + b"b\r\n " + b" " * 200 + b"c\r\n"
    assert answer_to(server, b"GET /health HTTP/1.1\r\nConnection: close\r\n" + header * 20 + b"\r\n").startswith(
        b"HTTP/1.1 200 "
    )


@pytest.mark.parametrize("line", [b"GET x://" + b"1" * 100 + b" x HTTP/1.1", b"GET", b"GET /health  HTTP/1.1"])
def test_a_bad_request_line_is_refused_before_the_regular_expression_runs(server, line):
    assert b"The request line must be" in answer_to(server, line + b"\r\n\r\n")


@pytest.mark.parametrize("line", [b"GET http://1234567/health HTTP/1.1", b"GET /health HTTP/1.1  ", b"GET /health"])
def test_a_request_line_may_hold_a_host_or_end_in_spaces_or_without_a_version(server, line):
    assert b" 200 OK" in answer_to(server, line + b"\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /predict HTTP/1.1\r\nContent-Length: " + b"9" * 5_000,
        b"POST /predict HTTP/1.1\r\nContent-Length: -1",
        b"GET http://[::1/health HTTP/1.1\r\nHost: a",
    ],
)
def test_an_invalid_length_or_address_gets_an_answer(server, raw):
    assert b" 400 Bad Request" in answer_to(server, raw + b"\r\n\r\n")


def test_a_header_has_a_limit_of_bytes(server):
    start = b"GET /health HTTP/1.1\r\nConnection: close\r\nX: "
    assert b" 200 OK" in answer_to(server, start + b"a" * 15_900 + b"\r\n\r\n")
    assert b" 431 " in answer_to(server, start + b"a" * 16_000 + b"\r\n\r\n")


def test_all_bodies_together_hold_no_more_memory_than_the_budget():
    budget, shed = BodyBudget(100), []
    first, second = (CappedBuffer(60, budget, lambda: shed.append("shed")) for _ in range(2))
    first.append(bytes(50))
    second.append(bytes(40))
    assert shed == []
    second.append(bytes(15))  # 105 in all
    assert shed == ["shed"]
    assert (len(second), second.getfile().read()) == (55, b"")
    assert (len(first), first.getfile().read()) == (50, bytes(50))
    assert budget._free_bytes == 50
    first.append(bytes(11))  # 61: over its own limit
    assert first.getfile().read() == b""
    assert shed == ["shed"]
    assert budget._free_bytes == 100
    third = CappedBuffer(60, budget, lambda: shed.append("shed"))
    third.append(bytes(30))
    del third  # a sender that went away
    assert budget._free_bytes == 100


def test_a_body_beyond_the_shared_budget_is_refused_as_overload(brightness_file):
    with serving(BONE_MODEL_PATH=str(brightness_file), BONE_MAX_UPLOAD_MB="1") as server:
        server.wait("/ready")
        body = requests.Request("POST", server.url, files={"image": bytes(1_000_000)}).prepare()
        start = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: {body.headers['Content-Type']}\r\n"
        start += f"Content-Length: {len(body.body)}\r\nConnection: close\r\n\r\n"
        held = []
        for _ in range(22):  # all but the last byte: more than twenty of the largest bodies
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            connection.sendall(start.encode() + body.body[:-1])
            held.append(connection)
        time.sleep(2)
        statuses = []
        for connection in held:
            connection.sendall(body.body[-1:])
            statuses.append(int(receive(connection).split()[1]))
            connection.close()
        assert set(statuses) == {415, 429}
        assert predict(server, encoded(phantom())).status_code == 200


def test_the_log_is_one_json_object_per_line_and_contains_no_names(brightness_file):
    with serving(BONE_MODEL_PATH=str(brightness_file)) as server:
        server.wait("/ready")
        files = {"image": ("PEREZ_JUAN.png", encoded(phantom()))}
        requests.post(server.url + "/predict", files=files, timeout=30)
        server.process.terminate()
        server.process.wait(30)
        printed = server.output
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]  # without those of TensorFlow
    request = next(line for line in lines if line.get("route") == "/predict")
    assert set(request) == {
        "time",
        "level",
        "message",
        "requestId",
        "method",
        "route",
        "status",
        "ms",
        "bytes",
        "outcome",
    }
    assert "PEREZ" not in printed


def test_concurrent_clients_get_the_same_answers_as_one_after_another(server):
    images = [encoded(phantom(seed=seed)) for seed in range(4)]
    alone = [predict(server, image).json() for image in images]
    differences: list = []

    def client(number: int) -> None:
        for turn in range(20):
            place = (number + turn) % len(images)
            answer = predict(server, images[place])
            if answer.status_code != 200 or abs(answer.json()["confidence"] - alone[place]["confidence"]) > 0.01:
                differences.append(answer.text)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert differences == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc: needs Linux")
def test_the_memory_of_a_burst_of_uploads_is_returned():
    code = """
from pathlib import Path
from web.server import trim_memory, limit_malloc_arenas

def resident():
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1])

limit_malloc_arenas()
bodies = [b"x" * 2_000_000 for _ in range(100)]
kept = bodies[::10]
bodies.clear()
before = resident()
trim_memory()
print(before - resident())
"""
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(child.stdout) > 100_000
