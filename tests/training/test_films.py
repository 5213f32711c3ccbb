import numpy as np
import pytest
from PIL import Image

from preprocessing import decode, prepare
from training.films import find_interest, read_film, to_pixels
from training.manifest import read_manifest


def test_pixels_are_those_that_the_service_computes(folder):
    entry = read_manifest(folder)[0]
    served = prepare(decode(entry.path.read_bytes(), 10**6)[0], (64, 64), 1, "unit", "letterbox")[0, ..., 0]
    trained = np.asarray(to_pixels(read_film(entry), 64), np.float32) / np.float32(255)
    np.testing.assert_array_equal(trained, served)


def test_windows_lie_where_there_is_something_to_look_at():
    pixels = np.zeros((80, 160), np.uint8)
    pixels[16:32, 32:48] = np.random.default_rng(0).integers(0, 256, (16, 16))
    interest = find_interest(Image.fromarray(pixels))
    assert interest.shape == (5, 10)
    assert interest.sum() == pytest.approx(1)
    assert interest[1, 2] > 0.9


def test_a_film_smaller_than_a_cell_has_one():
    assert find_interest(Image.new("L", (10, 200))).tolist() == [[1.0]]
