"""The one error of training's commands, and how a command ends."""

import sys
from collections.abc import Callable


class TrainingError(Exception):
    """A manifest, a checkpoint of ImageNet weights, or a run's score file that is missing or not valid."""


def run_command(command: Callable[[], None], *errors: type[Exception], hint: str = "") -> int:
    """Run a command; return its exit code. TrainingError and these errors are printed, without a traceback.

    `hint` is what an interrupted user reads.
    """
    caught: tuple[type[Exception], ...] = (TrainingError, *errors)
    try:
        command()
    except caught as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nStopped{hint and '; '}{hint}.", file=sys.stderr)
        return 130
    return 0
