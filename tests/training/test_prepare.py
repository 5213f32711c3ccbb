import csv
import sys
from collections import Counter

import pytest

import training.prepare
from tests.support.entries import make_entries, make_entry
from tests.support.phantoms import encoded, phantom
from training.checks import check_training
from training.errors import TrainingError
from training.manifest import read_manifest
from training.prepare import deal_folds


def write_films(folder, kinds=("fisura", "fractura", "normal"), patients=4):
    """Write two films of each patient into a folder for each label."""
    for kind in kinds:
        for number in range(patients * 2):
            path = folder / kind / f"patient {kind} {number // 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            crack = kind if kind in ("fisura", "fractura") else "none"
            path.write_bytes(encoded(phantom(crack, (64, 48), seed=number)))
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["prepare", *map(str, arguments)])
    return training.prepare.main()


def test_a_folder_for_each_label_becomes_a_manifest_to_train_on(tmp_path, monkeypatch, capsys):
    write_films(tmp_path)
    (tmp_path / "normal/broken.png").write_bytes(b"nothing")
    (tmp_path / "normal/copy.png").write_bytes((tmp_path / "normal/patient normal 0/0.png").read_bytes())
    assert run(monkeypatch, tmp_path, "--source", "clinic") == 0
    printed = capsys.readouterr().out
    assert "broken.png: unsupported_image" in printed
    assert "the same file as" in printed
    entries = read_manifest(tmp_path)
    check_training(entries)
    assert len(entries) == 24
    assert Counter(entry.fold for entry in entries) == {0: 6, 1: 6, 2: 6, 3: 6}  # four patients of each label
    assert {entry.source for entry in entries} == {"clinic"}
    assert "24 films, 8 fisura, 8 fractura, 8 normal" in printed


def test_a_manifest_keeps_its_further_columns_and_gets_folds(tmp_path, monkeypatch):
    write_films(tmp_path)
    rows = [["path", "label", "age"]]
    rows += [[path.relative_to(tmp_path).as_posix(), path.parts[-3], 40] for path in sorted(tmp_path.rglob("*.png"))]
    with (tmp_path / "labels.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    assert run(monkeypatch, tmp_path / "labels.csv", "--folds", "2") == 0
    entries = read_manifest(tmp_path)
    assert {entry.columns["age"] for entry in entries} == {"40"}
    assert {entry.fold for entry in entries} == {0, 1}


def test_a_manifest_is_never_overwritten(tmp_path, monkeypatch, capsys):
    write_films(tmp_path)
    assert run(monkeypatch, tmp_path) == 0
    before = (tmp_path / "manifest.csv").read_bytes()
    assert run(monkeypatch, tmp_path) == 1
    assert "manifest.csv exists already" in capsys.readouterr().err
    assert (tmp_path / "manifest.csv").read_bytes() == before


def test_films_that_will_not_do_for_training_are_told_so(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, write_films(tmp_path, ["fractura", "normal"])) == 0
    assert "will do for judging, not for training:\nmanifest.csv: there is no film of fisura" in capsys.readouterr().out


def test_a_film_under_two_labels_is_refused(tmp_path, monkeypatch, capsys):
    write_films(tmp_path)
    (tmp_path / "normal/copy.png").write_bytes((tmp_path / "fisura/patient fisura 0/0.png").read_bytes())
    assert run(monkeypatch, tmp_path) == 1
    assert "are the same file, one labelled fisura, one normal" in capsys.readouterr().err
    assert not (tmp_path / "manifest.csv").exists()


def test_folds_are_as_many_as_the_rarest_label_has_patients():
    entries = [entry for entry in make_entries(70) if entry.label != "fisura"]
    entries += [make_entry("fisura", group=f"rare {number}") for number in range(3)]
    dealt = deal_folds(entries, 5)
    assert {entry.fold for entry in dealt if entry.label == "fisura"} == {0, 1, 2}
    with pytest.raises(TrainingError, match="All films of fisura are of one group"):
        deal_folds([entry for entry in entries if entry.group not in ("rare 1", "rare 2")], 5)
