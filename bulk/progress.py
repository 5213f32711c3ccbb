"""How far a run is, how fast and for how long: a line that rewrites itself on a terminal, one a while elsewhere."""

import sys
import time
from typing import Final

BAR_CHARACTERS: Final = 30
TERMINAL_SECONDS: Final = 0.2
LOG_SECONDS: Final = 30.0


class Progress:
    """Count files and tell the person at the terminal."""

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done, self._before = total, done, done
        self._started = self._told = time.monotonic()
        self._has_begun = False
        self._is_terminal = sys.stderr.isatty()

    @property
    def images_per_second(self) -> float:
        """The pace since the first file of this run was done: loading the model counts as no image."""
        return (self._done - self._before) / max(time.monotonic() - self._started, 1e-9)

    def advance(self) -> None:
        """Count one file more."""
        self._done += 1
        if not self._has_begun:
            self._has_begun = True
            self._before, self._started = self._done, time.monotonic()
        wait = TERMINAL_SECONDS if self._is_terminal else LOG_SECONDS
        if time.monotonic() - self._told >= wait:
            self._told = time.monotonic()
            self._tell("")

    def finish(self) -> None:
        """Say how far it came."""
        self._tell("\n" if self._is_terminal else "")

    def _tell(self, end: str) -> None:
        print(f"\r\033[K{self}" if self._is_terminal else self, end=end if self._is_terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    def __str__(self) -> str:
        filled = BAR_CHARACTERS * self._done // max(self._total, 1)
        left = (self._total - self._done) / max(self.images_per_second, 1e-9)
        return (
            f"[{'#' * filled}{'.' * (BAR_CHARACTERS - filled)}] {self._done:,} of {self._total:,}, "
            f"{self.images_per_second:.1f} images/s, {_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    if seconds >= 100 * 3600:
        return "days"
    hours, rest = divmod(int(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
