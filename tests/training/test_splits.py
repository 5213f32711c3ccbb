import os
from pathlib import Path

import numpy as np
import pytest

from tests.support.entries import make_entries, make_entry
from training.errors import TrainingError
from training.manifest import read_manifest
from training.splits import fold_split, left_out_splits, plan_left_out, plan_splits


def test_a_fold_that_cuts_a_group_is_refused():
    with pytest.raises(TrainingError, match="cuts the group g"):
        fold_split([make_entry(fold=0), make_entry(fold=1)], 0)


def test_every_image_is_held_back_by_one_fold_and_each_source_by_one_split(folder):
    splits = {split.name: split for split in plan_splits(read_manifest(folder))}
    held = np.concatenate([splits["fold_0"].score, splits["fold_1"].score])
    assert sorted(held) == list(range(20))
    assert {"without_s0", "without_s1", "all"} <= set(splits)
    assert not set(splits["without_s0"].train) & set(splits["without_s0"].score)


def test_each_source_of_other_is_left_out_once_with_a_source_of_bones():
    labels = ("fisura", "fractura", "normal", "other")
    kinds = [(source, label) for source in "ab" for label in labels]
    kinds += [(source, "other") for source in "cde"]
    entries = [make_entry(label, source=source) for source, label in kinds]
    assert plan_left_out(entries) == {"a": ["a", "c", "e"], "b": ["b", "d"]}
    held = {split.name: split.score for split in plan_splits(entries)}["without_b"]
    assert [kinds[row] for row in held] == [
        *((("b", kind)) for kind in ("fisura", "fractura", "normal", "other")),
        ("d", "other"),
    ]


def test_sources_with_a_place_in_the_plan_go_there_and_new_ones_are_left_out_by_themselves():
    sources = ("multan_wrist", "fracatlas", "hbfmid", "my_hospital")
    entries = [make_entry(label, source=source) for source in sources for label in ("fisura", "fractura", "normal")]
    entries += [make_entry("other", source="imagenet_samples"), make_entry("fractura", source="my_few")]
    assert plan_left_out(entries) == {
        "multan_wrist": ["multan_wrist", "imagenet_samples", "my_few"],
        "fracatlas": ["fracatlas", "hbfmid"],
        "my_hospital": ["my_hospital"],
    }


def test_a_manifest_with_one_source_leaves_none_out():
    assert left_out_splits(make_entries()) == []
    assert [split.name for split in plan_splits(make_entries())] == [*(f"fold_{fold}" for fold in range(5)), "all"]


def test_the_shipped_data_are_left_out_in_three_splits():
    folder = os.environ.get("BONE_DATA_DIR")
    if not folder:
        pytest.skip("BONE_DATA_DIR names no folder")
    entries = read_manifest(Path(folder))
    splits = {split.name: split for split in left_out_splits(entries)}
    assert list(splits) == ["without_multan_wrist", "without_fracatlas", "without_rf_science_research_2022"]
    held = np.concatenate([split.score for split in splits.values()])
    assert sorted(held) == list(range(len(entries)))
    photographs = {"imagenet_samples"}
    assert photographs <= {entries[row].source for row in splits["without_multan_wrist"].score}
