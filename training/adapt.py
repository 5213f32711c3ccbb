"""Fits the network to a hospital's own labelled films: `python -m training.adapt FOLDER --out my_model.h5`.

The layers that see pixels stay as they are; what stands behind them changes (`training.adaptation`), by stages, each
kept only if cross-validation by group says that it helps. What the network gives for each film is kept beside the
output until that is written: an interrupted run resumes. `training.simulate` says how many films to label.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from config import read_config
from model_loader import ModelError, ModelFile, inspect
from preprocessing import ImageError
from training.adaptation import Change, Films, fit_change, last_kept, try_stages
from training.adapted_card import Adapted, Origin, judge, render_card, render_figures, render_stages
from training.calibration import (
    MAX_NORMALS_ACCEPTED,
    SHARE_ITSELF,
    Stratum,
    choose_threshold,
    confidence,
    sigmoid,
)
from training.conformal import fit_quantiles, true_classes
from training.errors import TrainingError, run_command
from training.export import EVIDENCE, FAMILIARITY, MODEL, share_out, write_model
from training.films import read_film, to_pixels
from training.learnt import read_learnt_films
from training.manifest import Entry, read_labelled
from training.metrics import Estimate, Floats
from training.network import KNOWN, POOLED, TYPE

KNOWN_LINE, TYPE_LINE, SCOPE_LINE = (f"{name}_calibrated" for name in (KNOWN, TYPE, POOLED))
BATCH: Final = 8
MIN_NORMALS: Final = 15  # fewer do not move the threshold
MIN_OF_A_CLASS: Final = 10  # fewer do not move its quantile


@dataclass(frozen=True)
class Own:
    """The hospital's limb bones, and the shares, (n,), that the network gives besides: limb bone, fisura if broken."""

    entries: Sequence[Entry]
    films: Films
    in_scope: Floats
    fisura: Floats

    def probabilities(self, logit: Floats) -> Floats:
        """Return fisura, fractura and none, (n, 3), by these log-odds of a fracture."""
        fractured = self.in_scope * sigmoid(logit)
        return np.stack([fractured * self.fisura, fractured * (1 - self.fisura), 1 - fractured], axis=1)


def load_trained(path: Path) -> tuple[keras.Model, ModelFile]:
    """Load a network that `training.export` or this command wrote. Raise TrainingError, ModelError."""
    file = inspect(read_config({"BONE_MODEL_PATH": str(path)}))
    network = keras.models.load_model(path, compile=False)
    names = {layer.name for layer in network.layers}
    if missing := {KNOWN_LINE, TYPE_LINE, SCOPE_LINE, POOLED} - names:
        raise TrainingError(
            f"{path} cannot be adapted: it has no layer {min(missing)}, as networks of `python -m training.export` do."
        )
    return network, file


def look(network: keras.Model, entries: Sequence[Entry], cache: Path, sha256: str) -> dict[str, Floats]:
    """Return what the frozen layers give for each film, (n, ...) by name; what the cache holds is not done again."""
    cache.mkdir(exist_ok=True)
    line = network.get_layer(KNOWN_LINE)
    wanted = {KNOWN: line.input, POOLED: network.get_layer(POOLED).output}
    wanted |= {name: network.get_layer(name).output for name in (TYPE_LINE, SCOPE_LINE)}
    frozen, side = keras.Model(network.input, wanted), network.input_shape[1]
    paths = [cache / f"{_digest(entry.path, sha256)}.npz" for entry in entries]
    missing = [(entry, path) for entry, path in zip(entries, paths, strict=True) if not path.exists()]
    with tqdm(total=len(entries), initial=len(entries) - len(missing), desc="look at films", unit="film") as bar:
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            pixels = np.stack([np.asarray(to_pixels(_decode(entry), side), np.float32) for entry, _ in part])
            outputs = frozen.predict_on_batch(pixels[..., np.newaxis] / np.float32(255))
            for row, (_, path) in enumerate(part):
                _save(path, {name: np.asarray(values[row]) for name, values in outputs.items()})
            bar.update(len(part))
    films = [dict(np.load(path)) for path in paths]
    return {name: np.stack([film[name] for film in films]).astype(float) for name in wanted}


