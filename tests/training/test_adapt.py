import csv
import json
import re
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

from config import read_config
from model_loader import load
from tests.training.test_export import CALIBRATION, FAMILIARITY, SCOPE, build_network
from training import adapt as command
from training.adaptation import Change
from training.export import finish_network, write_model
from training.films import read_film, to_pixels

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CONFORMAL = '{"fisura": 0.9, "fractura": 0.8, "none": 0.4}'
PRIOR = '{"fisura": 0.07, "fractura": 0.26, "none": 0.67}'
ATTRIBUTES = {
    "class_names": "fisura,fractura",
    "threshold": 0.415,
    "scaling": "unit",
    "resize": "letterbox",
    "prior": PRIOR,
    "conformal": CONFORMAL,
    "evidence": '{"from": 0.2, "to": 3.9}',
    "version": "v1",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "original.h5"
    film = path.with_name("taught.png")
    film.write_bytes(b"a film")
    write_model(finish_network(build_network(), CALIBRATION, SCOPE, FAMILIARITY), path, ATTRIBUTES, [film])
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Make films of 30 patients: bright ones are fractured."""
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group"])
        for row in range(60):
            label = ("fractura", "normal")[row % 2]
            pixels = rng.integers(0, 120 if label == "normal" else 200, (40, 50), np.uint8)
            Image.fromarray(pixels).save(folder / f"{row}.png")
            writer.writerow([f"{row}.png", label, f"patient {row // 2}"])
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["adapt", *map(str, arguments)])
    return command.main()


def open_file(path):
    return load(read_config({"BONE_MODEL_PATH": str(path), "BONE_ENGINE": "tensorflow"}))


def test_an_adapted_network_serves_and_says_where_it_comes_from(model, films, tmp_path, monkeypatch, capsys):
    out = tmp_path / "mine.h5"
    assert run(monkeypatch, films, "--out", out, "--model", model) == 0, capsys.readouterr().err
    assert "| head |" in capsys.readouterr().out
    classifier = open_file(out)
    described = classifier.describe()
    assert described["prior"] == json.loads(PRIOR)
    assert described["version"] == "v1+adapted"
    assert classifier.class_names == ("fisura", "fractura")
    with h5py.File(out) as file:
        origin = json.loads(file.attrs["bone_adapted_from"])
        assert (origin["version"], origin["films"], origin["groups"]) == ("v1", 60, 30)
        assert file["bone_trained_on_images"].shape == (61, 8)
        assert json.loads(file.attrs["bone_conformal"])["fisura"] == 0.9  # no film of it: the value of the original
    card = out.with_suffix(".md").read_text(encoding="utf-8")
    assert origin["sha256"] in card
    assert "60 films of limb bones: 30 fractured, 30 normal, 30 groups" in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.h5", "mine.md"]


@pytest.mark.parametrize("again", [False, True])
def test_a_changed_network_answers_as_the_change_says(model, films, tmp_path, again):
    network, file = command.load_trained(model)
    if again:  # a network that was adapted once is adapted like any other
        network = command.change_network(network, Change(0.8, 0.1, np.linspace(-1, 1, 6)))
    entries = command.read_labelled(films)[:9]
    own = command.gather(entries, command.look(network, entries, tmp_path, f"{file.sha256}{again}"), network)
    change = Change(1.3, -0.4, np.linspace(-2, 2, 6))
    changed = command.change_network(network, change)
    added = {layer.name for layer in changed.layers} - {layer.name for layer in network.layers}
    assert not [name for name in added if re.fullmatch(r"(rescaling|multiply|concatenate|dense)(_\d+)?", name)]
    pixels = np.stack([np.asarray(to_pixels(read_film(entry), 32), np.float32) for entry in entries])
    probabilities, evidence, familiarity = changed.predict_on_batch(pixels[..., None] / np.float32(255))
    np.testing.assert_allclose(probabilities, own.probabilities(change.apply(own.films)), atol=1e-5)
    np.testing.assert_allclose(evidence, network.predict_on_batch(pixels[..., None] / np.float32(255))[1], atol=1e-6)
    assert familiarity.shape == (9, 1)


def test_an_interrupted_run_looks_at_no_film_twice(model, films, tmp_path, monkeypatch):
    network, file = command.load_trained(model)
    entries = command.read_labelled(films)[:10]
    first = command.look(network, entries[:6], tmp_path / "cache", file.sha256)
    monkeypatch.setattr(command, "_decode", lambda entry, read=command._decode: seen.append(entry) or read(entry))
    seen = []
    again = command.look(network, entries, tmp_path / "cache", file.sha256)
    assert seen == entries[6:]
    np.testing.assert_array_equal(again["pooled"][:6], first["pooled"])


def test_what_cannot_be_adapted_ends_in_one_sentence(model, films, tmp_path, monkeypatch, capsys, brightness_file):
    def error(*arguments):
        assert run(monkeypatch, *arguments) == 1
        return capsys.readouterr().err.strip()

    taken = tmp_path / "taken.h5"
    taken.write_bytes(b"kept")
    assert "exists already" in error(films, "--out", taken, "--model", model)
    assert taken.read_bytes() == b"kept"
    assert "the network to start from" in error(films, "--out", model, "--model", model, "--overwrite")
    assert "must end in .h5" in error(films, "--out", tmp_path / "x.keras", "--model", model)
    assert "create it first" in error(films, "--out", tmp_path / "no" / "x.h5", "--model", model)
    assert "has no layer" in error(films, "--out", tmp_path / "x.h5", "--model", brightness_file)
    one_kind = tmp_path / "films" / "normal"
    one_kind.mkdir(parents=True)
    (one_kind / "0.png").write_bytes((films / "0.png").read_bytes())
    assert "both fractured and normal" in error(one_kind.parent, "--out", tmp_path / "x.h5", "--model", model)
    (one_kind.parent / "fractura").mkdir()
    (one_kind.parent / "fractura" / "1.png").write_bytes(b"not an image")
    assert "1.png cannot be read" in error(one_kind.parent, "--out", tmp_path / "x.h5", "--model", model)
