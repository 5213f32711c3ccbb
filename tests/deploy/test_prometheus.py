"""The alerts and the dashboard, by Prometheus itself: promtool, and a server that scrapes the real service."""

import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import yaml
from PIL import Image

from tests.conftest import ROOT
from tests.support.phantoms import encoded
from tests.support.programs import free_port, need, running, wait_for
from tests.support.server import serving

needs_prometheus = need("prometheus", "prometheus")
FOLDER = ROOT / "deploy/prometheus"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text(encoding="utf-8"))


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not():
    cases = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    tried = {(rule["alertname"], bool(rule["exp_alerts"])) for case in cases for rule in case["alert_rule_test"]}
    assert tried == {(rule["alert"], fires) for rule in RULES for fires in (True, False)}


@pytest.mark.slow
@needs_prometheus
def test_promtool_finds_that_each_alert_fires_when_it_should():
    command = [str(shutil.which("promtool")), "test", "rules", str(FOLDER / "alerts_test.yaml")]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_panels_of_the_dashboard_do_not_overlap():
    cells = [
        (panel["gridPos"]["x"] + across, panel["gridPos"]["y"] + down)
        for panel in DASHBOARD["panels"]
        for across in range(panel["gridPos"]["w"])
        for down in range(panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(across for across, _ in cells) < 24


class Prometheus:
    """A running Prometheus, asked over HTTP."""

    def __init__(self):
        self.port = free_port()

    def ask(self, route, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{route}"
        return requests.get(url, params=parameters, timeout=10).json()["data"]

    def query(self, expression):
        return self.ask("query", query=expression)["result"]

    def answers(self):
        try:
            return bool(self.query("bone_model_info"))
        except (requests.ConnectionError, KeyError, ValueError):  # it does not answer yet, or not in JSON
            return False

    def firing(self):
        """Return the names of the alerts that fire, each with the score that it names."""
        alerts = [alert["labels"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"]
        return {(labels["alertname"], labels.get("score")) for labels in alerts}

    def wait_for_alert(self, name, score=None):
        wait_for(lambda: (name, score) in self.firing(), 30, lambda: f"{name} does not fire: {self.firing()}")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A service with a fault and one slot, to which bright films are unfamiliar, unlike the films of its reference."""
    from tests.support.models import faulty_model, with_attributes

    path = tmp_path_factory.mktemp("faulty") / "faulty.h5"
    faulty_model().save(path)
    eighth, last = ([float(number == tenth) for number in range(10)] for tenth in (7, 9))
    names = ("fisura", "fractura", "none")
    reference = {"fractured": dict.fromkeys(names, eighth), "familiarity": dict.fromkeys(names, last)}
    prior = json.dumps(dict(zip(names, (0.1, 0.1, 0.8), strict=True)))
    with_attributes(path, scaling="unit", threshold=0.5, prior=prior, reference=json.dumps(reference))
    settings = {"BONE_ENGINE": "tensorflow", "BONE_MAX_IN_FLIGHT": "1", "BONE_MAX_QUEUE": "0"}
    with serving(BONE_MODEL_PATH=str(path), **settings) as server:
        yield server.wait("/ready")


@pytest.fixture(scope="module")
def prometheus(server, tmp_path_factory):
    """Prometheus with the project's own configuration, every second; alerts do not wait for their `for`."""
    folder = tmp_path_factory.mktemp("prometheus")
    prometheus = Prometheus()
    settings = (FOLDER / "prometheus.yaml").read_text(encoding="utf-8")
    for old, new in {"api:5010": f"127.0.0.1:{server.port}", "15s": "1s", "alertmanager:9093": "127.0.0.1:9"}.items():
        assert old in settings
        settings = settings.replace(old, new)
    (folder / "prometheus.yaml").write_text(settings, encoding="utf-8")
    rules = (FOLDER / "alerts.yaml").read_text(encoding="utf-8")
    (folder / "alerts.yaml").write_text(re.sub(r"^ +for: .*\n", "", rules, flags=re.MULTILINE), encoding="utf-8")
    command = [
        str(shutil.which("prometheus")),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{prometheus.port}",
    ]
    with running(command, folder / "log", prometheus.answers):
        yield prometheus


def predict(server, brightness, query=""):
    noise = np.random.default_rng(0).integers(-10, 11, (64, 64))
    film = encoded(Image.fromarray((brightness + noise).astype(np.uint8)))
    return requests.post(f"{server.url}/predict{query}", files={"image": film}, timeout=30)


@pytest.mark.slow
@needs_prometheus
def test_alerts_fire_on_a_real_service_and_the_dashboard_shows_it(server, prometheus):
    # Every series is there before the first request, so that the first increase is seen.
    for rule in RULES:
        for selector in re.findall(r"\b(?:bone_\w+|up)(?:\{[^}]*\})?", rule["expr"]):
            assert prometheus.query(selector), f"{rule['alert']}: {selector}"
    wait_for(lambda: prometheus.query('count_over_time(up{job="bone"}[1m]) > 2'), 30)
    assert prometheus.firing() == set()

    assert predict(server, 230).json()["code"] == "internal_error"
    prometheus.wait_for_alert("BoneInternalErrors")

    with ThreadPoolExecutor(8) as clients:
        statuses = list(clients.map(lambda _: predict(server, 100).status_code, range(80)))
    assert set(statuses) == {200, 429}
    prometheus.wait_for_alert("BoneOverloaded")

    assert {predict(server, 200).status_code for _ in range(120)} == {200}
    prometheus.wait_for_alert("BoneUnlikeReference", "familiarity")
    assert ("BoneUnlikeReference", "fractured") not in prometheus.firing()

    assert predict(server, 200, "?explain=1").status_code == 200
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            found = prometheus.query(target["expr"].replace("$__rate_interval", "1m"))
            values = np.array([float(series["value"][1]) for series in found])
            assert np.isfinite(values).any(), f"{panel['title']}: {target['expr']}"

    server.process.terminate()
    prometheus.wait_for_alert("BoneDown")
