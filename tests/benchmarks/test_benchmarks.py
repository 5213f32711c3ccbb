import math
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app import Service, create_app
from benchmarks import answers
from benchmarks.client import Answer
from benchmarks.compare import Bench, cases
from benchmarks.contenders import BARE, CLASSIC, OURS, bentoml, classic, litserve, ours
from benchmarks.films import KINDS, SMALL, films, read, write
from benchmarks.measurements import Comparison, Load, Visit, load_of, mean_stages, points_apart
from benchmarks.report import aims, at_least, at_most, render
from benchmarks.service import ROOT
from preprocessing import decode
from tests.conftest import make_classifier
from tests.support.browser import ThreadedServer
from tests.support.phantoms import encoded, phantom

FACTS = {"command": "python -m benchmarks.compare"}


@pytest.fixture(scope="module")
def drawn():
    return films(1, None)


def loaded(contender, film, concurrency, per_second, p50=10.0, p99=12.0):
    return Load(contender, film, concurrency, per_second, p50, p99, 5.0, {"200": 9, "429": 1}, {"decode": 1.0})


@pytest.fixture
def comparison():
    found = Comparison(FACTS, ours={"requests": 10_000, "memory_mb": 300.0, "first_start_seconds": 30.0})
    for contender, rates in ((OURS, (70, 60, 80)), (CLASSIC, (10, 10, 10)), (litserve().name, (35, 25, 40))):
        found.visits.append(Visit(contender, 1.0, 100.0))
        found.loads += [loaded(contender, SMALL.name, 8, rate) for rate in rates]
    found.loads += [loaded(BARE, SMALL.name, 8, rate) for rate in (90, 100, 100)]
    found.loads += [loaded(OURS, SMALL.name, 1, 100.0, p50) for p50 in (10, 12, 17)]
    found.loads += [loaded(BARE, SMALL.name, 1, 100.0, p50) for p50 in (9, 8, 14)]
    return found


def test_every_kind_of_benchmark_film_has_its_size_and_depth_and_can_be_decoded(drawn):
    for kind in KINDS:
        (data,) = drawn[kind.name]
        image = Image.open(BytesIO(data))
        assert (max(image.size), image.format) == (kind.side, "JPEG" if kind.bits == 8 else "PNG")
        assert decode(data, 50_000_000)[0].mode == "L"
    sizes = {kind.name: math.prod(Image.open(BytesIO(drawn[kind.name][0])).size) / 1e6 for kind in KINDS}
    assert {name: round(size, 1) for name, size in sizes.items()} == {
        "640 px": 0.4, "2 MP": 2.0, "3000 px": 8.0, "16-bit PNG": 2.0,
    }  # fmt: skip


def test_films_that_are_written_are_read_back(drawn, tmp_path):
    write(drawn, tmp_path)
    assert read(tmp_path) == drawn


def test_the_same_film_in_16_bits_looks_like_the_one_in_8(drawn):
    deep, flat = (np.asarray(decode(drawn[name][0], 50_000_000)[0], float) for name in ("16-bit PNG", "2 MP"))
    assert np.abs(deep - flat).mean() < 3


def test_a_load_counts_good_answers_only_and_names_the_others():
    answers = [Answer(200, b"", {}, seconds / 100) for seconds in range(1, 101)] + [Answer(429, b"", {}, 0.001)] * 50
    load = load_of(("a", "b", 8), answers, 10, 2.0)
    assert (load.per_second, load.cpu_ms, load.statuses) == (10, 20, {"200": 100, "429": 50})
    assert (load.p50_ms, load.p99_ms) == (pytest.approx(505), pytest.approx(990, abs=1))


def test_a_load_without_a_good_answer_has_no_times():
    load = load_of(("a", "b", 8), [Answer(503, b"", {}, 0.1)], 1, 0.0)
    assert load.per_second == 0
    assert math.isnan(load.p50_ms)


def test_stages_are_means_and_the_rest_is_other():
    stages = mean_stages(["decode;dur=1.0, network;dur=5.0, total;dur=8.0", "", "decode;dur=3.0, total;dur=6.0"])
    assert stages == {"decode": 2.0, "network": 2.5, "other": 2.5}
    assert mean_stages([""]) == {}


def test_the_distance_of_two_answers_is_their_largest_difference():
    one = {"confidence": 50.0, "allProbabilities": [{"probability": 40.0}, {"probability": 60.0}]}
    other = {"confidence": 51.5, "allProbabilities": [{"probability": 41.0}, {"probability": 59.0}]}
    assert points_apart(one, other) == 1.5


def test_figures_are_medians_over_rounds_and_survive_being_written(comparison, tmp_path):
    comparison.save(tmp_path / "run" / "found.json")
    found = Comparison.read(tmp_path / "run" / "found.json")
    assert found == comparison
    assert found.load(OURS, SMALL.name, 8, "per_second") == 70
    assert found.load(OURS, SMALL.name, 32, "per_second") is None
    assert found.refused(OURS) == {"429": 6}


