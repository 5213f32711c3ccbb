"""`python app.py` serves; `python app.py check FILE` checks a model. app.py passes in how to load the model."""

import dataclasses
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from flask import Flask

from config import LOGGER, Config, ConfigError, read_config, unknown_variables
from web.limits import BodyLimits
from web.logs import configure_logs
from web.server import SPARE_THREADS, Server, bind, limit_malloc_arenas
from web.state import EXTENSION, State

USAGE: Final = "Usage: python app.py, to serve, or python app.py check FILE [IMAGE...]."
logger = logging.getLogger(LOGGER)


def run(
    arguments: list[str],
    serve: Callable[[Config], int],
    check: Callable[[Config, Sequence[Path]], None],
    failure: type[Exception],
) -> int:
    """Serve or check, and return the exit code; ConfigError and `failure` become one sentence on standard error."""
    try:
        config = read_config(os.environ)
        match arguments:
            case []:
                return serve(config)
            case ["check", path, *images]:
                check(dataclasses.replace(config, model_path=Path(path)), [Path(image) for image in images])
                return 0
            case _:
                print(USAGE, file=sys.stderr)
                return 2
    except (ConfigError, failure) as error:
        print(error, file=sys.stderr)
        return 1


def serve(app: Flask, load: Callable[[Config], object], failure: type[Exception]) -> int:
    """Bind the port, answer at once while the model loads, until asked to stop; return the exit code.

    `failure` is what `load` raises, with a sentence for the operator. Raise ConfigError where the port is unavailable.
    """
    state: State = app.extensions[EXTENSION]
    config = state.config
    limit_malloc_arenas()
    configure_logs(sys.stdout, config.log_level)
    warnings.filterwarnings("ignore", module=r"PIL\b")  # decode handles what it warns about
    for name, similar in unknown_variables(os.environ).items():
        logger.warning("%s is not a known setting%s.", name, f"; did you mean {similar}?" if similar else "")
    server = Server(
        app,
        bind(config.host, config.port),
        threads=state.admissions.max_held_threads + SPARE_THREADS,
        body_limits=BodyLimits(config.max_body_bytes, {"/predict/batch": config.max_batch_bytes}),
        drain_seconds=config.drain_seconds,
        on_drain=state.service.drain,
    )
    threading.Thread(target=_load, args=(state, load, failure, server), daemon=True).start()
    logger.info("listening on http://%s:%d", config.host, config.port)
    exit_code = server.run()
    logger.info("stopped")
    return exit_code


def _load(state: State, load: Callable[[Config], object], failure: type[Exception], server: Server) -> None:
    """Load the classifier while the server already answers; stop the server if that fails."""
    started = time.perf_counter()
    try:
        state.service.classifier = load(state.config)
    except failure as error:
        print(error, file=sys.stderr)
        server.stop(1)
    except Exception:
        logger.exception("The model could not be loaded.")
        print(f"{state.config.model_path} cannot be used: loading it failed; see the log.", file=sys.stderr)
        server.stop(1)
    else:
        logger.info("ready after %.1f s: %s", time.perf_counter() - started, state.service.classifier.sha256)
