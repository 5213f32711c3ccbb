"""The cores of a Ray cluster: the same scoring, spread by Ray Data, which runs again what a lost node had taken.

Every node must see the images under the same path. The code and the model travel from here to the nodes.
"""

import dataclasses
import json
import logging
import math
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bulk.local import THREAD_VARIABLES, WorkerError
from bulk.scoring import Row, Scorer, be_quiet
from config import Config

FILES_AT_ONCE: Final = 16  # what a lost node makes others do again, at most, for each of its cores
CONNECT_SECONDS: Final = 5.0
ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("bulk", "imaging", "inference", "web")


def score_on_ray(folder: Path, names: list[str], config: Config, address: str) -> Iterator[Row]:
    """Yield a row for each file as its batch is finished. Raise WorkerError."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray tells its makers otherwise
    try:
        import ray  # noqa: PLC0415 an extra
        import ray.data  # noqa: PLC0415
    except ImportError:
        raise WorkerError("--ray-address needs Ray: pip install -r requirements/bulk.txt.") from None
    _check_address(address)
    with _luggage(config) as (home, travelling):
        environment = {"working_dir": str(home), "env_vars": dict.fromkeys(THREAD_VARIABLES, "1")}
        try:
            ray.init(address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError):
            raise WorkerError(f"No Ray cluster answers at {address}.") from None
        try:
            yield from _rows(ray, folder.resolve(), names, travelling)
        except ray.exceptions.RayError as error:
            raise WorkerError(f"The Ray cluster could not go on: {type(error).__name__}.") from error
        finally:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Knock first: Ray itself waits for minutes, then ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except OSError:
            raise WorkerError(f"No Ray cluster answers at {address}.") from None


class BatchScorer:
    """What a core of the cluster runs: the network, loaded once, and a row for each name, as JSON."""

    def __init__(self, folder: Path, config: Config) -> None:
        be_quiet()
        self._folder = folder
        self._scorer = Scorer(config)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Score a batch of names."""
        return {"row": [json.dumps(self._scorer.score(self._folder, str(name))) for name in batch["name"]]}


def _rows(ray: Any, folder: Path, names: list[str], config: Config) -> Iterator[Row]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    blocks = math.ceil(len(names) / FILES_AT_ONCE)
    scored = ray.data.from_items([{"name": name} for name in names], override_num_blocks=blocks).map_batches(
        BatchScorer,
        batch_size=None,
        fn_constructor_args=(folder, config),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(cores, blocks)),
        num_cpus=1,
    )
    for scored_row in scored.iter_rows():
        yield json.loads(scored_row["row"])


@contextmanager
def _luggage(config: Config) -> Iterator[tuple[Path, Config]]:
    """Put the code and the model into a folder of their own, which Ray copies to every node and makes the current."""
    with tempfile.TemporaryDirectory(prefix="bulk-") as name:
        home = Path(name)
        for code in (*ROOT.glob("*.py"), *(path for folder in PACKAGES for path in ROOT.glob(f"{folder}/*.py"))):
            copy = home / code.relative_to(ROOT)
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(code, copy)
        shutil.copy(config.model_path, home / "model.h5")
        yield home, dataclasses.replace(config, model_path=Path("model.h5"))
