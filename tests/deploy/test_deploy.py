import re
from itertools import chain

import pytest
import yaml
from kubernetes_validate.utils import ValidationError, all_versions, validate

from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
MANIFESTS = {
    f"{path.name} {document['kind']}": document
    for path in sorted(DEPLOY.glob("kubernetes/*.yaml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
}


def of_kind(kind):
    (found,) = [document for document in MANIFESTS.values() if document["kind"] == kind]
    return found


POD = of_kind("Deployment")["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
VERSIONS = all_versions()[-4:]


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_valid_under_the_strict_kubernetes_schema(name, version):
    validate(MANIFESTS[name], version, strict=True)


def test_a_misspelt_key_is_invalid():
    wrong = {**of_kind("Service"), "spec": {"portz": []}}
    with pytest.raises(ValidationError):
        validate(wrong, VERSIONS[-1], strict=True)


def test_all_four_kinds_are_there_and_select_the_same_pods():
    assert {document["kind"] for document in MANIFESTS.values()} == {
        "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget",
    }  # fmt: skip
    labels = of_kind("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert of_kind("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert of_kind("Service")["spec"]["selector"] == labels
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    target = of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", of_kind("Deployment")["metadata"]["name"])
    assert "replicas" not in of_kind("Deployment")["spec"]


def test_a_pod_has_time_to_drain():
    (drain,) = [float(one["value"]) for one in CONTAINER["env"] if one["name"] == "BONE_DRAIN_SECONDS"]
    pause = float(re.search(r"sleep\((\d+)\)", CONTAINER["lifecycle"]["preStop"]["exec"]["command"][-1])[1])
    assert POD["terminationGracePeriodSeconds"] > drain + pause


def test_a_service_named_bone_does_not_set_the_port():
    assert POD["enableServiceLinks"] is False


def test_the_probes_request_routes_that_exist(client):
    ready, alive = (CONTAINER[f"{name}Probe"]["httpGet"]["path"] for name in ("readiness", "liveness"))
    assert (ready, alive) == ("/ready", "/health")
    assert client.get(ready).status_code == client.get(alive).status_code == 200
    assert CONTAINER["startupProbe"]["httpGet"]["path"] == ready


def test_a_pod_has_the_least_privileges():
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert f"USER {POD['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["mountPath"] for mount in CONTAINER["volumeMounts"]} == {"/tmp"}  # noqa: S108 the pod's own
    assert set(CONTAINER["resources"]["limits"]) == set(CONTAINER["resources"]["requests"]) == {"cpu", "memory"}


class Compose(yaml.SafeLoader):
    """Read Compose's own tag too, which replaces a list instead of adding to it."""


Compose.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))


def compose(name):
    return yaml.load((DEPLOY / name).read_text(encoding="utf-8"), Compose)["services"]  # noqa: S506 a safe loader


def test_compose_starts_the_service_hardened():
    api = compose("compose.yaml")["api"]
    assert api["read_only"]
    assert api["cap_drop"] == ["ALL"]
    assert (DEPLOY / api["build"] / "Dockerfile").is_file()
    assert int(api["stop_grace_period"].removesuffix("s")) > 10


def test_compose_opens_no_port_to_the_network_without_a_key():
    services = compose("compose.yaml")
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service["ports"])
    opened = compose("compose.open.yaml")["api"]
    assert opened["ports"] == ["5010:5010"]
    assert opened["environment"]["BONE_API_KEYS"].startswith("${BONE_API_KEYS:?")


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_compose_mounts_the_configuration_that_exists(name):
    service = compose("compose.yaml")[name]
    mounted, inside, _ = service["volumes"][0].split(":")
    assert (DEPLOY / mounted / f"{name}.yaml").is_file()
    assert f"--config.file={inside}/{name}.yaml" in service["command"]


def test_alerts_reach_an_alertmanager_whose_receivers_exist():
    settings = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text(encoding="utf-8"))
    (targets,) = settings["alerting"]["alertmanagers"][0]["static_configs"]
    host, _, port = targets["targets"][0].partition(":")
    assert compose("compose.yaml")[host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    alertmanager = yaml.safe_load((DEPLOY / "alertmanager/alertmanager.yaml").read_text(encoding="utf-8"))
    routes = [alertmanager["route"], *alertmanager["route"]["routes"]]
    assert {route["receiver"] for route in routes} <= {receiver["name"] for receiver in alertmanager["receivers"]}


def test_the_autoscaler_is_what_the_formula_of_the_page_gives():
    page = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    cores, utilisation = (
        float(number) for number in re.search(r"limit of (\d) cores? .*?u = ([\d.]+)", page, re.DOTALL).groups()
    )
    (metric,) = of_kind("HorizontalPodAutoscaler")["spec"]["metrics"]
    resources = CONTAINER["resources"]
    assert float(resources["limits"]["cpu"]) == cores
    percent = 100 * utilisation * cores / float(resources["requests"]["cpu"])
    assert metric["resource"]["target"]["averageUtilization"] == pytest.approx(percent)


def test_prometheus_scrapes_the_route_and_reads_the_rules_that_exist(client):
    settings = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = settings["scrape_configs"]
    assert client.get(job["metrics_path"]).status_code == 200
    assert job["static_configs"] == [{"targets": ["api:5010"]}]
    assert all((DEPLOY / "prometheus" / name).is_file() for name in settings["rule_files"])


def rules():
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return list(chain.from_iterable(group["rules"] for group in groups))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_series_that_an_alert_names_exists_before_the_first_request(rule, client):
    text = client.get("/metrics").text
    selected = re.findall(r"\b(bone_\w+)(?:\{([^}]*)\})?", rule["expr"])
    for name, labels in selected:
        wanted = re.findall(r'(\w+)(=~?)"([^"]*)"', labels)
        lines = re.findall(rf"^{name}(?:\{{(.*)\}})? ", text, re.MULTILINE)
        assert any(matches(line, wanted) for line in lines) or name.startswith("bone_score"), name  # that of a file
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith((".", "changed.", "replicas."))


def matches(line, wanted):
    labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
    return all(re.fullmatch(value if sign == "=~" else re.escape(value), labels[name]) for name, sign, value in wanted)
