import hashlib
import json
import sys

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import training.export
from config import read_config
from model_loader import load
from tests.support.runs import make_hospitals, write_run
from training.calibration import Calibration, Line, Scores
from training.export import describe, finish_network, golden_inputs, write_model
from training.learnt import hash_films, read_learnt_films
from training.manifest import read_manifest
from training.outcome import fit, load_run
from training.recipe import PLACES
from training.reference import fit_reference
from training.scope import Familiarity, Scope

# Keras 3.15.1 copies TensorFlow variables in a way that NumPy 2 warns of, when it saves an .h5.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RNG = np.random.default_rng(0)
CALIBRATION = Calibration(Line(1.5, 0.5), Line(0.7, -1.0), Line(2.0, 0.25))
SCOPE = Scope(RNG.normal(size=6), -0.2)
FAMILIARITY = Familiarity(
    RNG.normal(size=6),
    np.linalg.qr(RNG.normal(size=(6, 2)))[0],
    np.array([0.5, 2.0, 4.0, 9.0]),
    np.array([1.0, 0.5, 0.1, 0.0]),
)


def build_network(side=32):
    """Build a network with the outputs that training.network gives, of any weights."""
    pixels = keras.Input((side, side, 1))
    regions = layers.Conv2D(2, 8, strides=8, name="regions")(pixels)
    known, kind = (layers.Conv2D(1, 1, name=f"{name}_place")(regions) for name in ("known", "type"))
    outputs = {
        "known": layers.GlobalMaxPooling2D(name="known")(known),
        "type": layers.GlobalAveragePooling2D(name="type")(kind),
        "known_place": known,
        "type_place": kind,
        "pooled": layers.GlobalAveragePooling2D(name="pooled")(layers.Conv2D(6, 3, name="features")(pixels)),
    }
    return keras.Model(pixels, outputs)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return build_network()


@pytest.fixture(scope="module")
def finished(network):
    return finish_network(network, CALIBRATION, SCOPE, FAMILIARITY)


def test_what_was_fitted_gives_the_same_in_layers_as_beside_them(network, finished):
    pixels = np.random.default_rng(3).random((20, 32, 32, 1), np.float32) * np.linspace(0, 3, 20)[:, None, None, None]
    raw = network.predict_on_batch(pixels)
    probabilities, evidence, familiarity = finished.predict_on_batch(pixels)
    shares = FAMILIARITY.apply(raw["pooled"])
    scores = Scores(raw["known"][:, 0], raw["type"][:, 0], SCOPE.apply(raw["pooled"]), shares)
    np.testing.assert_allclose(probabilities, CALIBRATION.apply(scores), atol=1e-5)
    np.testing.assert_allclose(familiarity[:, 0], shares, atol=1e-5)
    assert 0 < shares.min() < 0.9
    np.testing.assert_allclose(evidence, np.repeat(raw["known_place"], 2, axis=3), atol=1e-6)


def test_familiarity_stays_within_0_and_1_far_from_everything(finished):
    far = finished.predict_on_batch(np.full((1, 32, 32, 1), 1e3, np.float32))[2]
    assert far.min() >= 0
    assert far.max() <= 1


def test_a_written_model_reproduces_its_golden_outputs_and_states_what_it_needs(finished, tmp_path):
    path, film = tmp_path / "x.h5", tmp_path / "film.png"
    film.write_bytes(b"a film")
    write_model(finished, path, {"threshold": 0.5}, [film])
    loaded = keras.models.load_model(path, compile=False)
    with h5py.File(path) as file:
        golden = file["bone_golden"]
        outputs = loaded.predict_on_batch(golden["inputs"][:].astype(np.float32) / np.float32(255))
        np.testing.assert_allclose(outputs[0], golden["outputs"][:], atol=1e-6)
        assert file.attrs["bone_threshold"] == 0.5
        assert file["bone_trained_on_images"][0].tobytes() == hashlib.sha256(b"a film").digest()[:8]
    assert read_learnt_films(path) == {hashlib.sha256(b"a film").digest()[:8]}
    assert golden_inputs((32, 32)).shape == (4, 32, 32, 1)


def test_the_command_writes_the_file_and_replaces_none_unless_told(network, folder, tmp_path, monkeypatch, capsys):
    entries = read_manifest(folder)
    write_run(tmp_path / "scores/places", entries)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "scores/places/features.npz", pooled=rng.normal(size=(len(entries), 6)).astype(np.float32))
    (tmp_path / "scores/places.quality.json").write_text("{}")
    monkeypatch.setattr("training.export.load_network", lambda *_: network)
    output = tmp_path / "mine.h5"
    command = ["export", "--data", folder, "--scores", tmp_path / "scores", "--output", output, "--version", "1"]
    for extra, code in (([], 0), ([], 1), (["--overwrite"], 0), (["--overwrite", "--split", "fold_7"], 1)):
        monkeypatch.setattr(sys, "argv", [*map(str, command), *extra])
        assert training.export.main() == code
    assert len(read_learnt_films(output)) == len(entries)
    errors = capsys.readouterr().err
    assert "mine.h5 exists already; name another file" in errors
    assert "There is no split fold_7; this manifest has fold_0, fold_1" in errors
    assert not list(tmp_path.glob("unfinished*"))


def test_the_hashes_of_no_films_are_an_empty_table():
    assert hash_films([]).shape == (0, 8)


def test_the_service_loads_the_file_and_finds_all_that_it_states(finished, tmp_path):
    entries = make_hospitals()
    write_run(tmp_path / "scores", entries)
    run, everything = load_run(tmp_path / "scores", entries), np.ones(len(entries), bool)
    fitted = fit(run, entries, everything)
    reference = fit_reference(fitted.calibration, run.left_out, entries, everything)
    attributes = describe(PLACES, fitted, (-1.5, 2.0), reference, "0" * 64)
    path = tmp_path / "x.h5"
    write_model(finished, path, {**attributes, "quality": json.dumps({"sourcesLeftOut": {}})})
    classifier = load(read_config({"BONE_MODEL_PATH": str(path), "BONE_ENGINE": "tensorflow"}))
    assert classifier.class_names == ("fisura", "fractura")
    assert classifier.threshold == pytest.approx(fitted.threshold)
    assert (classifier.scaling, classifier.resize) == ("unit", "letterbox")
    described = classifier.describe()
    assert described["prior"] == {"fisura": 0.07, "fractura": 0.26, "none": 0.67}
    assert {score: sum(shares) for score, shares in described["reference"].items()} == pytest.approx(
        {"fractured": 1, "familiarity": 1}, abs=1e-4
    )
    assert described["quality"] == {"sourcesLeftOut": {}}
    assert "reference" not in describe(PLACES, fitted, (-1.5, 2.0), {}, "0" * 64)
    outputs = classifier.predict(np.zeros((1, 32, 32, 1), np.float32))
    assert outputs.familiarity.shape == (1, 1)
    assert outputs.evidence.shape == (1, 4, 4, 2)
