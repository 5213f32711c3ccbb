"""Two real Ray nodes on this machine, one of which is killed while they work. Run by `make test-all`."""

import os
import sys
from collections.abc import Iterator

import pytest

from tests.support.archives import read_journal, read_table, wait_for_rows
from tests.support.phantoms import encoded, phantom

pytestmark = pytest.mark.extras
ray_cluster = pytest.importorskip("ray.cluster_utils", exc_type=ImportError)
IMAGES = 400


@pytest.fixture
def nodes(monkeypatch) -> Iterator:
    """A head and a second node, each of one core, on loopback addresses other than 127.0.0.1, which Ray replaces."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    each = {"num_cpus": 1, "object_store_memory": 80_000_000}
    here = {"node_ip_address": "127.0.0.2", "include_dashboard": False, **each}
    cluster = ray_cluster.Cluster(initialize_head=True, head_node_args=here)
    second = cluster.add_node(node_ip_address="127.0.0.3", **each)
    cluster.wait_for_nodes()
    yield cluster, second
    cluster.shutdown()


@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.skipif(sys.platform == "win32", reason="Ray's clusters run on Linux and macOS")
def test_a_node_that_is_killed_in_the_middle_loses_nothing(start, nodes, brightness_file, tmp_path):
    cluster, second = nodes
    folder, table = tmp_path / "archive", tmp_path / "out.csv"
    folder.mkdir()
    names = [f"{number:03}.png" for number in range(IMAGES)]
    data = [encoded(phantom(seed=seed, size=(600, 600))) for seed in range(4)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(data[number % 4])
    (folder / "bad.png").write_bytes(b"hello")

    run = start(brightness_file, folder, table, "--ray-address", cluster.address)
    wait_for_rows(tmp_path / "out.csv.journal", 40, run)
    cluster.remove_node(second, allow_graceful=False)
    assert len(read_journal(tmp_path / "out.csv.journal")) < IMAGES  # it was in the middle
    _, said = run.communicate(timeout=280)
    assert run.returncode == 0, said

    rows = read_table(table)
    assert list(rows) == sorted([*names, "bad.png"])
    assert rows["bad.png"]["error"] == "unsupported_image"
    assert not [one for name, one in rows.items() if one["error"] and name != "bad.png"]
    assert len({(int(name[:3]) % 4, one["confidence"]) for name, one in rows.items() if name != "bad.png"}) == 4
    assert not os.path.lexists(tmp_path / "out.csv.journal")


def test_a_cluster_that_does_not_answer_is_reported_in_one_sentence(start, brightness_file, tmp_path):
    (tmp_path / "a.png").write_bytes(b"hello")
    run = start(brightness_file, tmp_path, tmp_path / "out.csv", "--ray-address", "127.0.0.2:1")
    _, said = run.communicate(timeout=200)
    assert run.returncode == 1
    assert said.endswith("No Ray cluster answers at 127.0.0.2:1.\n")