def gather(entries: Sequence[Entry], seen: Mapping[str, Floats], network: keras.Model) -> Own:
    """Return the films with the log-odds that the network answers now."""
    kernel, bias = network.get_layer(KNOWN_LINE).get_weights()
    films = Films(
        (seen[KNOWN] @ kernel + bias)[:, 0],
        seen[POOLED],
        np.array([entry.is_fractured for entry in entries]),
        np.array([entry.group for entry in entries]),
    )
    return Own(entries, films, seen[SCOPE_LINE][:, 0], seen[TYPE_LINE][:, 0])


def adapt(own: Own, stated: Mapping[str, Any]) -> Adapted:
    """Fit what cross-validation says helps, and threshold and quantiles on films held back.

    The threshold accepts as many normal films as that of the shipped network accepts of sources that it knows. Where
    there are too few films of a kind, the file's own values stay.
    """
    trials = try_stages(own.films)
    kept = last_kept(trials)
    probabilities, normal = own.probabilities(kept.logit), ~own.films.fractured
    threshold = float(stated["threshold"])
    if normal.sum() >= MIN_NORMALS:
        stratum = Stratum(
            confidence(probabilities)[normal], own.films.groups[normal].tolist(), MAX_NORMALS_ACCEPTED, SHARE_ITSELF
        )
        threshold = choose_threshold([stratum])
    truth = true_classes(own.entries)
    fitted, before = fit_quantiles(probabilities, truth), json.loads(stated.get("conformal", "{}"))
    counts = {name: int((truth == index).sum()) for index, name in enumerate(fitted)}
    quantiles = {name: fitted[name] if counts[name] >= MIN_OF_A_CLASS else before.get(name, 1.0) for name in fitted}
    return Adapted(trials, fit_change(own.films, kept.stage), threshold, quantiles)


def change_network(network: keras.Model, change: Change) -> keras.Model:
    """Put a change behind the frozen layers: one linear layer over the score and the thumbnail's features."""
    line = network.get_layer(KNOWN_LINE)
    kernel, bias = line.get_weights()
    pooled = network.get_layer(POOLED).output
    evidence, old = line.input, kernel[:, 0]
    if evidence.shape[-1] == 1:
        evidence, old = (
            layers.Concatenate(name="evidence_of_own_films")([evidence, pooled]),
            np.append(old, 0 * change.weights),
        )
    weights = change.scale * old
    weights[-len(change.weights) :] += change.weights
    dense = layers.Dense(1, activation="sigmoid", name=KNOWN_LINE)
    known = dense(evidence)
    dense.set_weights([weights[:, None].astype(np.float32), (change.scale * bias + change.bias).astype(np.float32)])
    fractured = layers.Multiply(name="fractured")([known, network.get_layer(SCOPE_LINE).output])
    outputs = [
        share_out(fractured, network.get_layer(TYPE_LINE).output),
        *(network.get_layer(name).output for name in (EVIDENCE, FAMILIARITY)),
    ]
    return keras.Model(network.input, outputs, name=network.name)


