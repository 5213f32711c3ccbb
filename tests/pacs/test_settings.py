import json
import re

import pytest
import yaml

from config import ConfigError
from pacs.settings import SETTINGS, read_pacs_config, unknown_pacs_variables
from tests.support.server import ROOT

pytestmark = pytest.mark.extras

NEEDED = {"BONE_PACS_SENDERS": "ROOM@10.0.0.7, PACS@10.0.1.0/24", "BONE_PACS_DESTINATION": "dicom://PACS@10.0.1.5:104"}


def test_two_settings_are_required_and_the_others_have_defaults():
    config = read_pacs_config(NEEDED)
    assert [sender.ae_title for sender in config.senders] == ["ROOM", "PACS"]
    assert (config.destination.ae_title, config.destination.host, config.destination.port) == ("PACS", "10.0.1.5", 104)
    assert (config.ae_title, config.port, config.monitor_host) == ("BONE", 11112, "127.0.0.1")
    for variable in NEEDED:
        with pytest.raises(ConfigError, match=f"{variable} is not set"):
            read_pacs_config({name: value for name, value in NEEDED.items() if name != variable})


def test_a_password_is_taken_out_of_the_address():
    destination = read_pacs_config(NEEDED | {"BONE_PACS_DESTINATION": "https://u:secret@pacs/dicom-web/"}).destination
    assert (destination.url, destination.user, destination.password) == ("https://pacs/dicom-web", "u", "secret")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BONE_PACS_SENDERS", "ROOM"),
        ("BONE_PACS_SENDERS", "ROOM@somewhere"),
        ("BONE_PACS_SENDERS", "A TITLE THAT IS TOO LONG@10.0.0.1"),
        ("BONE_PACS_DESTINATION", "PACS@10.0.0.1:104"),
        ("BONE_PACS_DESTINATION", "dicom://PACS@10.0.0.1"),
        ("BONE_PACS_DESTINATION", "https://"),
        ("BONE_PACS_DESTINATION", "dicom://u:secret@host:xyz"),
        ("BONE_PACS_URL", "localhost:5010"),
        ("BONE_PACS_PORT", "0"),
        ("BONE_PACS_QUIET_SECONDS", "-1"),
    ],
)
def test_a_bad_value_is_refused_with_a_sentence_that_names_the_variable(variable, value):
    with pytest.raises(ConfigError, match=f"^{variable} is .* must be .*\\.$") as raised:
        read_pacs_config(NEEDED | {variable: value})
    assert "secret" not in str(raised.value)


def test_a_certificate_without_its_key_is_refused():
    with pytest.raises(ConfigError, match="must both be set"):
        read_pacs_config(NEEDED | {"BONE_PACS_TLS_CERTIFICATE": "a.pem"})


def test_a_misspelt_variable_is_noticed_and_the_services_are_known():
    environment = {"BONE_PACS_SPOOOL": "x", "BONE_MAX_PIXELS": "1024", "BONE_PACS_URL": "x"}
    assert unknown_pacs_variables(environment) == {"BONE_PACS_SPOOOL": "BONE_PACS_SPOOL"}


def test_the_readme_lists_every_setting_with_its_default_and_meaning():
    page = (ROOT / "pacs/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(BONE_\w+)` \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert [(variable, meaning) for variable, _, meaning in rows] == [
        (setting.variable, setting.meaning) for setting in SETTINGS
    ]
    for setting, (_, default, _) in zip(SETTINGS, rows, strict=True):
        assert default == ("none" if setting.default is None else f"`{setting.default}`")


def test_compose_starts_a_node_with_settings_that_it_takes():
    compose = yaml.safe_load((ROOT / "deploy/compose.pacs.yaml").read_text(encoding="utf-8"))
    service, running, pacs = (compose["services"][name] for name in ("api", "node", "orthanc"))
    environment = running["environment"]
    config = read_pacs_config(environment)
    assert not unknown_pacs_variables(environment)
    assert config.destination.host in compose["services"]
    assert config.url == "http://api:5010"
    modality = json.loads(pacs["environment"]["ORTHANC__DICOM_MODALITIES"])["bone"]
    assert modality == [config.ae_title, "node", config.port]
    assert config.senders[0].ae_title == config.destination.ae_title == pacs["environment"]["ORTHANC__DICOM_AET"]
    assert service["read_only"]
    assert running["read_only"]
    assert running["cap_drop"] == ["ALL"]


def test_what_the_image_of_the_node_copies_exists_and_is_not_ignored():
    lines = (ROOT / "deploy/pacs.Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    ignored = (ROOT / "deploy/pacs.Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied} == {line for line in ignored if line.startswith("!")}
    assert all(any(ROOT.glob(name)) for name in copied)
