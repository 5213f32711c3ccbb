import pytest

from tests.support.entries import make_entries, make_entry
from training.checks import check_duplicates, check_training, claim_folder
from training.errors import TrainingError
from training.manifest import read_manifest

KINDS = ("fisura", "fractura", "normal")


def make_folds(folds=(0, 1), kinds=KINDS, source="here"):
    return [make_entry(kind, fold, source, f"{kind} {fold} {source}") for fold in folds for kind in kinds]


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([*make_folds(), make_entry("normal", 1, group="normal 0 here")], "the group normal 0 here is in fold 1 here"),
        (make_folds((0, 2)), "fold 1 has no films"),
        (make_folds((0,)), "all films are in fold 0; judging needs two folds or more"),
        (make_folds(kinds=["normal"]), "there is no film of fisura and no film of fractura; training needs"),
        (make_folds(kinds=["fisura", "fractura"]), "there is no film of normal"),
        (
            [*make_folds(kinds=["fisura", "fractura"]), *make_folds(kinds=["normal"], source="there")],
            "there is no source with both fractured and normal films",
        ),
        (
            [*make_folds(kinds=["fractura", "normal"]), make_entry("fisura", 1, group="one")],
            "without fold 1 there is no film of fisura left to learn from",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_said_before_anything_is_computed(entries, sentence):
    with pytest.raises(TrainingError, match=sentence):
        check_training(entries)


def test_one_source_is_the_normal_case():
    check_training(make_entries(50))


def test_the_same_file_in_two_groups_or_under_two_labels_is_refused(folder):
    entries = read_manifest(folder)
    check_duplicates(entries)
    (folder / "7.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(TrainingError, match="line 9: this is the same file as in line 2, but its label is"):
        check_duplicates(entries)
    (folder / "5.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(TrainingError, match=r"line 7: .* but its group is g5, not g0"):
        check_duplicates(entries)


def test_scores_of_another_manifest_are_not_mixed_with_those_of_this_one(tmp_path):
    claim_folder(tmp_path / "scores", "a" * 64)
    claim_folder(tmp_path / "scores", "a" * 64)
    with pytest.raises(TrainingError, match="holds the scores of another manifest"):
        claim_folder(tmp_path / "scores", "b" * 64)
