import numpy as np
import pytest
from PIL import Image

from preprocessing import decode, prepare
from training.films import find_interest, read_film, to_pixels
from training.manifest import read_manifest


def test_prepared_pixels_are_those_that_the_service_computes(folder):
    entry = read_manifest(folder)[0]
    served = prepare(decode(entry.path.read_bytes(), 10**6)[0], (64, 64), 1, "unit", "letterbox")[0, ..., 0]
    trained = np.asarray(to_pixels(read_film(entry), 64), np.float32) / np.float32(255)
    np.testing.assert_array_equal(trained, served)


def test_windows_lie_where_there_is_something_to_look_at():
    values = np.zeros((64, 96), np.uint8)
    values[16:32, 32:48] = np.random.default_rng(0).integers(0, 256, (16, 16))
    interest = find_interest(Image.fromarray(values))
    assert interest.shape == (4, 6)
    assert interest.sum() == pytest.approx(1)
    assert np.unravel_index(interest.argmax(), interest.shape) == (1, 2)


def test_a_film_smaller_than_a_cell_has_one_place():
    assert find_interest(Image.new("L", (10, 40))).tolist() == [[1.0]]
