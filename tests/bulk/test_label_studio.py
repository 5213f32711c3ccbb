"""What is chosen for labelling, its tasks for Label Studio, and the manifest that an export becomes."""

import base64
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from bulk.choice import choose
from bulk.choice import main as print_choice
from bulk.inputs import read_columns
from bulk.label_studio import describe_interface, main, read_labels
from bulk.scoring import BulkError
from bulk.table import write_table
from tests.support.archives import read_table
from tests.support.phantoms import encoded, phantom

ROOT = Path(__file__).parents[2]
CLASSES = ("fisura", "fractura")


def row(path, none, certainty="doubtful", group=None, error=None):
    shares = {"probability_fisura": 60.0, "probability_fractura": 40.0}
    columns = {} if group is None else {"group": group}
    return {"path": path, **shares, "noneProbability": none, "certainty": certainty, "error": error, **columns}


def paths(rows, count):
    return [one["path"] for one in choose(rows, count)]


def test_doubtful_and_unfamiliar_films_come_first_and_unreadable_ones_never():
    rows = [
        row("a/sure.png", 97.0, "sure"),
        row("b/doubtful.png", 52.0),
        row("c/unfamiliar.png", 60.0, "unfamiliar"),
        row("d/broken.png", None, None, error="unreadable_image"),
    ]
    assert paths(rows, 9) == ["c/unfamiliar.png", "b/doubtful.png", "a/sure.png"]
    assert paths(rows, 1) == ["c/unfamiliar.png"]


