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
MADE_BY_PROMETHEUS = {"up"}  # for each target


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


def test_compose_starts_the_service_hardened_and_a_prometheus_that_scrapes_it():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    api, prometheus = compose["services"]["api"], compose["services"]["prometheus"]
    assert api["read_only"]
    assert api["cap_drop"] == ["ALL"]
    assert (DEPLOY / api["build"] / "Dockerfile").is_file()
    assert int(api["stop_grace_period"].removesuffix("s")) > 10
    mounted, inside, _ = prometheus["volumes"][0].split(":")
    assert (DEPLOY / mounted / "prometheus.yaml").is_file()
    assert f"--config.file={inside}/prometheus.yaml" in prometheus["command"]


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
def test_every_series_that_an_alert_names_exists(rule, client):
    client.post("/predict")  # so that the counters of requests exist
    text = client.get("/metrics").text
    named = set(re.findall(r"\b(bone_\w+|up)\b(?=[{\[ ])", rule["expr"]))
    assert named
    families = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    series = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named - MADE_BY_PROMETHEUS}
    assert series <= families
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith((".", "changed.", "replicas."))