def test_an_aim_is_compared_in_the_right_direction():
    found = (at_least("a", 2, 2.1, " ×"), at_most("a", 2, 2.1, " ×"), at_least("a", 2, None, " ×"))
    assert [row[1:] for row in found] == [
        ["≥ 2 ×", "2.1 ×", "yes"],
        ["≤ 2 ×", "2.1 ×", "**no**"],
        ["≥ 2 ×", "–", "–"],
    ]


def test_the_aims_compare_with_classic_flask_the_best_peer_and_the_limit(comparison):
    rows = aims(comparison)
    assert [row[2:] for row in rows[:3]] == [["7 ×", "yes"], ["2 ×", "yes"], ["0.778 ×", "**no**"]]
    assert [row[2:] for row in rows[6:]] == [
        ["3 ms", "**no**"], ["–", "–"], ["300 MB", "yes"], ["–", "–"], ["30 s", "**no**"],
    ]  # fmt: skip


def test_the_report_shows_every_contender(comparison):
    text = render(comparison, {"flask": "3.1.3"})
    assert all(name in text for name in (OURS, CLASSIC, "flask 3.1.3", "6 × 429", "bare loop"))
    for block in text.split("\n\n"):
        if block.startswith("| "):
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1


def test_contenders_are_loaded_where_they_are_compared_and_the_service_everywhere(drawn):
    assert len(list(cases(OURS, drawn, 128))) == 16
    assert set(cases(bentoml().name, drawn, 128)) < set(cases(OURS, drawn, 128))
    assert set(cases(OURS, {SMALL.name: []}, 8)) == {(SMALL.name, 1), (SMALL.name, 8)}


@pytest.mark.slow
def test_a_short_round_compares_the_service_with_classic_flask(drawn):
    bench = Bench({SMALL.name: drawn[SMALL.name]}, 0.2, 1, Comparison(FACTS))
    bench.round([ours(), classic()])
    found = bench.comparison
    assert found.contenders() == [OURS, CLASSIC]
    assert found.agreement[CLASSIC][SMALL.name] < 1
    assert [load.contender for load in found.loads] == [BARE, OURS, CLASSIC]
    assert all(load.per_second > 0 and set(load.statuses) <= {"200"} for load in found.loads)
    assert found.times(OURS, CLASSIC, SMALL.name, 1) > 1
    assert found.above(OURS, BARE, SMALL.name, 1) is not None
    assert list(found.stages(SMALL.name, 1)) == ["queue", "decode", "prepare", "network", "other"]
    assert all(visit.memory_mb > 50 for visit in found.visits)


@pytest.fixture
def folder_of_answers(tmp_path):
    folder = tmp_path / "films"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "bone.png").write_bytes(encoded(phantom("fractura", (60, 60))))
    (folder / "notes.txt").write_text("not an image", encoding="utf-8")
    return folder


def test_answers_have_the_same_bytes_each_time_and_one_changed_digit_is_reported(
    config, folder_of_answers, tmp_path, capsys
):
    server = ThreadedServer(create_app(config, Service(make_classifier())))
    command = [str(folder_of_answers), "--url", server.url.rstrip("/")]
    before = tmp_path / "before.txt"
    assert answers.main(command) == 0
    before.write_text(capsys.readouterr().out, encoding="utf-8")
    image, text = before.read_text(encoding="utf-8").splitlines()
    assert image.startswith('films/deep/bone.png\t200\t{"success":')
    assert image.endswith('"milliseconds":{"queue":0,"decode":0,"prepare":0,"network":0,"total":0}}}')
    assert text.startswith("films/notes.txt\t415\t")
    assert text.endswith('"code":"unsupported_image","requestId":""}')

    assert answers.main([*command, "--against", str(before)]) == 0
    assert "2 answers, 0 lines differ" in capsys.readouterr().err

    before.write_text(image.replace('"confidence":', '"confidence":1') + "\n" + text, encoding="utf-8")
    assert answers.main([*command, "--against", str(before)]) == 1
    changed = capsys.readouterr().err
    assert "+" + image in changed
    assert "2 lines differ" in changed
    server.stop()


STOPPED_SERVER = """
import sys, time
from benchmarks.service import serving
with serving(("sh", "-c", f"{sys.executable} -m http.server {{port}} --bind 127.0.0.1 & wait")) as server:
    server.wait("/").pause()
    time.sleep(60)
"""


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2][0]
    except OSError:
        return "gone"


def descendants(pid):
    found = [pid]
    for parent in found:
        found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split())
    return found[1:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "processes", "until"),
    [(("-c", STOPPED_SERVER), 2, "T"), (("-m", "benchmarks.reliability", "steady"), 1, "S")],
)
def test_a_benchmark_that_is_terminated_ends_its_servers_even_stopped_ones(arguments, processes, until):
    with subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL) as benchmark:
        family, deadline = [], time.monotonic() + 30
        while len(family) < processes or {state(pid) for pid in family} != {until}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            family = descendants(benchmark.pid)
        benchmark.send_signal(signal.SIGTERM)
        assert benchmark.wait(60) == 128 + signal.SIGTERM
    assert {state(pid) for pid in family} <= {"gone", "Z"}
