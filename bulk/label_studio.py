"""Films to label -> tasks for Label Studio, with what the network sees; and what was labelled -> a manifest.

`python -m bulk.label_studio EXPORT.json MANIFEST.csv` reads an export in the format JSON. MANIFEST.csv belongs in the
folder that the films' paths are relative to: that of the archive that was scored.
"""

import base64
import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from PIL import Image
from tqdm import tqdm

from bulk.choice import worth
from bulk.scoring import PROBABILITY, BulkError, Row
from config import Config
from explanation import Box, explain
from model_loader import Classifier, load
from prediction import inputs_for
from preprocessing import ImageError, decode, is_blank

OTHER_LABELS: Final = ("fracture_untyped", "normal", "other")  # besides the network's classes: those of a manifest
BOX: Final = "fracture"
IMAGE, CHOICE, SPOT = "image", "label", "box"  # names in the labelling interface
MAX_SIDE_PIXELS: Final = 2048
JPEG_QUALITY: Final = 92

Task = dict[str, Any]


def tasks_path(table: Path) -> Path:
    """Return where the tasks of a table are written."""
    return table.with_suffix(".tasks.json")


def interface_path(table: Path) -> Path:
    """Return where the labelling interface for the tasks of a table is written."""
    return table.with_suffix(".interface.xml")


def write_tasks(folder: Path, rows: Sequence[Row], table: Path, config: Config) -> None:
    """Write a task for each row, and the labelling interface. Films travel inside the tasks. Raise ModelError."""
    classifier = load(config)
    tasks = [task for row in tqdm(rows, "tasks", unit="film") if (task := _task(folder, row, classifier, config))]
    interface_path(table).write_text(describe_interface(classifier.class_names), encoding="utf-8")
    path = tasks_path(table)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(json.dumps(tasks), encoding="utf-8")
    unfinished.replace(path)


def describe_interface(class_names: Sequence[str]) -> str:
    """Return the labelling interface, for the project's settings under Labeling Interface, Code."""
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in (*class_names, *OTHER_LABELS))
    return (
        f'<View>\n  <Header value="$why"/>\n  <Image name="{IMAGE}" value="$image" zoom="true" zoomControl="true" '
        f'brightnessControl="true" contrastControl="true"/>\n'
        f'  <Choices name="{CHOICE}" toName="{IMAGE}" choice="single" required="true">\n{choices}\n  </Choices>\n'
        f'  <RectangleLabels name="{SPOT}" toName="{IMAGE}">\n    <Label value="{BOX}"/>\n  </RectangleLabels>\n'
        "</View>\n"
    )


def read_labels(tasks: Any) -> Iterator[dict[str, str]]:
    """Yield a manifest's row for each labelled task of an export: the newest annotation counts. Raise BulkError.

    Boxes become `name x y width height`, centre and size as fractions; one that was turned, the box around it.
    """
    try:
        for task in tasks:
            done = [one for one in task["annotations"] if not one.get("was_cancelled")]
            for annotation in sorted(done, key=lambda one: one.get("updated_at") or "")[-1:]:
                results = annotation["result"]
                labels = [one["value"]["choices"][0] for one in results if one["type"] == "choices"]
                if labels:
                    boxes = ";".join(_to_yolo(one) for one in results if one["type"] == "rectanglelabels")
                    data = task["data"]
                    yield {"path": data["path"]} | data["columns"] | {"label": labels[0], "boxes_yolo": boxes}
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        raise BulkError("The export does not hold the tasks that bulk wrote, in Label Studio's format JSON.") from None


