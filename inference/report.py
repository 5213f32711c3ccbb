"""What `python app.py check FILE` prints about a model."""

from collections.abc import Iterator, Mapping
from typing import Final

from config import SCALINGS
from inference.classifier import Classifier
from inference.inspection import ModelFile
from inference.settings import VARIABLES, Source

SOURCES: Final[Mapping[Source, str]] = {
    "environment": "from the environment",
    "file": "from the file",
    "labels": "from labels.txt",
    "network": "from the network",
    "default": "by default",
}


def describe_file(file: ModelFile) -> Iterator[str]:
    """Yield lines on what the inspection found."""
    yield f"Written by Keras {file.keras_version}, {len(file.layers)} kinds of layer:"
    yield f"  {', '.join(sorted(file.layers))}"


def describe_classifier(classifier: Classifier) -> Iterator[str]:
    """Yield lines on how the model would be served."""
    height, width = classifier.input_size
    yield f"It fits: {height} × {width} pixels, {classifier.channels} channel(s), {classifier.outputs} outputs."
    for name, setting in classifier.settings.items():
        yield f"  {VARIABLES[name]} {setting.value!r}, {SOURCES[setting.source]}"
    yield f"  none of the classes: {'the last output' if classifier.has_none_output else 'no output of its own'}"
    yield f"  golden outputs: {'reproduced' if classifier.has_golden else 'none in the file'}"
    if classifier.settings["scaling"].source == "default":
        yield (
            f"The scaling was assumed: {classifier.scaling}, {SCALINGS[classifier.scaling].meaning}. Add images whose "
            "class you know to this command, and set BONE_SCALING to the scaling that gets them right."
        )
