import itertools
import json
import os
import resource
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import requests

from config import read_config
from inference import cache as cache_folder
from inference import compiled_engine
from inference.compiled_engine import ModelSource, load_compiled
from model_loader import ModelError, load
from tests.conftest import ROOT
from tests.support.phantoms import encoded, phantom
from tests.support.server import serving

IMAGES = np.random.default_rng(0).random((5, 32, 32, 3), dtype=np.float32)
EXPECTED = np.stack([1 - IMAGES.mean(axis=(1, 2, 3)), IMAGES.mean(axis=(1, 2, 3))], axis=1)


def source_of(path, side=0):
    return ModelSource(path, "0" * 64, "3.0.0", side, 0.0, 1.0)


@pytest.fixture(scope="module")
def compiled(brightness_file, tmp_path_factory):
    """A cache folder that holds the compiled network."""
    cache = tmp_path_factory.mktemp("cache")
    load_compiled(source_of(brightness_file), cache, 2)
    return cache


@pytest.fixture
def cache(compiled, tmp_path):
    """The same, to be spoilt."""
    [entry] = compiled.iterdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / entry.name).write_bytes(entry.read_bytes())
    return tmp_path / "cache"


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(compiled_engine, "COMPILER", Path("/nowhere/keras_engine.py"))


def compiler_that(monkeypatch, folder, does):
    script = folder / "compiler.py"
    script.write_text(does, encoding="utf-8")
    monkeypatch.setattr(compiled_engine, "COMPILER", script)


@pytest.fixture
def quick_compiler(compiled, tmp_path, monkeypatch):
    """A compiler that repeats what the real one wrote, and saves the seconds that TensorFlow takes to start."""
    [entry] = compiled.iterdir()
    does = f"import pathlib, sys; sys.stdout.buffer.write(pathlib.Path({str(entry)!r}).read_bytes())"
    compiler_that(monkeypatch, tmp_path, does)


def check(path, cache, **more):
    """Run `python app.py check` and return the process."""
    environment = {**os.environ, "BONE_CACHE_DIR": str(cache), "BONE_CONFIDENCE_THRESHOLD": "0.9"}
    command = [sys.executable, "app.py", "check", str(path)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


@pytest.mark.usefixtures("no_compiler")
def test_a_compiled_network_is_not_compiled_again(brightness_file, compiled):
    network = load_compiled(source_of(brightness_file), compiled, 2)
    assert np.allclose(network(IMAGES)["probabilities"], EXPECTED, atol=1e-5)
    assert (network.input_shape, network.output_shapes) == ((None, 32, 32, 3), {"probabilities": (None, 2)})


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.usefixtures("no_compiler")
def test_concurrent_requests_get_the_answers_that_they_get_alone(brightness_file, compiled, cores):
    network = load_compiled(source_of(brightness_file), compiled, cores)
    found = {}

    def ask(caller):
        found[caller] = [network(IMAGES)["probabilities"] for _ in range(20)]

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(np.allclose(answer, EXPECTED, atol=1e-5) for answer in itertools.chain(*found.values()))
    assert len(found) == 6


@pytest.mark.usefixtures("no_compiler")
def test_a_lone_call_gets_all_cores_and_each_concurrent_one_gets_one(brightness_file, compiled):
    network = load_compiled(source_of(brightness_file), compiled, 2)
    for _ in range(2):
        with network._choose() as first, network._choose() as second, network._choose() as third:
            assert (first.threads, second.threads, third.threads) == (2, 1, 1)


@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.parametrize(
    "spoil", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:600] + b"?" * 9 + data[609:]]
)
def test_a_damaged_entry_is_compiled_again_with_a_warning(brightness_file, cache, caplog, spoil):
    [entry] = cache.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(spoil(whole))
    assert np.allclose(
        load_compiled(source_of(brightness_file), cache, 2)(IMAGES)["probabilities"], EXPECTED, atol=1e-5
    )
    assert [record.levelname for record in caplog.records if record.name == "bone.engine"] == ["WARNING"]
    assert zipfile.ZipFile(entry).testzip() is None


@pytest.mark.usefixtures("quick_compiler")
def test_an_entry_of_other_versions_is_compiled_again(brightness_file, cache, caplog):
    [entry] = cache.iterdir()
    with zipfile.ZipFile(entry) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    facts = json.loads(parts["facts.json"])
    facts["made_with"]["keras"] = "2.0.0"
    with zipfile.ZipFile(entry, "w") as file:
        for name, data in (parts | {"facts.json": json.dumps(facts)}).items():
            file.writestr(name, data)
    load_compiled(source_of(brightness_file), cache, 2)
    assert "another keras is installed" in caplog.text
    with zipfile.ZipFile(entry) as file:
        assert json.loads(file.read("facts.json"))["made_with"]["keras"] != "2.0.0"


def test_another_file_size_or_scale_has_another_cache_entry():
    ranges = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))
    keys = {ModelSource(Path("x"), sha, "3", side, *edges).key for sha in "ab" for side in (0, 32) for edges in ranges}
    assert len(keys) == 12


@pytest.mark.usefixtures("quick_compiler")
def test_a_cache_folder_that_cannot_be_written_only_causes_a_warning(brightness_file, tmp_path, caplog):
    (tmp_path / "file").touch()
    network = load_compiled(source_of(brightness_file), tmp_path / "file" / "cache", 2)
    assert np.allclose(network(IMAGES)["probabilities"], EXPECTED, atol=1e-5)
    assert "cannot be cached" in caplog.text