def run(chosen: argparse.Namespace) -> None:
    """Adapt, and write the network and its card. Raise TrainingError, ModelError."""
    out: Path = chosen.out
    _check_output(out, chosen.model, overwrite=chosen.overwrite)
    labelled = read_labelled(chosen.films)
    entries = [entry for entry in labelled if entry.label != "other"]
    kinds = {entry.is_fractured for entry in entries}
    if kinds != {True, False}:
        raise TrainingError(f"{chosen.films} must hold both fractured and normal films; label some of the other kind.")
    network, file = load_trained(chosen.model)
    cache = out.with_name(f"{out.name}.films")
    own = gather(entries, look(network, entries, cache, file.sha256), network)
    adapted = adapt(own, file.attributes)
    before, after = (
        judge(own.films, own.probabilities(logit), threshold)
        for logit, threshold in (
            (own.films.logit, float(file.attributes["threshold"])),
            (last_kept(adapted.trials).logit, adapted.threshold),
        )
    )
    origin = Origin(chosen.model.name, file.sha256, str(file.attributes.get("version", "unknown")))
    attributes = _describe(file.attributes, adapted, own, origin, after)
    learnt = read_learnt_films(chosen.model)
    write_model(change_network(network, adapted.change), out, attributes, [entry.path for entry in entries], learnt)
    card = render_card(out.name, origin, own.films, adapted, (before, after), len(labelled) - len(entries))
    out.with_suffix(".md").write_text(card, encoding="utf-8")
    shutil.rmtree(cache)
    print(*render_stages(adapted.trials), "", *render_figures(before, after), sep="\n")
    print(f"\n{out}: threshold {adapted.threshold:g}; read {out.with_suffix('.md')}, then `python app.py check {out}`")


def _check_output(out: Path, model: Path, *, overwrite: bool) -> None:
    if out.suffix != ".h5":
        raise TrainingError(f"{out} must end in .h5.")
    if not out.parent.is_dir():
        raise TrainingError(f"{out.parent} is not a folder; create it first.")
    if out.exists() and model.exists() and out.samefile(model):
        raise TrainingError(f"{out} is the network to start from; name another file with --out.")
    for path in (out, out.with_suffix(".md")):
        if path.exists() and not overwrite:
            raise TrainingError(f"{path} exists already; name another file with --out, or say --overwrite.")


def _describe(
    stated: Mapping[str, Any], adapted: Adapted, own: Own, origin: Origin, figures: Mapping[str, Estimate]
) -> dict[str, Any]:
    """List the file's attributes: those of the network it comes from, less what no longer holds for it."""
    kept = {name: value for name, value in stated.items() if name != "reference"}
    films, groups = len(own.films), len(np.unique(own.films.groups))
    split = f"{films} films of {groups} groups that it was adapted to, by cross-validation over groups"
    quality = {
        "ownFilms": {
            "split": split,
            "figures": {
                name: {"value": round(one.value, 4), "interval95": [round(one.low, 4), round(one.high, 4)]}
                for name, one in figures.items()
            },
        }
    }
    return kept | {
        "threshold": adapted.threshold,
        "conformal": json.dumps({name: round(value, 6) for name, value in adapted.quantiles.items()}),
        "quality": json.dumps(quality),
        "version": f"{origin.version}+adapted",
        "adapted_from": json.dumps(
            {"sha256": origin.sha256, "version": origin.version, "stage": last_kept(adapted.trials).stage}
            | {"films": films, "groups": groups}
        ),
    }


def _digest(path: Path, sha256: str) -> str:
    return hashlib.sha256(sha256.encode() + path.read_bytes()).hexdigest()[:32]


def _decode(entry: Entry) -> Image.Image:
    try:
        return read_film(entry)
    except (ImageError, OSError) as error:
        raise TrainingError(f"{entry.path} cannot be read: {error}; correct it or leave it out.") from None


def _save(path: Path, outputs: Mapping[str, NDArray[Any]]) -> None:
    unfinished = path.with_name(f"unfinished-{path.name}")
    np.savez(unfinished, **outputs)  # type: ignore[arg-type]
    unfinished.replace(path)


def main() -> int:
    """Adapt; return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m training.adapt", description="Adapt the network to labelled films of a hospital."
    )
    parser.add_argument("films", type=Path, metavar="FOLDER", help="with manifest.csv, or one subfolder for each label")
    parser.add_argument("--out", type=Path, required=True, help="the .h5 to write; its card is the .md beside it")
    parser.add_argument("--model", type=Path, default=MODEL, help=f"the network to start from (default: {MODEL})")
    parser.add_argument("--overwrite", action="store_true", help="replace --out where it exists")
    chosen = parser.parse_args()
    return run_command(lambda: run(chosen), ModelError, hint="the same command resumes")


if __name__ == "__main__":
    sys.exit(main())
