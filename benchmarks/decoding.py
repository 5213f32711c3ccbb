"""Where the time between an upload and the network's input goes, and what it would change to decode JPEG smaller.

    python -m benchmarks.decoding [--rounds 9]
    BONE_DATA_DIR=… python -m benchmarks.decoding --answers [--images 200]

The first prints milliseconds of processor time for each stage of each kind of file, medians of interleaved rounds, on a
phantom; of a JPEG also as libjpeg would decode it at 1/2, 1/4 or 1/8, never to less than twice what the network sees.
`--answers` (seconds an image) says by how many percentage points the shipped network's probabilities move when that is
done, on real radiographs enlarged 1, 2, 3 and 5 times and saved as JPEG of quality 90; what it does to decode a colour
JPEG as grey; and for comparison, what it does to move one pixel in a hundred of the input by one level of 255.
"""

import argparse
import io
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from werkzeug.test import EnvironBuilder

import app
import preprocessing
from benchmarks.radiographs import sample
from config import read_config
from imaging import dicom
from model_loader import Classifier, Outputs, load
from prediction import judge
from preprocessing import content_of, decode, is_blank, prepare
from tests.support.dicoms import dicom_file
from tests.support.phantoms import encoded, phantom
from web import uploads

SIZE = (384, 384)  # what the shipped network sees
MAX_PIXELS = 50_000_000
ENLARGED = (1, 2, 3, 5)
STAGES: dict[str, tuple[tuple[ModuleType, str], ...]] = {
    "form": ((uploads, "one_image"),),
    "open": ((app, "check_structure"), (preprocessing, "_open"), (dicom, "_read")),
    "pixels": ((preprocessing, "_load"), (dicom, "_first_frame")),
    "to 8 bits": ((preprocessing, "_to_8_bit"), (dicom, "_show")),
    "facts": ((preprocessing, "_orientation"), (preprocessing, "_frames"), (dicom, "_facts")),
    "turn": ((preprocessing, "_turn_upright"),),
    "resize": ((preprocessing, "_letterbox"),),
}
Load = Callable[[Image.Image], None]