@pytest.mark.usefixtures("quick_compiler")
def test_old_cache_entries_are_removed_and_foreign_files_stay(brightness_file, cache):
    strangers = [cache / "notes.zip", cache / "network.txt"]
    for age, path in enumerate([*strangers, *(cache / f"network-{number}.zip" for number in range(6))]):
        path.touch()
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    load_compiled(source_of(brightness_file, side=32), cache, 2)
    assert all(path.exists() for path in strangers)
    assert len(list(cache.glob("network-*.zip"))) == cache_folder.MAX_ENTRIES
    assert (cache / f"network-{source_of(brightness_file, side=32).key}.zip").exists()


def test_a_cache_entry_that_is_used_counts_as_new(brightness_file, cache):
    [entry] = cache.iterdir()
    os.utime(entry, (1_000_000, 1_000_000))
    load_compiled(source_of(brightness_file), cache, 2)
    assert entry.stat().st_mtime > 1_000_000


@pytest.mark.slow
def test_two_processes_that_start_at_once_both_serve_and_leave_one_entry(brightness_file, tmp_path):
    both = [check(brightness_file, tmp_path / "cache") for _ in range(2)]
    printed = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".json", ".zip"]


@pytest.mark.slow
def test_on_a_full_disk_the_network_is_compiled_and_not_cached(brightness_file, tmp_path):
    def fill_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))

    process = check(brightness_file, tmp_path / "cache", preexec_fn=fill_disk)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "It fits" in output
    assert "cannot be cached" in errors
    assert "TensorFlow:" not in errors


def test_a_network_that_cannot_be_compiled_runs_on_tensorflow_unless_the_engine_is_set_to_compiled(
    brightness_file, tmp_path, monkeypatch, caplog
):
    compiler_that(monkeypatch, tmp_path, "import sys; sys.exit('no rule for this layer')")
    settings = {"BONE_MODEL_PATH": str(brightness_file), "BONE_CACHE_DIR": str(tmp_path / "cache")}
    assert load(read_config(settings)).engine == "tensorflow"
    assert "The network runs on TensorFlow: it cannot be compiled (no rule for this layer)." in caplog.text
    with pytest.raises(ModelError, match=r"cannot be compiled \(no rule for this layer\)\. With BONE_ENGINE=auto"):
        load(read_config(settings | {"BONE_ENGINE": "compiled"}))


def test_a_compiler_that_hangs_is_killed(tmp_path, monkeypatch):
    compiler_that(monkeypatch, tmp_path, "import time; time.sleep(60)")
    monkeypatch.setattr(compiled_engine, "TIMEOUT_SECONDS", 1)
    started = time.monotonic()
    with pytest.raises(ModelError, match="took over 1 s"):
        load_compiled(source_of(tmp_path / "model.h5"), tmp_path / "cache", 2)
    assert time.monotonic() - started < 10


def test_a_model_that_no_engine_can_run_is_reported_as_such(tmp_path, monkeypatch):
    compiler_that(monkeypatch, tmp_path, "import sys; print('it must have one input'); sys.exit(3)")
    with pytest.raises(ModelError, match=r"^it must have one input$"):
        load_compiled(source_of(tmp_path / "model.h5"), tmp_path / "cache", 2)


def test_invalid_output_of_the_compiler_is_never_used(tmp_path, monkeypatch):
    compiler_that(monkeypatch, tmp_path, "print('no zip file')")
    with pytest.raises(ModelError, match="the compiled network cannot be run"):
        load_compiled(source_of(tmp_path / "model.h5"), tmp_path / "cache", 2)
    assert not (tmp_path / "cache").exists()


def test_without_tensorflow_another_model_is_refused_with_advice(brightness_file, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_engine, "_installed", lambda name: None)
    settings = {"BONE_MODEL_PATH": str(brightness_file), "BONE_CACHE_DIR": str(tmp_path)}
    with pytest.raises(ModelError, match="was not compiled for this installation; install TensorFlow"):
        load(read_config(settings))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc: needs Linux")
def test_the_serving_process_does_not_load_tensorflow(shipped_server):
    assert requests.get(shipped_server.url + "/model", timeout=10).json()["engine"] == "litert"
    answer = requests.post(shipped_server.url + "/predict", files={"image": encoded(phantom())}, timeout=30)
    assert answer.status_code == 200
    assert "tensorflow" not in Path(f"/proc/{shipped_server.process.pid}/maps").read_text(encoding="utf-8")
    code = "import sys, config, model_loader; model_loader.load(config.read_config({})); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert "ai_edge_litert" in loaded.stdout.split()
    assert "tensorflow" not in loaded.stdout.split()


def test_plain_keras_serves_when_it_is_configured(brightness_file):
    with serving(BONE_MODEL_PATH=str(brightness_file), BONE_ENGINE="tensorflow", BONE_RESIZE="stretch") as server:
        server.wait("/ready")
        assert requests.get(server.url + "/model", timeout=10).json()["engine"] == "tensorflow"
        assert (
            requests.post(server.url + "/predict", files={"image": encoded(phantom())}, timeout=30).status_code == 200
        )
