import h5py
import numpy as np
import pytest

from tests.support.runs import make_hospitals, write_run
from training.calibration import PRIOR
from training.outcome import fit, load_run
from training.reference import compare_sources, distance, fit_reference, write_reference


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    entries = make_hospitals()
    folder = tmp_path_factory.mktemp("scores") / "run"
    write_run(folder, entries)
    run = load_run(folder, entries)
    return entries, run, fit(run, entries, np.ones(len(entries), bool)).calibration


def test_each_class_has_a_histogram_of_films_from_sources_left_out(finished):
    entries, run, calibration = finished
    reference = fit_reference(calibration, run.left_out, entries, np.ones(len(entries), bool))
    assert reference.keys() == {"fractured", "familiarity"}
    for histograms in reference.values():
        assert histograms.keys() == {"fisura", "fractura", "none"}
        for shares in histograms.values():
            assert (len(shares), sum(shares)) == (10, pytest.approx(1, abs=1e-4))
    low, high = (np.dot(reference["fractured"][name], np.arange(10)) for name in ("none", "fractura"))
    assert high > low + 3  # tenths


def test_every_source_of_a_class_weighs_alike_however_many_films_it_has(finished):
    entries, run, calibration = finished
    few = np.array([entry.source != "north" or row < 120 for row, entry in enumerate(entries)])
    normals = {source: [entry.source == source and entry.label == "normal" for entry in entries] for source in
               ("north", "south", "east")}  # fmt: skip
    parts = [
        fit_reference(calibration, run.left_out, entries, few & (np.array(rows) | labelled(entries)))
        for rows in normals.values()
    ]
    together = fit_reference(calibration, run.left_out, entries, few)["familiarity"]["none"]
    np.testing.assert_allclose(np.mean([part["familiarity"]["none"] for part in parts], axis=0), together, atol=1e-5)


def labelled(entries):
    return np.array([entry.label != "normal" for entry in entries])


def test_without_films_of_a_class_there_is_no_reference(finished):
    entries, run, calibration = finished
    assert fit_reference(calibration, run.left_out, entries, labelled(entries)) == {}


def test_the_distance_is_the_greatest_difference_of_shares_up_to_a_tenth():
    reference = {name: [0.5, 0.5, *[0.0] * 8] for name in PRIOR}
    assert distance(np.array([0.05, 0.15]), reference, PRIOR) == pytest.approx(0)
    assert distance(np.array([0.05, 0.1]), reference, PRIOR) == pytest.approx(0.5)  # 0.1 counts to the first tenth
    assert distance(np.array([0.95, 1.0]), reference, PRIOR) == pytest.approx(1)


def test_sources_are_compared_with_the_others_and_photographs_differ_most(finished):
    entries, run, calibration = finished
    lines = [line.partition(": ") for line in compare_sources(calibration, run.left_out, entries)]
    familiarity = {name: float(text.rpartition(" ")[2]) for name, _, text in lines}
    assert familiarity.keys() == {
        *(f"{source}, 120 limb bones" for source in ("north", "south", "east")),
        *(f"photos_{number}, 30 other images" for number in (0, 1)),
    }
    bones = max(value for name, value in familiarity.items() if "bones" in name)
    assert bones < 0.3 < min(value for name, value in familiarity.items() if "other" in name)


def test_histograms_are_put_into_a_model_file_and_the_rest_stays(tmp_path):
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update({"bone_version": "1", "bone_threshold": 0.5})
    write_reference(path, {"fractured": {"none": [1.0]}}, "2")
    with h5py.File(path) as file:
        assert dict(file.attrs) == {
            "bone_version": "2",
            "bone_threshold": 0.5,
            "bone_reference": '{"fractured": {"none": [1.0]}}',
        }
    assert [file.name for file in tmp_path.iterdir()] == ["model.h5"]
