import numpy as np
import pytest
from PIL import Image

from training.films import read_film
from training.manifest import read_manifest
from training.views import DAMAGES, PLAIN, VIEWS, Window, cut, regrade, share_in_boxes


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0.0, 17.0, -105.0])
def test_boxes_move_with_what_they_hold(folder, degrees, mirrored):
    entry = read_manifest(folder)[1]
    film = read_film(entry)
    window = Window((66.0, 33.0), 64.0, degrees, mirrored)
    regions = np.asarray(cut(film, window), float).reshape(16, 4, 16, 4).mean(axis=(1, 3))
    shares = share_in_boxes(entry.boxes, film.size, window, 16)
    inside, outside = regions[shares > 0.9], regions[shares == 0]
    assert len(inside) > 10
    assert inside.min() - outside.max() > 60


def test_points_come_back_from_a_window_where_they_were():
    window = Window((10.0, 20.0), 30.0, 33.0, is_mirrored=True)
    points = np.array([[1.0, 2.0], [30.0, 40.0]])
    np.testing.assert_allclose(window.to_film(window.from_film(points)), points)


def test_every_damage_leaves_an_image_of_the_right_kind(folder):
    film = read_film(read_manifest(folder)[1])
    assert set(VIEWS) == {PLAIN, *DAMAGES}
    assert VIEWS[PLAIN](film) == film
    for damage in DAMAGES.values():
        damaged = damage(film)
        assert damaged.mode == "L"
        assert damaged.size in (film.size, (60, 45))


def test_grading_keeps_the_size_and_differs_from_draw_to_draw():
    film = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    drawn = [regrade(film, np.random.default_rng(seed)) for seed in range(20)]
    assert {image.size for image in drawn} == {(64, 64)}
    assert len({image.tobytes() for image in drawn}) == 20
