"""Record the answers of a running service to every file of some folders, and report any that have changed.

    python -m benchmarks.answers FOLDER … [--url http://127.0.0.1:5010] > before.txt
    python -m benchmarks.answers FOLDER … --against before.txt > after.txt

One line per file, sorted by path: path, status and body of `/predict?detail=1`, byte for byte except for what differs
each time: the request's id and the figures under `milliseconds`. Files are sent one after the other, about 20 a second.
With `--against`, lines that differ go to standard error, and the exit code is 1 if there are any.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import requests

REQUEST_ID = re.compile(r'(?<="requestId":")\w+(?=")')
MILLISECONDS = re.compile(r'(?<="milliseconds":){[^}]*}')
NUMBER = re.compile(r"\d+(\.\d+)?")


def read_answers(folders: Sequence[Path], url: str) -> Iterator[str]:
    """Yield a line for every file in the folders, at any depth, sorted by path."""
    with requests.Session() as session:
        for folder in folders:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                response = session.post(f"{url}/predict?detail=1", files={"image": ("image", path.read_bytes())})
                name = Path(folder.resolve().name, path.relative_to(folder)).as_posix()
                yield f"{name}\t{response.status_code}\t{remove_varying(response.content.decode().rstrip())}"


def remove_varying(body: str) -> str:
    """Return an answer with its request's id and the figures of its milliseconds removed."""
    without_times = MILLISECONDS.sub(lambda found: NUMBER.sub("0", found[0]), body)
    return REQUEST_ID.sub("", without_times)


def compare(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Return the lines in only one of the two: those of the first after `-`, those of the second after `+`."""
    changes = difflib.unified_diff(before, after, n=0, lineterm="")
    return [line for line in changes if not line.startswith(("---", "+++", "@@"))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the answers; return 1 if they differ from the file of `--against`, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--url", default="http://127.0.0.1:5010")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an earlier output of this command")
    options = parser.parse_args(arguments)
    answers = []
    for line in read_answers(options.folders, options.url):
        print(line, flush=True)
        answers.append(line)
    if options.against is None:
        return 0
    changes = compare(options.against.read_text(encoding="utf-8").splitlines(), answers)
    print(*changes, f"{len(answers):,} answers, {len(changes)} lines differ", sep="\n", file=sys.stderr)
    return int(bool(changes))


if __name__ == "__main__":
    sys.exit(main())