@contextmanager
def replaced(module: ModuleType, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let a module use another function until the block ends."""
    ours = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, ours)


def drafting(times: int, mode: str | None = None) -> Load:
    """Return a way to load a JPEG at the smallest scale that leaves so many times what the network sees."""
    load_whole: Load = preprocessing._load  # noqa: SLF001 to be what it is without

    def load_drafted(image: Image.Image) -> None:
        content = content_of((image.height, image.width), SIZE, "letterbox")
        image.draft(mode, (times * content.width, times * content.height) if times else None)
        load_whole(image)

    return load_drafted


# -- milliseconds -------------------------------------------------------------------------------------------------


def kinds() -> dict[str, bytes]:
    """Return a file of each kind."""
    films = {height: phantom("fractura", (height, height * 4 // 5), seed=3) for height in (640, 1600, 3000, 5000)}
    deep = np.asarray(films[1600]).astype(np.uint16) * 16
    tilted = Image.Exif()
    tilted[0x0112] = 6
    jpegs = {f"grey JPEG, {height} px": encoded(film, "JPEG", quality=90) for height, film in films.items()}
    return jpegs | {
        "colour JPEG, 3000 px": encoded(films[3000].convert("RGB"), "JPEG", quality=90),
        "turned JPEG, 3000 px": encoded(films[3000], "JPEG", quality=90, exif=tilted.tobytes()),
        "PNG, 1600 px": encoded(films[1600]),
        "PNG, 3000 px": encoded(films[3000]),
        "16-bit PNG, 1600 px": encoded(Image.fromarray(deep)),
        "TIFF, 3000 px": encoded(films[3000], "TIFF"),
        "DICOM of 12 bits, 1600 px": dicom_file(deep, BitsStored=12, HighBit=11),
    }


def measure(body: bytes, content_type: str) -> dict[str, float]:
    """Take one request's body to the network's input; return the seconds of each stage."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*arguments)
            finally:
                seconds[stage] += time.thread_time() - started

        return call

    builder = EnvironBuilder(method="POST", input_stream=io.BytesIO(body), content_type=content_type)
    request = uploads.StrictRequest(builder.get_environ() | {"CONTENT_LENGTH": str(len(body))})
    with ExitStack() as stack:
        for stage, functions in STAGES.items():
            for module, name in functions:
                stack.enter_context(replaced(module, name, timed(stage, getattr(module, name))))
        started = time.thread_time()
        image, _ = decode(uploads.one_image(request, MAX_PIXELS), MAX_PIXELS)
        timed("blank?", is_blank)(image)
        prepare(image, SIZE, 1, "unit", "letterbox")
        total = time.thread_time() - started
    seconds |= {"rest": total - sum(seconds.values()), "total": total}
    return seconds


def form(data: bytes) -> tuple[bytes, str]:
    """Return the body that a form with this one file makes, and its content type."""
    environment = EnvironBuilder(method="POST", data={"image": (io.BytesIO(data), "film")}).get_environ()
    return environment["wsgi.input"].read(), environment["CONTENT_TYPE"]


def run_times(rounds: int) -> None:
    """Print a row for each kind and, where it makes a difference, one for its decoding at a smaller scale."""
    bodies = {name: form(data) for name, data in kinds().items()}
    ways = {"": drafting(0), ", draft": drafting(2)}
    drafted = [name for name in bodies if "JPEG" in name and "640" not in name and "1600" not in name]
    taken: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name, body in bodies.items():
            for way, load_image in ways.items() if name in drafted else [("", ways[""])]:
                with replaced(preprocessing, "_load", load_image):
                    taken.setdefault(name + way, []).append(measure(*body))
    columns = [*STAGES, "blank?", "rest", "total"]
    print(f"| milliseconds, p50 of {rounds} | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}")
    for name, measured in taken.items():
        cells = [f"{1000 * median(seconds[column] for seconds in measured):.2f}" for column in columns]
        print(f"| {name} | {' | '.join(cells)} |")


# -- answers ------------------------------------------------------------------------------------------------------


def films(images: int) -> Iterator[Image.Image]:
    """Yield real radiographs of every label, and a tenth as many phantoms."""
    per_label = -(-images // 5)
    for path, _ in list(sample(Path(os.environ["BONE_DATA_DIR"]), per_label))[:images]:
        yield Image.open(path).convert("L")
    for seed in range(images // 10):
        yield phantom(("none", "fisura", "fractura")[seed % 3], seed=seed)


def enlarged(film: Image.Image, times: int) -> Image.Image:
    """Return a film with sides so many times as long."""
    return film.resize((film.width * times, film.height * times), Image.Resampling.LANCZOS)


def inputs_of(data: bytes, load_image: Load | None = None) -> NDArray[np.float32]:
    """Return what the network sees of a file, loaded as the service does or in another way."""
    with replaced(preprocessing, "_load", load_image) if load_image else ExitStack():
        return prepare(decode(data, MAX_PIXELS)[0], SIZE, 1, "unit", "letterbox")


def disturbed(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an input of which one pixel in a hundred is a level of 255 brighter or darker."""
    random = np.random.default_rng(0)
    levels = (random.random(inputs.shape) < 0.01) * random.choice([-1, 1], inputs.shape) / np.float32(255)
    changed: NDArray[np.float32] = np.clip(inputs + levels, 0, 1).astype(np.float32)
    return changed


def pairs(film: Image.Image) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """Yield what the network sees of one film now and in other ways, each with the name of the way."""
    for times in ENLARGED:
        data = encoded(enlarged(film, times), "JPEG", quality=90)
        now = inputs_of(data)
        yield "the same file once more", now, inputs_of(data)
        for least in (1, 2, 3, 4):
            yield f"draft, at least {least} × what the network sees", now, inputs_of(data, drafting(least))
        yield "one pixel in a hundred moved by one level", now, disturbed(now)
    tinted = encoded(ImageOps.colorize(film, "#000008", "#eef4ff"), "JPEG", quality=90)
    yield "a bluish film from its luma alone", inputs_of(tinted), inputs_of(tinted, drafting(0, "L"))
    colour = encoded(film.convert("RGB"), "JPEG", quality=90)
    yield "a grey film in colour from its luma alone", inputs_of(colour), inputs_of(colour, drafting(0, "L"))


def run_answers(images: int) -> None:
    """Print, for each way, how far it moves the probabilities of those inputs that it changes at all."""
    classifier = load(read_config({}))
    moved: dict[str, list[float]] = {}
    flips: Counter[str] = Counter()
    for film in films(images):
        for way, now, other in pairs(film):
            points = moved.setdefault(way, [])
            if not np.array_equal(now, other):
                before, after = classifier.predict(now), classifier.predict(other)
                points.append(100 * float(np.abs(before.probabilities - after.probabilities).max()))
                flips[way] += verdict(classifier, before) != verdict(classifier, after)
    print("| percentage points | inputs changed | p50 | p99 | largest | verdicts changed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for way, points in moved.items():
        p50, p99, largest = np.percentile(points, (50, 99, 100)) if points else (0, 0, 0)
        print(f"| {way} | {len(points)} | {p50:.2f} | {p99:.2f} | {largest:.2f} | {flips[way]} |")


def verdict(classifier: Classifier, outputs: Outputs) -> str | None:
    """Return the class that is answered, None for none of them."""
    return judge(outputs.probabilities[0], classifier.class_names, classifier.threshold).predicted_class


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--images", type=int, default=200)
    arguments = parser.parse_args()
    if arguments.answers:
        run_answers(arguments.images)
    else:
        run_times(arguments.rounds)


if __name__ == "__main__":
    main()
