import numpy as np
import pytest

from tests.support.runs import make_hospitals, write_run
from tests.training.test_adaptation import make_films
from training.adaptation import Films
from training.simulate import choose_in_bulk, draw_groups, interval, load_hospital, measure, play, show_plays


def test_a_hospital_is_what_a_network_without_it_gave_calibrated_elsewhere(tmp_path):
    entries = make_hospitals()
    write_run(tmp_path, entries)
    films = load_hospital(tmp_path, entries, "north")
    assert len(films) == sum(entry.source == "north" for entry in entries)
    assert films.features.shape == (len(films), 40)
    quality = measure(films.logit, films.fractured)
    assert quality.auc > 0.9
    assert quality.calibration_error < 0.15


def test_whole_groups_are_drawn_another_way_each_time():
    films = make_films(120, groups=40)
    first, second = (draw_groups(films, 50, draw) for draw in (0, 1))
    assert 50 <= len(first) <= 53
    assert not set(films.groups[first]) & set(np.delete(films.groups, first))
    assert set(first) != set(second)


def test_what_is_adapted_is_judged_on_other_films():
    films = make_films(300, scale=0.1)
    one = play(films, np.arange(150), np.arange(150, 300))
    assert one.before == measure(films.logit[150:], films.fractured[150:])
    assert one.stage == "calibration"
    assert one.after.auc == pytest.approx(one.before.auc)
    assert one.after.calibration_error < one.before.calibration_error
    assert "calibration 2" in show_plays([one, one])


def test_normal_films_rejected_are_counted_at_no_less_than_90_percent_sensitivity():
    fractured = np.repeat([True, False], 10)
    logit = np.concatenate([np.arange(10), np.arange(10) - 4.5]).astype(float)
    assert measure(logit, fractured).normal_rejected == 0.5
    assert interval(np.array([1.0, 1.0, 1.0])) == (1, 1)


def test_bulk_chooses_the_most_doubtful_films_one_of_each_group_first():
    logit = np.array([0.0, 0.1, 3.0, -0.5, 4.0])
    films = Films(logit, np.zeros((5, 1)), logit > 0, np.array(["a", "a", "b", "c", "c"]))
    assert choose_in_bulk(films, 4, draw=0).tolist() == [0, 3, 2, 1]
