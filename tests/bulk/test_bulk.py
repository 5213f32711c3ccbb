import csv
import dataclasses
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import requests

from bulk.__main__ import show_progress
from bulk.cluster import _bundle_code_and_model
from bulk.inputs import find_inputs
from bulk.journal import Journal
from bulk.local import score_locally
from bulk.scoring import BulkError, empty_row
from bulk.table import check_table, write_table
from config import read_config
from inference.settings import read_labels
from model_loader import ModelError
from tests.conftest import ROOT
from tests.support.archives import (
    children,
    is_spawned_worker,
    press_ctrl_c,
    read_journal,
    read_table,
    wait_for_rows,
    wait_for_worker,
    wait_until_gone,
)
from tests.support.dicoms import dicom_file
from tests.support.phantoms import encoded, phantom
from tests.support.server import serving

CLASSES = ("fisura", "fractura")


# -- inputs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.jpg", "deep/er/c.dcm", ".hidden/d.png", ".DS_Store"):
        path = tmp_path / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "archive"


def test_a_folder_names_its_files_at_any_depth_but_no_hidden_ones(folder):
    assert find_inputs(str(folder)) == (folder, ["a.jpg", "b.png", "deep/er/c.dcm"])


def test_a_glob_names_what_it_matches(folder):
    _, names = find_inputs(f"{folder}/**/*.??g")
    assert [Path(name).name for name in names] == ["a.jpg", "b.png"]


def test_a_manifest_names_each_path_once_relative_to_itself(folder):
    manifest = folder / "list.csv"
    manifest.write_text("label,path\n1,b.png\n2,deep/er/c.dcm\n3,b.png\n,\n", encoding="utf-8-sig")
    assert find_inputs(str(manifest)) == (folder, ["b.png", "deep/er/c.dcm"])


@pytest.mark.parametrize(
    ("name", "content"), [("none.csv", "file\na.png\n"), ("binary.csv", b"\xff\xfe\0"), ("*.gif", "")]
)
def test_an_input_that_names_nothing_is_refused_in_one_sentence(tmp_path, name, content):
    if "*" not in name:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BulkError, match=r"\.$"):
        find_inputs(str(tmp_path / name))


def test_a_file_name_that_no_table_can_hold_is_refused_before_anything_is_scored(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    with pytest.raises(BulkError, match="UTF-8"):
        find_inputs(str(tmp_path))


# -- the journal --------------------------------------------------------------------------------------------------


def row(name, error="unreadable_image"):
    return empty_row(name, CLASSES, error)


def test_a_journal_keeps_every_row_but_the_one_that_a_kill_cut_short(tmp_path):
    path, log = tmp_path / "journal", tmp_path / "journal-wal"
    with closing(Journal(path, {"sha256": "1"})) as journal:
        journal.append(row("a"))
        kept = log.stat().st_size
        journal.append(row("ñ"))
        database, whole = path.read_bytes(), log.read_bytes()
    for cut in (*range(kept, len(whole), 97), len(whole) - 1):
        path.write_bytes(database)
        log.write_bytes(whole[:cut])
        with closing(Journal(path, {"sha256": "1"})) as journal:
            assert journal.scored() == {"a"}
            assert journal.append(row("ñ"))
            assert list(journal.rows(["ñ", "a"])) == [row("ñ"), row("a")]
    path.write_bytes(database)
    log.write_bytes(whole)
    with closing(Journal(path, {"sha256": "1"})) as journal:
        assert journal.scored() == {"a", "ñ"}


def test_a_journal_takes_one_row_of_each_file(tmp_path):
    with closing(Journal(tmp_path / "journal", {})) as journal:
        assert journal.append(row("a"))
        assert not journal.append(row("a", "internal_error"))
        assert list(journal.rows(["a"])) == [row("a")]


def test_a_journal_of_another_model_is_not_resumed(tmp_path):
    Journal(tmp_path / "journal", {"sha256": "1"}).close()
    with pytest.raises(BulkError, match="another model"):
        Journal(tmp_path / "journal", {"sha256": "2"})


def test_a_file_that_is_not_a_journal_is_not_resumed(tmp_path):
    (tmp_path / "journal").write_text('{"madeWith": {}}\n' * 100)
    with pytest.raises(BulkError, match="not a database"):
        Journal(tmp_path / "journal", {})


def test_two_runs_cannot_write_one_journal(tmp_path):
    first = Journal(tmp_path / "journal", {})
    with pytest.raises(BulkError, match="another run"):
        Journal(tmp_path / "journal", {})
    first.close()


# -- the processes ------------------------------------------------------------------------------------------------


def kill_at(monkeypatch, folder, event, name):
    """Make each process that this one starts die where `event` names `name`, and return the file that counts deaths."""
    deaths = folder / "deaths"
    (folder / "sitecustomize.py").write_text(f"""
import os, signal, sys

def die(event, arguments):
    if event == {event!r} and str(arguments[0]).endswith({name!r}):
        os.write(os.open({str(deaths)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), b"x")
        os.kill(os.getpid(), signal.SIGSEGV)

sys.addaudithook(die)
""")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return deaths


def test_a_file_that_kills_its_process_is_an_error_after_two_tries(brightness_file, tmp_path, monkeypatch):
    deaths = kill_at(monkeypatch, tmp_path, "open", "kills.png")
    names = [f"{number}.png" for number in range(12)]
    for name in [*names, "kills.png"]:
        (tmp_path / name).write_bytes(encoded(phantom()))
    config = dataclasses.replace(read_config({}), model_path=brightness_file)
    rows = {one["path"]: one for one in score_locally(tmp_path, ["kills.png", *names], config, 2)}
    assert rows.pop("kills.png") == row("kills.png", "internal_error")
    assert deaths.read_bytes() == b"xx"
    assert sorted(rows) == sorted(names)
    assert {one["error"] for one in rows.values()} == {None}
    assert not multiprocessing.active_children()


def test_a_model_that_kills_every_process_ends_the_run(brightness_file, tmp_path, monkeypatch):
    deaths = kill_at(monkeypatch, tmp_path, "open", brightness_file.name)
    config = dataclasses.replace(read_config({}), model_path=brightness_file)
    with pytest.raises(BulkError, match="while they load"):
        list(score_locally(tmp_path, ["a"], config, 1))
    assert deaths.read_bytes() == b"xxx"


def test_a_model_that_no_process_can_load_ends_the_run(tmp_path):
    config = dataclasses.replace(read_config({}), model_path=tmp_path)
    with pytest.raises(ModelError):
        list(score_locally(tmp_path, ["a"], config, 1))


# -- the table ----------------------------------------------------------------------------------------------------


def test_a_table_is_written_whole_or_not_at_all(tmp_path):
    def rows():
        yield row("a")
        assert not (tmp_path / "out.csv").exists()
        yield row("b")

    write_table(tmp_path / "out.csv", rows())
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [one["path"] for one in csv.DictReader(file)] == ["a", "b"]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["out.xlsx", "out", "missing/out.csv"])
def test_a_table_that_cannot_be_written_is_refused_before_anything_is_scored(tmp_path, name):
    with pytest.raises(BulkError):
        check_table(tmp_path / name)


