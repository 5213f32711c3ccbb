import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from config import SETTINGS
from tests.support.phantoms import encoded, phantom
from web.messages import ERRORS

ROOT = Path(__file__).parents[1]
DOCUMENTS = {path.name: path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
README = DOCUMENTS["README.md"].read_text(encoding="utf-8")
API = DOCUMENTS["api.md"].read_text(encoding="utf-8")
MODELS = DOCUMENTS["models.md"].read_text(encoding="utf-8")
DEPLOYMENT = DOCUMENTS["deployment.md"].read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PHANTOM = ROOT / "docs/images/phantom.png"


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text):
    return [line for block in blocks(text, "sh") for line in block.splitlines() if line.startswith("curl")]


def answer_of(command, server):
    arguments = shlex.split(command.replace("localhost:5010", f"127.0.0.1:{server.port}"))
    completed = subprocess.run([*arguments, "--silent"], cwd=ROOT, capture_output=True, check=True, timeout=30)
    return json.loads(completed.stdout)


def assert_same_answer(given, shown):
    """Compare with what a document shows; percentages may differ by 0.1."""
    assert list(given) == list(shown)
    assert {key: given[key] for key in ("success", "predictedClass", "message") if key in given} == {
        key: shown[key] for key in ("success", "predictedClass", "message") if key in shown
    }
    assert given["confidence"] == pytest.approx(shown["confidence"], abs=0.1)
    for ours, theirs in zip(given["allProbabilities"], shown["allProbabilities"], strict=True):
        assert ours["class"] == theirs["class"]
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=0.1)


def test_the_phantom_that_the_readme_sends_is_the_one_that_is_drawn():
    assert Image.open(PHANTOM).tobytes() == phantom("fractura").tobytes()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("command", [*commands(README), *commands(API)])
def test_every_curl_in_the_documents_gives_the_answer_that_is_shown(shipped_server, command):
    assert_same_answer(answer_of(command, shipped_server), json.loads(blocks(README, "json")[0]))


def test_the_first_command_and_the_answer_are_on_the_first_screen():
    assert "make run" in "\n".join(README.splitlines()[:15])
    assert '"success"' in "\n".join(README.splitlines()[:30])
    assert len(README.splitlines()) <= 130


def test_the_answers_that_the_api_page_shows_are_true(client, shipped_server):
    import requests

    success, failure, problem = (json.loads(block) for block in blocks(API, "json"))
    assert success == json.loads(blocks(README, "json")[0])
    blank = {"image": encoded(Image.new("L", (64, 64), 90))}
    assert requests.post(shipped_server.url + "/predict", files=blank, timeout=30).json() == failure
    given = client.post("/predict").json
    assert given | {"requestId": "…"} == problem
    assert list(given) == list(problem)


def test_the_python_client_works(shipped_server):
    client = blocks(API, "python")[0]
    assert len([line for line in client.splitlines() if line.strip()]) < 10
    names: dict = {}
    exec(client, names)  # noqa: S102 the document is ours
    url = f"{shipped_server.url}/predict"
    shown = json.loads(blocks(README, "json")[0])
    assert names["classify"](PHANTOM, url) == shown.get("predictedClass", "none of them")
    with pytest.raises(RuntimeError, match="unsupported_image"):
        names["classify"](ROOT / "README.md", url)


def test_the_fetch_client_works(shipped_server):
    if not shutil.which("node"):
        pytest.skip("Node.js is not installed")
    client = blocks(API, "js")[0]
    assert len(client.strip().splitlines()) < 10
    script = f"""{client}
        const {{ readFileSync }} = await import("node:fs");
        for (const name of ["docs/images/phantom.png", "README.md"]) {{
          const file = new Blob([readFileSync(name)]);
          console.log(await classify(file, "{shipped_server.url}/predict").catch((error) => error.message));
        }}"""
    ran = subprocess.run(
        ["node", "--input-type=module", "--eval", script],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=30,
        text=True,
    )
    first, second = ran.stdout.splitlines()
    assert first == json.loads(blocks(README, "json")[0]).get("predictedClass", "none of them")
    assert second.startswith("unsupported_image: ")


