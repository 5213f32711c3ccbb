"""Parts of a benchmark that want a process of their own."""

import os
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.machine import ROOT


def last_line(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a module with this interpreter; return the last line that it prints. Stop with its errors where it fails.

    `BONE_*` variables of the caller do not reach it.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BONE_")}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=clean | dict(environment or {}),
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return done.stdout.rstrip().rpartition("\n")[2]
