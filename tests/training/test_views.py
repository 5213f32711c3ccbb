import numpy as np
import pytest
from PIL import Image

from training.manifest import Box
from training.views import DAMAGES, Window, cut, draw_window, regrade, share_in_boxes

FILM = (200, 120)  # width, height
BOX = Box(0.5, 0.25, 0.2, 0.3)


def draw_film():
    """Draw a dark film with a bright square where the box is."""
    pixels = np.zeros((120, 200), np.uint8)
    pixels[12:48, 80:120] = 255
    return Image.fromarray(pixels)


def test_a_window_maps_points_to_the_film_and_back():
    window = draw_window((60.0, 40.0), 90.0, np.random.default_rng(0))
    points = np.random.default_rng(1).random((5, 2))
    np.testing.assert_allclose(window.from_film(window.to_film(points)), points, atol=1e-12)
    np.testing.assert_allclose(window.to_film(np.array([[0.5, 0.5]])), [[60, 40]])


def test_a_mirrored_window_shows_the_right_side_on_the_left():
    film = Image.fromarray(np.tile(np.arange(100, dtype=np.uint8), (100, 1)))
    plain, mirrored = (np.asarray(cut(film, Window((50, 50), 64, 0, is_mirrored))) for is_mirrored in (False, True))
    assert plain[32, 10] < plain[32, 50]
    assert mirrored[32, 10] > mirrored[32, 50]


@pytest.mark.parametrize("seed", range(6))
def test_boxes_move_with_what_they_hold(seed):
    window = draw_window((100.0, 40.0), 128.0, np.random.default_rng(seed))
    pixels = np.asarray(cut(draw_film(), window), float).reshape(8, 16, 8, 16).mean(axis=(1, 3))
    share = share_in_boxes([BOX], FILM, window, 8)
    assert share.max() == 1
    assert pixels[share == 1].min() > 200
    assert pixels[share == 0].max() < 120


def test_without_boxes_no_share_is_covered():
    assert share_in_boxes([], FILM, Window((100, 40), 128, 0, is_mirrored=False), 8).max() == 0


def test_grading_keeps_the_size_and_the_mode_and_differs_from_draw_to_draw():
    film = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    graded = [regrade(film, np.random.default_rng(seed)) for seed in range(20)]
    assert {(image.size, image.mode) for image in graded} == {((64, 64), "L")}
    assert len({image.tobytes() for image in graded}) == 20


def test_a_black_film_can_be_graded():
    assert regrade(Image.new("L", (64, 64)), np.random.default_rng(2)).size == (64, 64)


def test_every_damage_leaves_an_image():
    film = draw_film()
    for damage in DAMAGES.values():
        assert damage(film).mode == "L"
        assert min(damage(film).size) >= 60