def test_what_the_models_page_writes_into_a_file_is_what_check_reads(tmp_path, brightness_file):
    path = tmp_path / "my_model.h5"
    shutil.copy(brightness_file, path)
    names: dict = {}
    exec(blocks(MODELS, "python")[0], names)  # noqa: S102 the document is ours
    levels = np.array([0, 51, 255], np.uint8)
    share = levels[:, np.newaxis] / np.float32(255)
    names["describe"](path, np.tile(levels[:, None, None, None], (1, 32, 32, 3)), np.hstack([1 - share, share]))
    with h5py.File(path) as file:
        stated = {name for name in file.attrs if name.startswith("bone_")}
    assert stated == {"bone_class_names", "bone_threshold", "bone_scaling", "bone_resize"}
    command = [sys.executable, "app.py", "check", str(path)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=120, text=True).stdout
    assert "golden outputs: reproduced" in checked
    assert checked.count("from the file") == len(stated)


def test_the_readme_lists_every_setting_with_its_default_and_meaning():
    rows = re.findall(r"^\| `(BONE_\w+)` \| ([^|]+) \| ([^|]+) \|$", README, re.MULTILINE)
    assert [(variable, meaning) for variable, _, meaning in rows] == [
        (setting.variable, setting.meaning) for setting in SETTINGS
    ]
    for setting, (_, default, _) in zip(SETTINGS, rows, strict=True):
        assert setting.default is None or default == f"`{setting.default}`"


def test_the_readme_lists_every_route(client):
    listed = re.findall(r"`(GET|POST) (/[a-z./-]*)`", README.partition("## Routes")[2].partition("##")[0])
    rules = [rule for rule in client.application.url_map.iter_rules() if not rule.rule.startswith("/static")]
    assert sorted(listed) == sorted((min(rule.methods & {"GET", "POST"}), rule.rule) for rule in rules)


def test_the_api_page_lists_every_error_code_under_its_status():
    listed = {code: int(status) for status, code in re.findall(r"^\| (\d{3}) \| `([a-z_]+)` \|", API, re.MULTILINE)}
    assert listed == {code: error.status for code, error in ERRORS.items()}


def test_the_deployment_page_lists_every_series_and_every_alert(client):
    client.post("/predict")
    text = client.get("/metrics").text
    series = {name for name in re.findall(r"^# TYPE (bone_\w+) ", text, re.MULTILINE) if not name.endswith("_created")}
    page = DEPLOYMENT.partition("## Metrics and alerts")[2]
    assert set(re.findall(r"`(bone_\w+)`", page)) == series
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert set(re.findall(r"`(Bone\w+)`", page)) == alerts


def test_the_layout_names_what_is_there():
    layout = README.partition("## Layout")[2].split("```")[1].strip()
    named = [name for line in layout.splitlines() for name in re.split(r" {2,}", line)[0].split(", ")]
    assert len(named) > 15
    assert not [name for name in named if not (ROOT / name).exists()]
    assert {path.name for path in ROOT.glob("*.py")} <= set(named)


def test_contributing_names_files_that_exist():
    room = ""
    for where, files in re.findall(r"^\| (.*?) \| .* \| (.*) \|$", CONTRIBUTING, re.MULTILINE)[1:]:
        room = (re.findall(r"`(\w+)/`", where) or [room if where.strip() == "" else ""])[0]
        for name in re.findall(r"`([\w/]+(?:\.\w+|/))`", files):
            assert (ROOT / room / name).exists() or (ROOT / name).exists(), name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_document_links_to_exists(name):
    path = DOCUMENTS[name]
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        if file.startswith("http"):
            continue
        linked = path.parent / file if file else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, target
