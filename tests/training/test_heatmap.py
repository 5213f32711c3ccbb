import numpy as np
import pytest
from PIL import Image

from tests.support.entries import make_entry
from training.heatmap import centre_hits, choose_scale, drawn_share, explain, hit_boxes, is_at_box, peak_hits
from training.manifest import Box, Entry


@pytest.fixture
def film(tmp_path):
    """Make a film of 50 x 100 pixels with two boxes, and evidence at both."""
    path = tmp_path / "x.png"
    Image.new("L", (100, 50)).save(path)
    boxes = (Box(0.4375, 0.375, 0.1, 0.2), Box(0.8125, 0.625, 0.1, 0.2))
    evidence = np.full((8, 8), -4.0)
    evidence[3, 3], evidence[4, 6] = 6, 5
    return Entry(path, "fractura", 0, "here", "g", "core", boxes=boxes), evidence[np.newaxis]


def test_a_point_is_at_a_box_within_half_its_diagonal():
    boxes = (Box(0.2, 0.2, 0.1, 0.1), Box(0.5, 0.5, 0.2, 0.2))  # of the second, half the diagonal is 11 pixels
    assert is_at_box((0.5, 0.5), boxes, (50, 100))
    assert is_at_box((0.7, 0.5), boxes, (50, 100))
    assert not is_at_box((0.72, 0.5), boxes, (50, 100))
    assert is_at_box((0.2, 0.25), boxes, (50, 100))


def test_the_peak_is_that_of_the_map_that_the_service_draws():
    evidence = np.zeros((4, 4))
    evidence[1, 2] = 1
    evidence[0, 0] = 1.5  # on the black margin, which the map leaves out
    assert explain(evidence, (50, 100), 64).peak == pytest.approx((0.625, 0.25), abs=0.06)
    assert explain(np.zeros((4, 4)), (50, 100), 64).peak is None


def test_a_peak_at_a_box_is_a_hit_and_one_elsewhere_is_not(film):
    entry, evidence = film
    assert peak_hits([entry], evidence, 64).tolist() == [True]
    assert peak_hits([entry], np.roll(evidence, 2, axis=2), 64).tolist() == [False]
    assert centre_hits([entry]).tolist() == [True]  # within half a box's diagonal


def test_each_box_is_met_by_a_spot_of_its_own_unless_it_is_too_faint(film):
    entry, evidence = film
    assert hit_boxes([entry], evidence, 64, (0.0, 6.0)).tolist() == [1.0]
    evidence[0, 4, 6] = -4
    assert hit_boxes([entry], evidence, 64, (0.0, 6.0)).tolist() == [0.5]
    assert hit_boxes([entry], evidence, 64, (20.0, 30.0)).tolist() == [0.0]


def test_the_scale_lets_one_normal_film_in_ten_show_anything():
    rng = np.random.default_rng(0)
    strongest = np.concatenate([rng.normal(-2, 1, 2000), rng.normal(1, 1, 2000)])
    normal = np.arange(4000) < 2000
    low, high = choose_scale(strongest, normal, ~normal)
    drawn = drawn_share(strongest, (low, high))
    assert drawn[normal].mean() == pytest.approx(0.1, abs=0.03)
    assert drawn[~normal].mean() > 0.8
    assert low < high


def test_a_film_without_boxes_still_gives_a_scale():
    assert make_entry("normal").boxes == ()
    low, high = choose_scale(np.array([0.0, 1.0]), np.array([True, True]), np.array([False, False]))
    assert low < high