def test_progress_states_how_far_how_fast_and_how_long(capsys):
    def rows():
        time.sleep(1)  # as long as loading may take, which must not count
        yield "a"
        time.sleep(0.01)
        yield "b"

    show_progress(rows(), total=10_000, done=7_500)
    start, end = capsys.readouterr().err.split("\n")[:2]
    assert start.startswith("\r 75%|███████▌  | 7500/10000 [")
    shown = re.fullmatch(r"\r 75%\|███████▌  \| 7502/10000 \[00:00<(.+), +([0-9.]+) images/s\]", end)
    assert float(shown[2]) > 20
    assert re.fullmatch(r"[0-9:]+", shown[1])


# -- whole runs ---------------------------------------------------------------------------------------------------


def bright(level, seed=0):
    """A film whose mean brightness, which is all that the test's network looks at, is about `level`."""
    film = np.asarray(phantom(seed=seed)).astype(float)
    return np.clip(film + level - film.mean(), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Every format and every fault."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("archive")
    films = {f"{level}": Image.fromarray(bright(level)) for level in (20, 128, 200)}
    files = {f"{name}.{kind.lower()}": encoded(film, kind) for name, film in films.items() for kind in ("PNG", "JPEG")}
    files |= {f"{kind}.bin": encoded(films["200"], kind) for kind in ("TIFF", "BMP", "WEBP")}
    twelve = np.rint(bright(200) * (4095 / 255)).astype(np.uint16)
    files |= {"film.dcm": dicom_file(twelve, BitsStored=12, HighBit=11)}
    files |= {"ct.dcm": dicom_file(twelve, Modality="CT"), "empty.png": b"", "notes.txt": b"hello"}
    files |= {"cut.png": encoded(films["200"])[:4000], "wide.png": encoded(Image.new("L", (1000, 401)))}
    files |= {"small.png": encoded(Image.new("L", (20, 20))), "blank.png": encoded(Image.new("L", (99, 99), 128))}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_every_row_holds_the_answer_of_the_service(start, archive, brightness_file, tmp_path):
    table = tmp_path / "out.csv"
    run = start(brightness_file, archive, table, "--workers", 2)
    settings = {"BONE_CONFIDENCE_THRESHOLD": "0.6", "BONE_MAX_PIXELS": "400000"}
    with serving(BONE_MODEL_PATH=str(brightness_file), **settings) as server:
        server.wait("/ready")
        answers = {
            path.name: requests.post(
                server.url + "/predict", files={"image": ("x", path.read_bytes())}, timeout=30
            ).json()
            for path in archive.iterdir()
        }
    _, said = run.communicate(timeout=180)
    assert run.returncode == 0, said
    assert "fractura" in said
    rows = read_table(table)
    assert list(rows) == sorted(answers)
    for name, answer in answers.items():
        one = rows[name]
        assert one["error"] == answer.get("code", ""), name
        if not one["error"]:
            assert int(one["success"]) == answer["success"], name
            assert one["predictedClass"] == answer.get("predictedClass", ""), name
            assert float(one["confidence"]) == answer["confidence"], name
            shown = [float(one[f"probability_{known}"]) for known in CLASSES]
            assert shown == [part["probability"] for part in answer["allProbabilities"]], name
    assert len({one["error"] for one in rows.values()}) == 6
    assert not table.with_name("out.csv.journal").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_killed_run_is_resumed_and_scores_nothing_twice(start, brightness_file, tmp_path):
    folder, table = tmp_path / "archive", tmp_path / "out.csv"
    folder.mkdir()
    names = [f"{number:03}.png" for number in range(400)]
    data = [encoded(phantom(seed=seed)) for seed in range(4)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(data[number % 4])
    journal = tmp_path / "out.csv.journal"

    run = start(brightness_file, folder, table, "--workers", 2)
    wait_for_rows(journal, 20, run)
    workers = [pid for pid in children(run.pid) if is_spawned_worker(pid)]
    os.kill(workers[0], signal.SIGKILL)  # one process alone: the run goes on without a gap
    wait_for_rows(journal, 60, run)
    workers = children(run.pid)
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=30)
    assert not table.exists()
    wait_until_gone(workers)  # none is left behind

    scored = read_journal(journal)
    assert 60 <= len(scored) == len(set(scored)) < 400
    for name in scored:
        (folder / name).write_bytes(b"scored again, this is not an image")
    again = start(brightness_file, folder, table, "--workers", 1)
    _, said = again.communicate(timeout=180)
    assert again.returncode == 0, said
    rows = read_table(table)
    assert list(rows) == names
    assert not [one for one in rows.values() if one["error"]]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_ctrl_c_ends_every_process_and_the_same_command_resumes(start, brightness_file, tmp_path):
    folder, table = tmp_path / "archive", tmp_path / "out.csv"
    folder.mkdir()
    data = encoded(phantom(size=(1000, 800)))  # large, so that it is not finished before it is interrupted
    for number in range(150):
        (folder / f"{number:03}.png").write_bytes(data)
    run = start(brightness_file, folder, table, "--workers", 2)
    wait_for_worker(run)  # it has yet to import what it needs
    press_ctrl_c(run)
    run = start(brightness_file, folder, table, "--workers", 2)
    wait_for_rows(tmp_path / "out.csv.journal", 20, run)
    press_ctrl_c(run)
    assert not table.exists()
    again = start(brightness_file, folder, table, "--workers", 2)
    _, said = again.communicate(timeout=180)
    assert again.returncode == 0, said
    assert len(read_table(table)) == 150


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [("BONE_MODEL_PATH", "nowhere.h5", "there is no such file"), ("BONE_MAX_PIXELS", "many", "BONE_MAX_PIXELS")],
)
def test_a_run_that_cannot_start_says_why_in_one_sentence(archive, tmp_path, variable, value, sentence):
    clean = {name: text for name, text in os.environ.items() if not name.startswith("BONE_")}
    command = [sys.executable, "-m", "bulk", str(archive), str(tmp_path / "out.csv")]
    run = subprocess.run(
        command, cwd=ROOT, env=clean | {variable: value}, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 1
    assert sentence in run.stderr
    assert run.stderr.count("\n") == 1


def test_nothing_of_bulk_needs_its_extras_until_they_are_asked_for():
    code = "import sys, bulk.__main__; sys.exit(bool({'ray', 'pyarrow', 'tensorflow'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.extras
def test_parquet_holds_the_same_rows(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    good = row("b") | {"error": None, "success": 1, "predictedClass": "fisura", "confidence": 99.5}
    write_table(tmp_path / "out.parquet", iter([row("a"), good]))
    read = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert read == [row("a"), good]


def test_what_lies_beside_a_model_travels_to_the_nodes_with_it(tmp_path):
    for name in ("keras_model.h5", "keras_model.h5.sha256"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "labels.txt").write_text("0 hairline\n1 displaced\n", encoding="utf-8")
    config = dataclasses.replace(read_config({}), model_path=tmp_path / "keras_model.h5")
    with _bundle_code_and_model(config) as (bundle, bundled):
        assert not bundled.model_path.is_absolute()
        model = bundle / bundled.model_path
        assert model.read_text(encoding="utf-8") == "keras_model.h5"
        assert model.with_name("keras_model.h5.sha256").is_file()
        assert read_labels(model) == ("hairline", "displaced")