def write_manifest(export: Path, manifest: Path) -> int:
    """Write what was labelled; return the number of tasks without a label. Raise BulkError."""
    try:
        tasks = json.loads(export.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BulkError(f"{export} cannot be read: {error}.") from None
    rows = list(read_labels(tasks))
    if not rows:
        raise BulkError(f"{export} holds no labelled task.")
    if absent := [row["path"] for row in rows if not (manifest.parent / row["path"]).is_file()]:
        raise BulkError(f"{manifest} must be in the films' folder: there is no {manifest.parent / absent[0]}.")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        with manifest.open("x", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
    except FileExistsError:
        raise BulkError(f"{manifest} exists already; move it or name another file.") from None
    return len(tasks) - len(rows)


def _task(folder: Path, row: Row, classifier: Classifier, config: Config) -> Task | None:
    """Return a film's task; None if it cannot be read any more."""
    try:
        image, _ = decode((folder / row["path"]).read_bytes(), config.max_pixels)
    except (OSError, ImageError):
        return None
    shown = image.convert("L")
    shown.thumbnail((MAX_SIDE_PIXELS, MAX_SIDE_PIXELS), Image.Resampling.LANCZOS)
    size = {"original_width": shown.width, "original_height": shown.height}
    parts = [
        {"from_name": CHOICE, "type": "choices", "value": {"choices": [_likeliest(row)]}},
        *(
            {"from_name": SPOT, "type": "rectanglelabels", "value": _to_percent(box)}
            for box in _find_spots(classifier, image)
        ),
    ]
    result = [{"id": f"r{number}", "to_name": IMAGE, **size, **part} for number, part in enumerate(parts)]
    prediction = {"model_version": classifier.sha256[:12], "score": round(worth(row), 4), "result": result}
    ours = {"success", "predictedClass", "confidence", "noneProbability", "possible", "certainty", "error", "path"}
    columns = {name: value for name, value in row.items() if name not in ours and not name.startswith(PROBABILITY)}
    data = {"image": _data_uri(shown), "path": row["path"], "why": _describe(row), "columns": columns}
    return {"data": data, "predictions": [prediction]}


def _find_spots(classifier: Classifier, image: Image.Image) -> tuple[Box, ...]:
    if is_blank(image):
        return ()
    inputs = inputs_for(classifier, image)
    outputs = classifier.predict(inputs)
    target = int(outputs.probabilities[0, : len(classifier.class_names)].argmax())
    return explain(classifier, image, inputs, outputs, target, give_way=lambda: None).boxes


def _likeliest(row: Row) -> str:
    """Return the label to begin with: normal where none is likelier than all classes together."""
    if row["noneProbability"] is not None and row["noneProbability"] >= 50:
        return "normal"
    shares = {name.removeprefix(PROBABILITY): row[name] for name in row if name.startswith(PROBABILITY)}
    return max(shares, key=lambda name: shares[name])


def _describe(row: Row) -> str:
    none = row["noneProbability"]
    fractured = "" if none is None else f", fractured with {100 - none:.0f} %"
    return f"{row['path']}: {row['certainty']}{fractured}"


def _to_percent(box: Box) -> dict[str, Any]:
    sides = {name: 100 * getattr(box, name) for name in ("x", "y", "width", "height")}
    return {**sides, "rotation": 0, "rectanglelabels": [BOX]}


def _to_yolo(result: dict[str, Any]) -> str:
    """Return a rectangle, in percent, turned clockwise around its upper left corner, as `name x y width height`."""
    value, sides = result["value"], (result["original_width"], result["original_height"])
    angle = math.radians(value.get("rotation") or 0)
    width, height = (value[name] / 100 * side for name, side in zip(("width", "height"), sides, strict=True))
    left, top = (value[name] / 100 * side for name, side in zip(("x", "y"), sides, strict=True))
    corners = [
        (left + x * math.cos(angle) - y * math.sin(angle), top + x * math.sin(angle) + y * math.cos(angle))
        for x in (0, width)
        for y in (0, height)
    ]
    spans = [
        (max(0.0, min(ends) / side), min(1.0, max(ends) / side))
        for ends, side in zip(zip(*corners, strict=True), sides, strict=True)
    ]
    (x0, x1), (y0, y1) = spans
    numbers = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
    return " ".join([value["rectanglelabels"][0], *(f"{number:.6f}" for number in numbers)])


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def main(arguments: Sequence[str]) -> int:
    """Turn an export into a manifest; return the exit code."""
    if len(arguments) != 2:
        print("usage: python -m bulk.label_studio EXPORT.json MANIFEST.csv", file=sys.stderr)
        return 2
    export, manifest = map(Path, arguments)
    try:
        left = write_manifest(export, manifest)
    except BulkError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{manifest}: written; {left} tasks have no label and are left out", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
