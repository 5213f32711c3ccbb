"""What a figure depends on besides the code: machine, date, commit, pinned versions."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from benchmarks.service import ROOT
from config import available_cores

PIN = re.compile(r"^([\w.-]+)==([\w.]+)$", re.MULTILINE)


def facts() -> dict[str, str]:
    """Describe this machine now. Linux only."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": f"{_processor()}, {available_cores()} cores, {memory:.0f} GB",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}",
        "load before": f"{os.getloadavg()[0]:.1f} (one-minute mean; other load distorts the figures)",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
    }


def versions() -> dict[str, str]:
    """Return what the requirements of the service and of the peers pin, by name."""
    files = [ROOT / "requirements/service.in", *sorted((ROOT / "benchmarks" / "environments").glob("*.txt"))]
    pins = dict(pin for file in files for pin in PIN.findall(file.read_text(encoding="utf-8")))
    return pins | {"numpy": metadata.version("numpy")}  # pinned by the version of Python


def _processor() -> str:
    described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = re.findall(r"^model name\s*: (.+)$", described, re.MULTILINE)
    formats = [name for name in ("avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8") if name in described]
    return f"{names[0] if names else platform.machine()} ({', '.join(formats) or 'float32'})"


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607 the caller's git
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
