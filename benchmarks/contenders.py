"""The contenders of the comparison, and how each is started."""

import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.service import CACHE, SERVICE, RunningServer, serving

OURS: Final = "this service"
BARE: Final = "limit: bare loop, decode + prepare + network, no HTTP"
CLASSIC: Final = "classic: Flask, `model.predict`, development server"


@dataclass(frozen=True)
class Contender:
    """A service: its name in the tables, the command that starts it, its environment variables."""

    name: str
    command: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)

    def serving(self) -> AbstractContextManager[RunningServer]:
        """Run it until the block ends."""
        return serving(self.command, **self.settings)


def ours(models: Path = CACHE / "models") -> Contender:
    """Return the service with its default settings; `models` is its cache folder."""
    return Contender(OURS, SERVICE, {"BONE_CACHE_DIR": str(models)})


def classic() -> Contender:
    """Return the classic service, which needs no environment of its own."""
    return Contender(CLASSIC, (sys.executable, "-m", "benchmarks.peers.classic"))


def gunicorn() -> Contender:
    """Return the classic service under a server for production."""
    options = "--worker-class gthread --workers 1 --threads 4 --timeout 0 --bind 127.0.0.1:{port}".split()
    command = (_python("bench"), "-m", "gunicorn", *options, "benchmarks.peers.classic:create()")
    return Contender("the same under gunicorn 27.0.1, 1 worker, 4 threads", command)


def litserve() -> Contender:
    """Return LitServe."""
    command = (_python("litserve"), "-m", "benchmarks.peers.lit")
    return Contender("LitServe 0.2.19, batching, `predict_on_batch`", command)


def bentoml() -> Contender:
    """Return BentoML, its usage reports switched off."""
    options = ("--host", "127.0.0.1", "--port", "{port}")
    command = (_python("bentoml"), "-m", "bentoml", "serve", "benchmarks.peers.bento:Fracture", *options)
    return Contender("BentoML 1.4.39, adaptive batching, `predict_on_batch`", command, {"BENTOML_DO_NOT_TRACK": "True"})


def _python(environment: str) -> str:
    return str(CACHE / environment / "bin" / "python")
