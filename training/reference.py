"""How a network answers films of hospitals that it never saw: what the service compares its own answers with.

`python -m training.reference` measures how far such hospitals, and images of something else, lie from one another;
with `--write FILE` it also puts the histograms into a model file that was exported without them.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from config import TENTHS
from training.calibration import PRIOR, Calibration, Scores
from training.manifest import CLASS_NAMES, Entry, add_data_argument, read_manifest
from training.metrics import Bools, Floats
from training.outcome import fit, load_run
from training.recipe import RECIPES
from training.train import SCORES

Histograms = dict[str, list[float]]  # of each class and of none: the share of films in each tenth of 0 to 1

LABELS: Final = {**{name: name for name in CLASS_NAMES}, "none": "normal"}
MIN_FILMS: Final = 15  # a source with fewer of a class has no say in that class's histogram
MIN_COMPARED: Final = 20  # a source with fewer films is not compared


def fit_reference(
    calibration: Calibration, scores: Scores, entries: Sequence[Entry], keep: Bools
) -> dict[str, Histograms]:
    """Return the histograms of `fractured` and `familiarity`, of the films to keep, (n,), that were judged.

    Limb bones alone, every source of a class weighing alike. Empty where a class has no film.
    """
    labels, sources = _labels(entries), _sources(entries)
    films = {name: keep & scores.judged & (labels == label) for name, label in LABELS.items()}
    if not all(part.any() for part in films.values()):
        return {}
    return {
        score: {name: _mean_shares(values[part], sources[part]) for name, part in films.items()}
        for score, values in _watched(calibration, scores).items()
    }


def compare_sources(calibration: Calibration, scores: Scores, entries: Sequence[Entry]) -> Iterator[str]:
    """Yield a line for the limb bones and one for the other images of each source: their distance from the rest.

    The reference is that of the other sources, its classes mixed as in the source; as in the prior for other images.
    """
    labels, sources = _labels(entries), _sources(entries)
    bone = np.isin(labels, list(LABELS.values()))
    for source in np.unique(sources):
        reference = fit_reference(calibration, scores, entries, sources != source)
        for kind, among in (("limb bones", bone), ("other images", labels == "other")):
            films = scores.judged & (sources == source) & among
            if reference and films.sum() >= MIN_COMPARED:
                own = {name: float((labels[films] == label).mean()) for name, label in LABELS.items()}
                mix = own if any(own.values()) else PRIOR
                distances = [
                    f"{score} {distance(values[films], reference[score], mix):.2f}"
                    for score, values in _watched(calibration, scores).items()
                ]
                yield f"{source}, {films.sum()} {kind}: {', '.join(distances)}"


def distance(values: Floats, reference: Histograms, mix: Mapping[str, float]) -> float:
    """Return the greatest difference between the shares of films up to a tenth: Kolmogorov and Smirnov's distance."""
    mixed = sum(mix[name] * np.array(shares) for name, shares in reference.items())
    return float(np.abs(np.cumsum(_shares(values) - mixed)).max())


def write_reference(path: Path, reference: Mapping[str, Histograms], version: str) -> None:
    """Put histograms and a new version into a model file, whole or not at all. Raise OSError."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    shutil.copyfile(path, unfinished)
    with h5py.File(unfinished, "r+") as file:
        file.attrs["bone_reference"] = json.dumps(reference)
        file.attrs["bone_version"] = version
    unfinished.replace(path)


def _watched(calibration: Calibration, scores: Scores) -> dict[str, Floats]:
    return {"fractured": 1 - calibration.apply(scores)[:, -1], "familiarity": scores.familiarity}


def _mean_shares(values: Floats, sources: NDArray[Any]) -> list[float]:
    """Return the mean over the sources with enough films; where none has enough, the shares of all films."""
    names, counts = np.unique(sources, return_counts=True)
    parts = [values[sources == name] for name in names[counts >= MIN_FILMS]] or [values]
    return [round(float(share), 6) for share in np.mean([_shares(part) for part in parts], axis=0)]


def _shares(values: Floats) -> Floats:
    """Return the share of values in each tenth, its upper edge included, as Prometheus counts. (10,)."""
    tenths = np.searchsorted(TENTHS[:-1], values)
    return np.asarray(np.bincount(tenths, minlength=len(TENTHS)) / len(values), np.float64)


def _labels(entries: Sequence[Entry]) -> NDArray[Any]:
    return np.array([entry.label for entry in entries])


def _sources(entries: Sequence[Entry]) -> NDArray[Any]:
    return np.array([entry.source for entry in entries])


def main() -> None:
    """Print how far each source lies from the others, and write the histograms into a file where one is named."""
    parser = argparse.ArgumentParser(
        description="Compare the answers for each source with the reference of the others."
    )
    add_data_argument(parser)
    parser.add_argument("--recipe", choices=RECIPES, default="places")
    parser.add_argument("--scores", type=Path, default=SCORES)
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="a model file of this run to put the histograms into"
    )
    parser.add_argument("--version", help="the file's new version, such as 2026.11.27-2")
    chosen = parser.parse_args()
    if (chosen.write is None) != (chosen.version is None):
        parser.error("--write and --version belong together")
    entries = read_manifest(chosen.data)
    run, everything = load_run(chosen.scores / RECIPES[chosen.recipe].name, entries), np.ones(len(entries), bool)
    calibration = fit(run, entries, everything).calibration
    if chosen.write:
        write_reference(chosen.write, fit_reference(calibration, run.left_out, entries, everything), chosen.version)
    print(*compare_sources(calibration, run.left_out, entries), sep="\n")


if __name__ == "__main__":
    main()
