"""The cores of a Ray cluster: the same scoring, spread by Ray Data, which repeats what a lost node had taken.

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
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bulk.local import ONE_CORE
from bulk.scoring import BulkError, Row, Scorer
from config import Config

FILES_PER_BLOCK: Final = 16  # at most so many are scored again for each core of a lost node
CONNECT_SECONDS: Final = 5.0
ROOT: Final = Path(__file__).parents[1]
CODE: Final = ("*.py", "bulk/*.py", "imaging/*.py", "inference/*.py")


def score_on_ray(folder: Path, names: list[str], config: Config, address: str) -> Generator[Row, None, None]:
    """Yield a row for each file as its block is finished; a lost node may repeat some. Raise BulkError."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # else Ray reports to its makers
    try:
        import ray.data  # noqa: PLC0415 an extra
    except ImportError:
        raise BulkError("--ray-address needs Ray: pip install -r requirements/bulk.txt.") from None
    with _bundle_code_and_model(config) as (bundle, bundled_config):
        try:
            _check_address(address)
            environment = {"working_dir": str(bundle), "env_vars": ONE_CORE}
            ray.init(address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError):
            raise BulkError(f"No Ray cluster answers at {address}.") from None
        try:
            yield from _rows(ray, folder.resolve(), names, bundled_config)
        except ray.exceptions.RayError as error:
            raise BulkError(f"The Ray cluster failed: {type(error).__name__}.") from error
        finally:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Connect once first: Ray itself tries for minutes, then ends the process. Raise OSError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


@contextmanager
def _bundle_code_and_model(config: Config) -> Iterator[tuple[Path, Config]]:
    """Copy the code and the model to a folder which Ray copies to every node and makes the current one there.

    What belongs to the model lies beside it, under names that follow from its own.
    """
    with tempfile.TemporaryDirectory(prefix="bulk-") as name:
        for source in (path for pattern in CODE for path in ROOT.glob(pattern)):
            target = Path(name, source.relative_to(ROOT))
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
        model = config.model_path
        for file in (model, model.with_name(model.name + ".sha256"), model.with_name("labels.txt")):
            if file.exists():
                shutil.copy(file, name)
        yield Path(name), dataclasses.replace(config, model_path=Path(model.name))


def _rows(ray: Any, folder: Path, names: list[str], config: Config) -> Iterator[Row]:
    ray.data.DataContext.get_current().enable_progress_bars = False
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    blocks = math.ceil(len(names) / FILES_PER_BLOCK)
    scored = ray.data.from_items([{"name": name} for name in names], override_num_blocks=blocks).map_batches(
        BlockScorer,
        batch_size=None,
        fn_constructor_args=(folder, config),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(cores, blocks)),
        num_cpus=1,
    )
    for scored_row in scored.iter_rows():
        yield json.loads(scored_row["row"])


class BlockScorer:
    """What a core of the cluster runs: the network, loaded once, and a row for each name, as JSON."""

    def __init__(self, folder: Path, config: Config) -> None:
        self._folder = folder
        self._scorer = Scorer(config)

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        """Score a block of names."""
        return {"row": [json.dumps(self._scorer.score(self._folder, str(name))) for name in block["name"]]}
