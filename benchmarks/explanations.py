"""What a heat map costs, what it does to plain predictions, and how often its peak is at a radiologist's box.

    python -m benchmarks.explanations time [MODEL.h5 …]
    BONE_DATA_DIR=… python -m benchmarks.explanations boxes [MODEL.h5] [--images 150] [--fold 0]

`time` takes about half a minute a model, on a drawn phantom; without a model, the shipped one and `crack_model`, which
has an evidence output. `boxes` takes a second an image: occlusion and, where the network has it, evidence, against the
boxes of FracAtlas, by the rule of training/heatmap.py (in the box, or nearer than half its diagonal). A network that
learnt from these images flatters itself, and the shipped one learnt from all: `--fold` takes those of one fold, for a
network that `python -m training.export --split fold_0 --output …` wrote without it.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import requests

import explanation
from app import classify
from benchmarks.machine import ROOT
from benchmarks.service import RunningServer, serving
from config import read_config
from model_loader import Classifier, Outputs, load
from preprocessing import content_of, decode, prepare
from tests.support.phantoms import encoded, phantom
from training.heatmap import is_at_box
from training.manifest import Entry, read_manifest

SHIPPED = ROOT / "bone_fracture_classifier.h5"
FILM = encoded(phantom("fractura", (1200, 960)))
PLAIN, EXPLAINED = 60, 12  # requests that are timed


def ask(server: RunningServer, query: str) -> float:
    """Send the film; return the milliseconds until the answer is there, with its body."""
    started = time.perf_counter()
    response = requests.post(f"{server.url}/predict{query}", files={"image": FILM}, timeout=60)
    response.raise_for_status()
    return 1000 * (time.perf_counter() - started)


def p50(send: Callable[[], float], times: int) -> float:
    """Return the median of so many calls."""
    return median(send() for _ in range(times))


def measure_time(name: str, server: RunningServer) -> None:
    """Print plain and explained predictions, alone and plain ones beside explained ones."""
    for query in ("", "?explain=1"):
        p50(lambda query=query: ask(server, query), 5)  # type: ignore[misc]
    plain = p50(lambda: ask(server, ""), PLAIN)
    explained = p50(lambda: ask(server, "?explain=1"), EXPLAINED)
    beside, alike = (p50_beside(server, query) / plain for query in ("?explain=1", ""))
    print(f"| {name} | {plain:.1f} | {explained:.0f} | {explained / plain:.1f} | {beside:.2f} | {alike:.2f} |")


def p50_beside(server: RunningServer, query: str) -> float:
    """Return the median of plain predictions while another caller asks one thing after the other."""
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            ask(server, query)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    time.sleep(0.2)
    result = p50(lambda: ask(server, ""), PLAIN)
    over.set()
    thread.join()
    return result


def run_time(models: list[Path]) -> None:
    """Time each model's service."""
    print("| model | plain, p50 ms | explain=1, p50 ms | ratio | plain beside explain=1, ratio | beside plain, ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for path in models or [SHIPPED, crack_file(Path(folder))]:
            letterbox = {"BONE_RESIZE": "letterbox"} if path.name == "crack_model.h5" else {}
            with serving(BONE_MODEL_PATH=str(path), **letterbox) as server:
                measure_time(path.stem, server.wait("/ready"))


def crack_file(folder: Path) -> Path:
    """Write the network that was written by hand."""
    from tests.support.models import crack_model  # noqa: PLC0415 it loads TensorFlow

    path = folder / "crack_model.h5"
    crack_model().save(path)
    return path


def run_boxes(path: Path, images: int, fold: int | None) -> None:
    """Print how often the peak, and for comparison the image's centre, is at a box."""
    entries = [entry for entry in read_manifest(Path(os.environ["BONE_DATA_DIR"])) if entry.boxes]
    entries = [entry for entry in entries if "fracatlas" in entry.source and fold in (None, entry.fold)]
    entries = entries[:: max(1, len(entries) // images)][:images]
    classifier = load(replace(read_config({}), model_path=path))
    methods = ["occlusion"] + ["evidence"] * (classifier.evidence_shape is not None)
    print(f"| method | peak at a box, of {len(entries)} images |\n| --- | --- |")
    for method in methods:
        print(f"| {method} | {np.mean([is_hit(classifier, entry, method) for entry in entries]):.3f} |", flush=True)
    print(f"| the image's centre | {np.mean([is_hit(None, entry, 'centre') for entry in entries]):.3f} |")


def is_hit(classifier: Classifier | None, entry: Entry, method: str) -> bool:
    """Say whether the peak of an image's map, or its centre, is at one of its boxes."""
    image, _ = decode(entry.path.read_bytes(), 50_000_000)
    point = (0.5, 0.5)
    if classifier:
        inputs = prepare(image, classifier.input_size, classifier.channels, classifier.scaling, classifier.resize)
        outputs = classifier.predict(inputs)
        content = content_of((image.height, image.width), classifier.input_size, classifier.resize)
        kept = outputs if method == "evidence" else Outputs(outputs.probabilities, None)
        question = explanation.Question(inputs, kept, content, classify(classifier, image).best)
        relevance = explanation.find_relevance(classifier.predict, question)
        point = explanation.draw(relevance, image, classifier.channels).peak or (-1.0, -1.0)
    return is_at_box(point, entry.boxes, (image.height, image.width))


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["time", "boxes"])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--images", type=int, default=150, help="at most so many, evenly spread")
    parser.add_argument("--fold", type=int, help="of the manifest, which the network has not seen")
    arguments = parser.parse_args()
    if arguments.what == "time":
        run_time(arguments.models)
    else:
        run_boxes(arguments.models[0] if arguments.models else SHIPPED, arguments.images, arguments.fold)


if __name__ == "__main__":
    main()
