"""`python -m pacs serve`: the node, what empties its spool, and its monitor, until SIGTERM or SIGINT."""

import logging
import os
import signal
import threading

from config import LOGGER, read_config
from pacs.destination import open_destination
from pacs.metrics import Metrics
from pacs.monitor import start_monitor
from pacs.node import Node
from pacs.pipeline import Pipeline
from pacs.service import HttpService
from pacs.settings import read_pacs_config, unknown_pacs_variables
from pacs.spool import Spool

logger = logging.getLogger(LOGGER)


def serve() -> int:
    """Serve until a signal, then finish what is in flight; return the exit code. Raise ConfigError and the like."""
    config, service_config = read_pacs_config(os.environ), read_config(os.environ)
    logger.setLevel(logging.INFO)
    for name, similar in unknown_pacs_variables(os.environ).items():
        logger.warning("%s is not a known setting%s.", name, f"; did you mean {similar}?" if similar else "")
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())

    spool = Spool(config.spool_path, config.max_spool_bytes)
    metrics = Metrics(spool)
    pipeline = Pipeline(
        spool,
        HttpService(config.url, config.api_key),
        open_destination(config),
        metrics,
        quiet_seconds=config.quiet_seconds,
        max_pixels=service_config.max_pixels,
    )
    monitor = start_monitor(
        config.monitor_host, config.monitor_port, lambda: not (stopping.is_set() or spool.is_full()), metrics.text
    )
    node = Node(config, spool, metrics)
    pipeline.start()
    logger.info("%s listens on %s:%d; %s", config.ae_title, config.host, config.port, spool.count())
    stopping.wait()
    logger.info("stopping")
    node.stop(service_config.drain_seconds)
    pipeline.stop(service_config.drain_seconds)
    monitor.shutdown()
    spool.close()
    logger.info("stopped")
    return 0