def test_groups_or_else_folders_take_turns():
    grouped = [row(f"{number}.png", 50 + number, group=number // 2) for number in range(6)]
    assert paths(grouped, 4) == ["0.png", "2.png", "4.png", "1.png"]
    by_folder = [row(f"f{number // 2}/{number}.png", 50 + number) for number in range(6)]
    assert paths(by_folder, 3) == ["f0/0.png", "f1/2.png", "f2/4.png"]


def test_without_an_output_for_none_the_doubt_is_between_the_classes():
    sure, unsure = row("sure.png", None), row("unsure.png", None)
    sure |= {"probability_fisura": 99.0, "probability_fractura": 1.0}
    assert paths([sure, unsure], 1) == ["unsure.png"]


def test_a_written_table_gives_the_same_choice(tmp_path, capsys):
    rows = [row(f"{number}.png", 40.0 + number, group="ab"[number % 2]) for number in range(20)]
    write_table(tmp_path / "out.csv", rows)
    assert print_choice([str(tmp_path / "out.csv"), "5"]) == 0
    assert capsys.readouterr().out.split() == paths(rows, 5)


def test_a_manifest_s_columns_keep_their_names_unless_the_table_uses_them(tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("path;label;confidence\na.png;normal;high\na.png;other;low\n;x;y\n", encoding="utf-8-sig")
    assert read_columns(str(manifest)) == {"a.png": {"label": "normal", "manifest_confidence": "high"}}
    assert read_columns(str(tmp_path)) == {}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for number in range(4):
        (folder / f"{number}.png").write_bytes(encoded(phantom(seed=number)))
    lines = [f"{number}.png,p{number},hand" for number in range(4)]
    (folder / "list.csv").write_text("\n".join(["path,group,body_part", *lines, "gone.png,p9,"]) + "\n")
    return folder


def test_an_archive_is_scored_chosen_from_labelled_and_becomes_a_manifest(start, films, tmp_path):
    table = tmp_path / "out.csv"
    run = start(ROOT / "bone_fracture_classifier.h5", films / "list.csv", table, "--workers", 1, "--choose", 3)
    _, said = run.communicate(timeout=240)
    assert run.returncode == 0, said
    rows = read_table(table)
    assert rows["0.png"]["group"] == "p0"
    assert rows["0.png"]["certainty"] in ("sure", "doubtful", "unfamiliar")
    assert 0 <= float(rows["0.png"]["noneProbability"]) <= 100
    assert set(rows["0.png"]["possible"].split(";")) <= {*CLASSES, "none"}
    assert (rows["gone.png"]["error"], rows["gone.png"]["certainty"]) == ("unreadable_file", "")

    tasks = json.loads((tmp_path / "out.tasks.json").read_text())
    assert len(tasks) == 3
    shown = Image.open(io.BytesIO(base64.b64decode(tasks[0]["data"]["image"].partition(",")[2])))
    assert shown.size == phantom().size
    interface = ElementTree.parse(tmp_path / "out.interface.xml")  # noqa: S314 our own file
    choices = {one.get("value") for one in interface.iter("Choice")}
    assert choices == {"fisura", "fractura", "fracture_untyped", "normal", "other"}
    for task in tasks:
        (prediction,) = task["predictions"]
        label = next(one["value"]["choices"][0] for one in prediction["result"] if one["type"] == "choices")
        assert label in choices

    exported = [accept(task) for task in tasks]
    (tmp_path / "export.json").write_text(json.dumps(exported))
    manifest = films / "labelled.csv"
    assert main([str(tmp_path / "export.json"), str(manifest)]) == 0
    labelled = read_table(manifest)
    assert {one["path"] for one in labelled.values()} == {task["data"]["path"] for task in tasks}
    assert all(one["body_part"] == "hand" for one in labelled.values())
    assert main([str(tmp_path / "export.json"), str(manifest)]) == 1  # it is there already


def accept(task):
    """Return a task as Label Studio exports it when somebody submits what was predicted."""
    annotation = {"result": task["predictions"][0]["result"], "was_cancelled": False, "updated_at": "2026-11-27"}
    return {"id": 1, "data": task["data"], "annotations": [annotation]}


def labelled(*results, **annotation):
    annotations = [{"result": list(results), "updated_at": "2026-11-27T10:00", **annotation}]
    return {"data": {"path": "a.png", "columns": {"label": "before"}}, "annotations": annotations}


def choice(label):
    return {"type": "choices", "value": {"choices": [label]}}


def rectangle(x, y, width, height, rotation=0, size=(200, 100)):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation, "rectanglelabels": ["fracture"]}
    return {"type": "rectanglelabels", "value": value, "original_width": size[0], "original_height": size[1]}


def numbers(task):
    (manifest_row,) = read_labels([task])
    return [float(number) for number in manifest_row["boxes_yolo"].split()[1:]]


def test_boxes_become_centre_and_size_and_turned_ones_the_box_around_them():
    assert numbers(labelled(choice("fractura"), rectangle(10, 20, 30, 40))) == pytest.approx([0.25, 0.4, 0.3, 0.4])
    turned = labelled(choice("fractura"), rectangle(50, 20, 30, 20, rotation=90))  # 60 x 20 pixels, now 20 x 60
    assert numbers(turned) == pytest.approx([0.45, 0.5, 0.1, 0.6])
    outside = labelled(choice("fractura"), rectangle(90, 90, 30, 30))
    assert numbers(outside) == pytest.approx([0.95, 0.95, 0.1, 0.1])


def test_the_newest_annotation_counts_and_skipped_tasks_do_not():
    task = labelled(choice("normal"))
    task["annotations"].append({"result": [choice("fisura")], "updated_at": "2026-11-28", "was_cancelled": False})
    assert [one["label"] for one in read_labels([task])] == ["fisura"]
    assert not list(read_labels([labelled(choice("normal"), was_cancelled=True), labelled()]))


@pytest.mark.parametrize("export", [[{"id": 1}], [1], "text", [labelled({"type": "choices", "value": {}})]])
def test_an_export_of_something_else_is_refused(export):
    with pytest.raises(BulkError):
        list(read_labels(export))


def test_an_export_that_cannot_become_a_manifest_ends_in_one_sentence(tmp_path, capsys):
    export, manifest = tmp_path / "export.json", tmp_path / "manifest.csv"
    for content, sentence in (
        ("not json", "cannot be read"),
        ("[]", "no labelled task"),
        (json.dumps([labelled(choice("normal"))]), "must be in the films' folder"),
    ):
        export.write_text(content)
        assert main([str(export), str(manifest)]) == 1
        assert sentence in capsys.readouterr().err
    assert not manifest.exists()
    assert main([]) == 2


def test_class_names_are_escaped_in_the_interface():
    interface = ElementTree.fromstring(describe_interface(("<a> & 'b'",)))  # noqa: S314 our own text
    assert next(interface.iter("Choice")).get("value") == "<a> & 'b'"
