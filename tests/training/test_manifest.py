import pytest

from tests.support.entries import make_entry
from training.errors import TrainingError
from training.manifest import NO_FOLD, Box, read_labelled, read_manifest


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
    with pytest.raises(TrainingError, match="broken"):
        read_manifest(folder)


def test_normal_bones_and_other_images_are_not_fractured():
    assert not any(make_entry(label).is_fractured for label in ("normal", "other"))


def write_manifest(folder, text, **options):
    (folder / "manifest.csv").write_text(text, **options)
    return folder


GOOD = "path,label,fold,group\n0.png,fisura,0,a\n1.png,fractura,1,b\n"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (GOOD, {}),
        (GOOD.replace(",", ";").replace("\n", "\r\n"), {"encoding": "utf-8-sig"}),
        (GOOD.replace(",", "\t"), {}),
        (GOOD.replace("path", "Path ").replace("0.png,fisura", " 0.png , Fisura"), {}),
    ],
    ids=["plain", "Excel: BOM, semicolons, CRLF", "tabs", "capitals and spaces"],
)
def test_a_manifest_is_read_as_spreadsheets_write_it(folder, text, options):
    entries = read_manifest(write_manifest(folder, text, **options))
    assert [(entry.path.name, entry.label, entry.fold, entry.group) for entry in entries] == [
        ("0.png", "fisura", 0, "a"),
        ("1.png", "fractura", 1, "b"),
    ]
    assert {entry.source for entry in entries} == {folder.name}
    assert [entry.line for entry in entries] == [2, 3]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "lacks path and label and fold and group: its first line must name"),
        ("path,label,group\n0.png,fisura,a\n", "lacks fold: its first line must name at least the columns path, label"),
        ("path,label,fold,group\n", "manifest.csv names no films"),
        (GOOD.replace("fractura", "broken"), "line 3: the label is 'broken'; it must be one of fisura, fractura,"),
        (GOOD.replace("1,b", "one,b"), "line 3: the fold is 'one'; it must be a whole number"),
        (GOOD.replace("1,b", "1,"), "line 3: group is empty"),
        (GOOD.replace("1.png", "0.png"), "line 3: 0.png stands in line 2 already"),
        (GOOD.replace("1.png", "99.png"), r"line 3: there is no file .*\b99.png"),
        (GOOD.replace("1,b", "1,b,c"), "line 3: it holds more fields than the first line"),
        (GOOD.replace("group", "group,tier").replace("b\n", "b,third\n"), "line 3: the tier is 'third'"),
        (GOOD.replace("group", "group,boxes_yolo").replace("b\n", "b,x 1 2\n"), "line 3: the box 'x 1 2' is not"),
    ],
)
def test_a_bad_manifest_is_refused_with_a_sentence_that_names_the_line(folder, text, sentence):
    with pytest.raises(TrainingError, match=sentence):
        read_manifest(write_manifest(folder, text))


def test_a_manifest_that_is_not_utf8_or_not_there_is_refused(folder):
    with pytest.raises(TrainingError, match="save it as “CSV UTF-8”"):
        read_manifest(write_manifest(folder, GOOD.replace("a\n", "muñeca\n"), encoding="cp1252"))
    with pytest.raises(TrainingError, match=r"cannot read .*: No such file"):
        read_manifest(folder / "elsewhere")


def test_an_error_lists_the_first_ten_problems(folder):
    rows = "".join(f"{row}.png,broken,0,a\n" for row in range(12))
    with pytest.raises(TrainingError) as caught:
        read_manifest(write_manifest(folder, "path,label,fold,group\n" + rows))
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "… and 2 more like these"


def test_labelled_films_need_neither_fold_nor_group(folder):
    write_manifest(folder, "path;label;body_part;age\nfar\\0.png;fisura;wrist;40\n")
    (folder / "far").mkdir()
    (folder / "0.png").rename(folder / "far/0.png")
    (entry,) = read_labelled(folder)
    assert entry.path == folder / "far/0.png"
    assert (entry.fold, entry.source, entry.tier) == (NO_FOLD, folder.name, "core")
    assert entry.columns["age"] == "40"
    assert read_labelled(folder / "manifest.csv") == [entry]


def test_files_may_be_missing_where_the_caller_deals_with_them(folder):
    write_manifest(folder, "path,label\nmissing.png,normal\n")
    assert len(read_labelled(folder, must_exist=False)) == 1


def test_subfolders_give_labels_and_the_folders_in_them_patients(tmp_path):
    for name in ("Fisura/ann/1.png", "Fisura/ann/2.png", "normal/ann/3.png", "normal/4.png", "normal/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    entries = read_labelled(tmp_path)
    assert [(entry.label, entry.path.name, entry.group) for entry in entries] == [
        ("fisura", "1.png", "ann"),
        ("fisura", "2.png", "ann"),
        ("normal", "4.png", "normal/4.png"),
        ("normal", "3.png", "ann"),
    ]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "must hold manifest.csv or one subfolder for each label: fisura, fractura,"),
        (["broken"], "must hold manifest.csv or one subfolder for each label: fisura, fractura,"),
        (["normal", "broken"], "holds the subfolder 'broken', which is not a label"),
        (["normal"], "holds no films in its subfolders"),
    ],
)
def test_subfolders_that_are_not_labels_are_refused(tmp_path, names, sentence):
    for name in names:
        (tmp_path / name).mkdir()
    with pytest.raises(TrainingError, match=sentence):
        read_labelled(tmp_path)


def test_other_class_names_are_labels_where_a_model_has_them(tmp_path):
    for name in ("hairline", "displaced", "normal"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"")
    assert {entry.label for entry in read_labelled(tmp_path, ("hairline", "displaced"))} == {
        "hairline",
        "displaced",
        "normal",
    }
    with pytest.raises(TrainingError, match="which is not a label"):
        read_labelled(tmp_path)
