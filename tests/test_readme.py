import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from config import SETTINGS
from tests.support.phantoms import phantom
from web.messages import ERRORS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_phantom_that_the_readme_sends_is_the_one_that_is_drawn():
    shipped = Image.open(ROOT / "docs/images/phantom.png")
    assert shipped.tobytes() == phantom("fractura").tobytes()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_curl_of_the_readme_gives_the_answer_of_the_readme(shipped_server):
    command = next(block for block in blocks("sh") if block.startswith("curl"))
    arguments = shlex.split(command.replace("localhost:5010", f"127.0.0.1:{shipped_server.port}"))
    answered = subprocess.run([*arguments, "--silent"], cwd=ROOT, capture_output=True, check=True, timeout=30).stdout
    shown, given = json.loads(blocks("json")[0]), json.loads(answered)
    assert list(given) == list(shown)
    assert (given["success"], given["predictedClass"]) == (shown["success"], shown["predictedClass"])
    assert given["confidence"] == pytest.approx(shown["confidence"], abs=0.1)
    for ours, theirs in zip(given["allProbabilities"], shown["allProbabilities"], strict=True):
        assert ours["class"] == theirs["class"]
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=0.1)


def test_the_raw_curl_of_the_readme_gives_the_same_answer(shipped_server):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    command = next(block for block in blocks("sh") if "--data-binary" in block)
    arguments = shlex.split(command.replace("localhost:5010", f"127.0.0.1:{shipped_server.port}"))
    answered = subprocess.run([*arguments, "--silent"], cwd=ROOT, capture_output=True, check=True, timeout=30).stdout
    assert json.loads(answered)["confidence"] == pytest.approx(json.loads(blocks("json")[0])["confidence"], abs=0.1)


def test_the_python_client_of_the_readme_works(shipped_server):
    client = blocks("python")[0]
    assert len([line for line in client.splitlines() if line.strip()]) < 10
    names: dict = {}
    exec(client, names)  # noqa: S102 the README is ours
    url = f"{shipped_server.url}/predict"
    assert names["classify"](ROOT / "docs/images/phantom.png", url) == "fractura"
    with pytest.raises(RuntimeError, match="unsupported_image"):
        names["classify"](ROOT / "README.md", url)


def test_the_fetch_client_of_the_readme_works(shipped_server):
    if not shutil.which("node"):
        pytest.skip("Node.js is not installed")
    client = blocks("js")[0]
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
    assert first == "fractura"
    assert second.startswith("unsupported_image: ")


def test_the_readme_lists_every_setting_with_its_default():
    rows = dict(re.findall(r"^\| `(BONE_\w+)` \| ([^|]+) \|", README, re.MULTILINE))
    assert set(rows) == {setting.variable for setting in SETTINGS}
    for setting in SETTINGS:
        if setting.default is not None:
            assert rows[setting.variable] == f"`{setting.default}`"


def test_the_readme_lists_every_error_code_under_its_status():
    listed = {}
    for statuses, codes in re.findall(r"^\| (\d{3}(?:, \d{3})?) \| (`.*) \|", README, re.MULTILINE):
        for code in re.findall(r"`([a-z_]+)`", codes):
            listed[code] = statuses
    assert set(listed) == set(ERRORS)
    assert all(str(ERRORS[code].status) in statuses for code, statuses in listed.items())


def test_what_the_readme_links_to_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
