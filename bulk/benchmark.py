"""How the cost of an archive grows with its images and with the cores.

    python -m bulk.benchmark [IMAGES …] [--repeat N]

Draws phantoms into a temporary folder, scores them with 1 and with 2 processes in turn, and prints Markdown rows. A
busy machine slows both alike: the ratio of two rows measured side by side says more than either.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DISTINCT: Final = 100  # phantoms drawn; the archive repeats them under other names
PHANTOMS: Final = """
import sys; from pathlib import Path; from tests.support.phantoms import encoded, phantom
folder, kinds = Path(sys.argv[1]), ("none", "fisura", "fractura")
for seed in range(int(sys.argv[2])):
    (folder / f"{seed:03}.png").write_bytes(encoded(phantom(kinds[seed % 3], size=(1200, 900), seed=seed)))
"""


def main(arguments: list[str]) -> int:
    """Print a row for each number of images and of processes."""
    parser = argparse.ArgumentParser("python -m bulk.benchmark")
    parser.add_argument("images", nargs="*", type=int, default=[100, 1_000, 10_000])
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args(arguments)
    print("| images | processes | seconds in all | images/s while scoring | 1 process takes … times as long |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(prefix="bulk-benchmark-") as name:
        drawn = Path(name) / "drawn"
        drawn.mkdir()
        subprocess.run([sys.executable, "-c", PHANTOMS, str(drawn), str(DISTINCT)], cwd=ROOT, check=True)  # noqa: S603
        for images in options.images * options.repeat:
            archive = _archive(Path(name), drawn, images)
            first = _measure(archive, Path(name) / "out.csv", 1)
            second = _measure(archive, Path(name) / "out.csv", 2)
            for workers, (seconds, pace) in ((1, first), (2, second)):
                print(f"| {images:,} | {workers} | {seconds:.1f} | {pace} | {first[0] / seconds:.2f} |", flush=True)
    return 0


def _archive(folder: Path, drawn: Path, images: int) -> Path:
    """Return a folder of so many files, each a second name of a drawn one."""
    archive = folder / f"{images}-images"
    archive.mkdir(exist_ok=True)
    sources = sorted(drawn.iterdir())
    for number in range(images):
        target = archive / f"{number:06}.png"
        if not target.exists():
            os.link(sources[number % len(sources)], target)
    return archive


def _measure(archive: Path, table: Path, workers: int) -> tuple[float, str]:
    """Return the seconds of one whole run, loading included, and the pace that it states itself."""
    command = [sys.executable, "-m", "bulk", str(archive), str(table), "--workers", str(workers)]
    started = time.perf_counter()
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr  # noqa: S603
    seconds = time.perf_counter() - started
    table.unlink()
    *_, last = [line for line in said.splitlines() if " images/s" in line]
    return seconds, last.split(", ")[-2].removesuffix(" images/s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
