"""Send real radiographs to a running service and count its verdicts.

    BONE_DATA_DIR=… python benchmarks/radiographs.py [--each 200] [--url http://127.0.0.1:5010]

The folder needs a manifest.csv with the columns path and label. Most of these images were trained on: the counts say
that the service does what the network says, not how good the network is. For that see MODEL_CARD.md.
"""

import argparse
import csv
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

KNOWN = ("fisura", "fractura")


def sample(folder: Path, each: int) -> Iterator[tuple[Path, str]]:
    """Yield up to `each` images of every label, in the manifest's order, spread evenly over its rows."""
    with (folder / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for label in sorted({row["label"] for row in rows}):
        of_label = [row["path"] for row in rows if row["label"] == label]
        step = max(1, len(of_label) // each)
        yield from ((folder / path, label) for path in of_label[::step][:each])


def outcome(answer: dict[str, Any]) -> str:
    """Return the class of an accepted answer, else «none»."""
    return str(answer["predictedClass"]) if answer["success"] else "none"


def faults(response: requests.Response) -> list[str]:
    """Return what is wrong with an answer to a good image: nothing, if the contract holds."""
    if response.status_code != 200:
        return [f"status {response.status_code}: {response.text}"]
    answer = response.json()
    hundredths = [round(entry["probability"] * 100) for entry in answer["allProbabilities"]]
    found = []
    if sum(hundredths) != 10_000:
        found.append(f"shares add up to {sum(hundredths)} hundredths")
    if round(answer["confidence"] * 100) > max(hundredths):
        found.append("confidence above the highest share")
    if answer["success"] and answer["predictedClass"] != KNOWN[hundredths.index(max(hundredths))]:
        found.append("predicted class is not the likeliest")
    return found


def is_right(label: str, said: str) -> bool:
    """Tell whether a verdict fits a label; an untyped fracture may be called either."""
    if label == "fracture_untyped":
        return said in KNOWN
    return said == (label if label in KNOWN else "none")


def main() -> None:
    """Print a table: for each label, how many were sent, how each verdict was spread, how many are right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--url", default="http://127.0.0.1:5010")
    arguments = parser.parse_args()
    said: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    with requests.Session() as session:
        for path, label in sample(Path(os.environ["BONE_DATA_DIR"]), arguments.each):
            response = session.post(arguments.url + "/predict", files={"image": path.read_bytes()}, timeout=60)
            wrong += [f"{path.name}: {fault}" for fault in faults(response)]
            said.setdefault(label, Counter())[outcome(response.json())] += 1
    print(
        "| label | sent | said fisura | said fractura | said neither | right |\n| --- | --- | --- | --- | --- | --- |"
    )
    for label, counts in said.items():
        right = sum(count for verdict, count in counts.items() if is_right(label, verdict))
        print(f"| {label} | {counts.total()} | " + " | ".join(str(counts[name]) for name in (*KNOWN, "none")), end="")
        print(f" | {right} |")
    print(f"{len(wrong)} answers break the contract", *wrong[:20], sep="\n")


if __name__ == "__main__":
    main()
