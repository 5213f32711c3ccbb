"""Parts of a benchmark that want a process of their own."""

import os
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.machine import ROOT


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the caller's environment with these settings; its own `BONE_*` variables are left out."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BONE_")}
    return clean | dict(settings or {})


def last_line(module: str, *arguments: str, settings: Mapping[str, str] | None = None) -> str:
    """Run a module with this interpreter; return the last line that it prints. Stop with its errors where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return done.stdout.rstrip().rpartition("\n")[2]
