"""What empties the spool: ask about films, report quiet studies, deliver. Whatever fails waits, longer each time."""

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from config import LOGGER
from pacs.answers import Answer, AnswerError, read_answer
from pacs.destination import DestinationRefusedError, DestinationUnavailableError, Sends
from pacs.films import FilmError
from pacs.metrics import Metrics
from pacs.results import ask, build_results
from pacs.service import Service, ServiceFaultError, ServiceUnavailableError
from pacs.spool import Report, Spool

ASKING_THREADS: Final = 2  # one film is decoded here while the network looks at another
MAX_TRIES: Final = 5  # of one film, or of one report; not of an outage
MAX_WAIT_SECONDS: Final = 300.0
POLL_SECONDS: Final = 0.25

logger = logging.getLogger(LOGGER)


class Pipeline:
    """The threads that ask and the one that delivers, until `stop`."""

    def __init__(
        self,
        spool: Spool,
        service: Service,
        destination: Sends,
        metrics: Metrics,
        quiet_seconds: float,
        max_pixels: int,
    ) -> None:
        self._spool, self._service, self._destination, self._metrics = spool, service, destination, metrics
        self._quiet_seconds, self._max_pixels = quiet_seconds, max_pixels
        self._stopping = threading.Event()
        self._failures = {"service": 0, "destination": 0}
        steps = [self._ask_next] * ASKING_THREADS + [self._deliver_next]
        self._threads = [threading.Thread(target=self._repeat, args=(step,), daemon=True) for step in steps]

    def start(self) -> None:
        """Begin with what is in the spool."""
        for thread in self._threads:
            thread.start()

    def stop(self, drain_seconds: float) -> None:
        """Let each thread finish what it has begun; what is left stays in the spool."""
        self._stopping.set()
        deadline = time.monotonic() + drain_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _repeat(self, step: Callable[[], float]) -> None:
        """Take one step after the other; each returns how many seconds to wait before the next."""
        while not self._stopping.is_set():
            try:
                seconds = step()
            except Exception:
                logger.exception("A step failed and is tried again")
                seconds = backoff(3)
            if seconds:
                self._stopping.wait(seconds)

    # -- asking

    def _ask_next(self) -> float:
        claimed = self._spool.claim_waiting()
        if claimed is None:
            return POLL_SECONDS
        key, tries = claimed
        try:
            return self._ask(key, tries)
        finally:
            self._spool.release(key)

    def _ask(self, key: str, tries: int) -> float:
        started = time.perf_counter()
        if tries >= MAX_TRIES:
            self._retry_film(key, tries, "The node ended while it had this film, time and again.")
            return 0
        try:
            body, _ = ask(self._service, self._spool.read(key), self._max_pixels)
            outcome = _outcome(read_answer(body))
        except ServiceUnavailableError as error:
            self._spool.forgive(key)
            return self._wait("service", error, error.retry_after_seconds)
        except (ServiceFaultError, AnswerError, OSError) as error:
            self._retry_film(key, tries, str(error))
            return 0
        except Exception as error:
            logger.exception("Film %s failed", key)
            self._retry_film(key, tries, f"The node failed on it: {type(error).__name__}.")
            return 0
        self._failures["service"] = 0
        self._spool.answer(key, body)
        self._metrics.count_answer(outcome, time.perf_counter() - started)
        return 0

    def _retry_film(self, key: str, tries: int, reason: str) -> None:
        if tries + 1 < MAX_TRIES:
            self._metrics.count_retry("service")
            self._spool.retry_film(key, backoff(tries))
            return
        logger.error("Film %s was put into the poison folder: %s", key, reason)
        self._spool.poison(key, reason)
        self._metrics.count_answer("poisoned", 0)

    # -- delivering

    def _deliver_next(self) -> float:
        self._spool.close_quiet_studies(self._quiet_seconds)
        report = self._spool.next_report()
        return POLL_SECONDS if report is None else self._deliver(report)

    def _deliver(self, report: Report) -> float:
        when = datetime.fromtimestamp(report.created, UTC)
        try:
            films = [(self._spool.read(key), self._spool.answer_to(key)) for key in report.keys]
            if films:
                self._destination.send(build_results(films, when, self._max_pixels, report.number))
        except DestinationUnavailableError as error:
            return self._wait("destination", error)
        except (DestinationRefusedError, FilmError, AnswerError) as error:
            self._retry_report(report, str(error))
            return 0
        except Exception as error:
            logger.exception("Report %d failed", report.number)
            self._retry_report(report, f"The node failed on it: {type(error).__name__}.")
            return 0
        self._failures["destination"] = 0
        self._spool.finish_report(report)
        self._metrics.count_report("delivered")
        return 0

    def _retry_report(self, report: Report, reason: str) -> None:
        if report.tries + 1 < MAX_TRIES:
            self._metrics.count_retry("destination")
            self._spool.retry_report(report.number, backoff(report.tries))
            return
        logger.error("Report %d: its films were put into the poison folder: %s", report.number, reason)
        for key in report.keys:
            self._spool.poison(key, reason)
        self._spool.finish_report(report)
        self._metrics.count_report("poisoned")

    # -- outages

    def _wait(self, of: str, error: Exception, least_seconds: float = 0.0) -> float:
        """Return how long to wait in an outage, which costs no film one of its tries."""
        seconds = max(least_seconds, backoff(self._failures[of]))
        self._failures[of] += 1
        self._metrics.count_retry(of)
        logger.warning("%s Tried again in %.1f s.", error, seconds)
        return seconds


def backoff(failures: int) -> float:
    """Return seconds to wait: 1 doubled with each failure, at most 300, times a random number from 0.5 to 1.5."""
    return min(MAX_WAIT_SECONDS, 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.5)  # noqa: S311 not a secret


def _outcome(answer: Answer) -> str:
    if answer.refusal:
        return "refused"
    return "class" if answer.predicted_class else "none"
