import dataclasses
import importlib
import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
import requests

from tests.support.phantoms import encoded, phantom
from tests.support.server import serving
from tests.training.test_train import SMALL, needs_backbone
from training.recipe import RECIPES

README = Path(__file__).parents[2] / "training/README.md"
WITH_RECIPE = ("training.train", "training.evaluate", "training.export")


def write_phantoms(folder, count, seed):
    for kind in ("fisura", "fractura", "normal"):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            crack = "none" if kind == "normal" else kind
            data = encoded(phantom(crack, (160, 120), seed=seed + number))
            (folder / kind / f"{number}.png").write_bytes(data)
        seed += count


def read_commands():
    """Return the commands that lead from a folder of films to a served model."""
    chapter = README.read_text(encoding="utf-8").split("## From a folder of films to a served model")[1]
    return re.search(r"```\n(.*?)```", chapter, re.DOTALL)[1].splitlines()


@needs_backbone
@pytest.mark.slow
@pytest.mark.timeout(1200)
# Keras 3.15.1 copies TensorFlow variables in a way that NumPy 2 warns of, when it saves an .h5.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_six_commands_lead_from_a_folder_of_films_to_a_served_model(tmp_path, monkeypatch):
    """A hundred and twenty drawn films of one source, two folds, a network that is trained for a few steps."""
    write_phantoms(tmp_path / "films", 40, 0)
    write_phantoms(tmp_path / "new_films", 12, 1000)
    monkeypatch.setitem(RECIPES, "small", dataclasses.replace(SMALL, name="small"))
    monkeypatch.setenv("BONE_ENGINE", "tensorflow")
    monkeypatch.chdir(tmp_path)
    *commands, serve = map(shlex.split, read_commands())
    assert len(commands) == 5
    for python, _, module, *arguments in commands:
        assert python == "python"
        recipe = ["--recipe", "small"] if module in WITH_RECIPE else []
        folds = ["--folds", "2"] if module == "training.prepare" else []
        monkeypatch.setattr(sys, "argv", [module, *arguments, *recipe, *folds])
        assert importlib.import_module(module).main() == 0
    assert "none could be left out" in Path("mine/MODEL_CARD.md").read_text(encoding="utf-8")
    judged = json.loads(Path("mine/report/report.json").read_text(encoding="utf-8"))
    assert judged["learntFrom"] == 0
    assert judged["figures"]["sensitivity"]["films"] == 24
    variable, path = serve[0].split("=")
    assert serve[1:] == ["python", "app.py"]
    with serving(**{variable: os.path.abspath(path), "BONE_ENGINE": "tensorflow"}) as server:  # noqa: PTH100
        film = Path("new_films/fractura/0.png").read_bytes()
        answer = requests.post(
            server.wait("/ready").url + "/predict?detail=1", files={"image": film}, timeout=60
        ).json()
    assert answer["detail"]["model"]["version"] == "1"
    assert {probability["class"] for probability in answer["allProbabilities"]} == {"fisura", "fractura"}
