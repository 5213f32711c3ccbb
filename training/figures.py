"""Every figure of the model card, computed from the out-of-fold answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.calibration import choose_threshold, confidence, cross_calibrate, fit_calibration, log_odds
from training.heatmap import centre_hits, peak_hits
from training.manifest import Entry
from training.metrics import (
    Bools,
    Estimate,
    Floats,
    auc,
    balanced_accuracy,
    bootstrap,
    calibration_error,
    excess_calibration_error,
    share,
)
from training.outcome import Outcome, load_raw, load_split
from training.splits import Rows, plan_left_out
from training.views import DAMAGES, PLAIN

FOLDS = "out of fold"
_MIN_IMAGES = 10  # a part with fewer of a kind gets no figure


@dataclass(frozen=True)
class Figure:
    """One line of the card. `aim` is what the project set itself, at least or, with `at_most`, at most."""

    key: str
    name: str
    split: str
    estimate: Estimate
    aim: float | None = None
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        """Say whether the figure itself, not its interval, reaches the aim."""
        if self.aim is None:
            return False
        return self.estimate.value <= self.aim if self.at_most else self.estimate.value >= self.aim


class Judge:
    """Holds what all figures are made of: labels and out-of-fold answers, one row per image."""

    def __init__(self, entries: Sequence[Entry], outcome: Outcome, scores: Path) -> None:
        self.entries, self.outcome, self.scores = entries, outcome, scores
        self.labels = np.array([entry.label for entry in entries])
        self.sources = np.array([entry.source for entry in entries])
        self.core = np.array([entry.tier == "core" for entry in entries])
        self.typed = np.array([entry.is_typed for entry in entries])
        self.fractured = np.array([entry.is_fractured for entry in entries])
        self.normal = self.labels == "normal"
        self.other = self.labels == "other"
        self.medical = np.array([entry.label == "other" and not entry.is_photograph for entry in entries])
        self.fisura = self.labels == "fisura"
        self.fractura = self.labels == "fractura"
        self.known, self.kind = log_odds(outcome.probabilities)
        self.groups = [entry.group for entry in entries]

    @property
    def right(self) -> Bools:
        """Say where the likelier known class is the true one. (n,)."""
        right: Bools = np.where(self.kind > 0, self.fisura, self.fractura)
        return right

    def estimate(self, metric: Callable[[Rows], float], chosen: Bools) -> Estimate:
        """Compute a metric of rows, with its interval, over the chosen images."""
        return bootstrap(metric, np.flatnonzero(chosen), self.groups)

    def share(self, hits: Bools, chosen: Bools) -> Estimate:
        """Compute the share of hits among the chosen images."""
        return self.estimate(lambda rows: share(hits[rows]), chosen)

    def type_auc(self, chosen: Bools) -> Estimate:
        """Compute the AUC of fisura against fractura among the chosen typed images."""
        return self.estimate(lambda rows: auc(self.kind[rows], self.fisura[rows]), chosen & self.typed)

    def fracture_auc(self, chosen: Bools) -> Estimate:
        """Compute the AUC of fractured against normal among the chosen."""
        bones = chosen & (self.fractured | self.normal)
        return self.estimate(lambda rows: auc(self.known[rows], self.fractured[rows]), bones)


def headline(judge: Judge) -> Iterator[Figure]:
    """Yield the rows of the project's own table that need the folds alone."""
    everything = np.ones(len(judge.entries), bool)
    fracatlas = judge.sources == "fracatlas"
    accepted, rejected = judge.outcome.accepted, ~judge.outcome.accepted
    yield Figure("type_auc", "fisura against fractura, AUC", FOLDS, judge.type_auc(everything), 0.88)
    yield Figure("type_auc_core", "the same, core labels alone", FOLDS, judge.type_auc(judge.core), 0.88)
    yield Figure(
        "balanced_cut", "the same, balanced accuracy at a balanced cut", FOLDS, _balanced(judge, _cuts(judge)), 0.80
    )
    argmax = np.zeros(len(judge.entries))
    yield Figure("balanced_argmax", "the same, at the file's argmax", FOLDS, _balanced(judge, argmax), 0.75)
    yield Figure(
        "fracture_auc", "fractured against normal in FracAtlas, AUC", FOLDS, judge.fracture_auc(fracatlas), 0.92
    )
    yield Figure("other_rejected", "`other` rejected", FOLDS, judge.share(rejected, judge.other), 0.99)
    yield Figure("medical_rejected", "of them radiographs, CT, MRI", FOLDS, judge.share(rejected, judge.medical), 0.92)
    for source in sorted(set(judge.sources[judge.normal])):
        chosen = judge.normal & (judge.sources == source)
        yield Figure(
            f"normal_rejected_{source}", f"normal rejected, {source}", FOLDS, judge.share(rejected, chosen), 0.93
        )
    yield Figure("fisura_accepted", "fisura accepted", FOLDS, judge.share(accepted, judge.fisura), 0.50)
    yield Figure("fractura_accepted", "fractura accepted", FOLDS, judge.share(accepted, judge.fractura), 0.70)
    chosen = judge.fractured & fracatlas
    yield Figure("fracatlas_accepted", "fractured accepted, FracAtlas", FOLDS, judge.share(accepted, chosen), 0.50)
    for label, mask, aim in (("fisura", judge.fisura, 0.70), ("fractura", judge.fractura, 0.95)):
        right = judge.share(judge.right, mask & accepted)
        yield Figure(f"{label}_right", f"right class among accepted {label}", FOLDS, right, aim)


def calibration_figures(judge: Judge) -> Iterator[Figure]:
    """Yield the calibration errors of `confidence`; untyped fractures have no truth to compare with."""
    truth = ~(judge.labels == "fracture_untyped")
    scores = judge.outcome.confidence
    for key, name, chosen, aim in (
        ("ece", "of all", truth, 0.02),
        ("ece_accepted", "of the accepted", truth & judge.outcome.accepted, 0.04),
    ):
        excess = judge.estimate(
            lambda rows: excess_calibration_error(scores[rows], judge.right[rows], repeats=20), chosen
        )
        whole = judge.estimate(lambda rows: calibration_error(scores[rows], judge.right[rows]), chosen)
        title = f"calibration error of confidence {name}"
        yield Figure(key, f"{title}, less a perfect model's", FOLDS, excess, aim, at_most=True)
        yield Figure(f"{key}_whole", f"{title}, as it is", FOLDS, whole)


def heatmap_figures(judge: Judge, size: tuple[int, int]) -> Iterator[Figure]:
    """Yield how often the drawn map's peak is at a radiologist's box, and how often the image's centre is."""
    chosen = judge.fractured & (judge.sources == "fracatlas") & np.array([bool(entry.boxes) for entry in judge.entries])
    if chosen.any():
        targets = judge.outcome.probabilities[:, :2].argmax(axis=1)
        hits = peak_hits(judge.entries, judge.outcome.evidence, targets, size)
        yield Figure("peak_hit", "heat map's peak at a radiologist's box", FOLDS, judge.share(hits, chosen), 0.60)
        centre = judge.share(centre_hits(judge.entries), chosen)
        yield Figure("centre_hit", "for comparison: the image's centre at a box", FOLDS, centre)


def robustness_figures(judge: Judge) -> Iterator[Figure]:
    """Yield the AUC that each kind of damage costs, type and fracture apart; the draws of groups are paired."""
    bones = (judge.fractured | judge.normal) & (judge.sources == "fracatlas")
    raw, entries = judge.outcome.raw, judge.entries
    for damage in _scored(judge):
        known, kind = log_odds(cross_calibrate(raw, entries, load_raw(judge.scores, entries, damage)))
        aim = 0.05 if damage == "half_resolution" else 0.02
        lost = judge.estimate(_loss(judge.kind, kind, judge.fisura), judge.typed)
        yield Figure(f"lost_type_{damage}", f"{damage}: AUC lost, type", FOLDS, lost, aim, at_most=True)
        lost = judge.estimate(_loss(judge.known, known, judge.fractured), bones)
        yield Figure(
            f"lost_fracture_{damage}", f"{damage}: AUC lost, fractured in FracAtlas", FOLDS, lost, aim, at_most=True
        )


def transfer_figures(judge: Judge) -> Iterator[Figure]:
    """Yield what is left on sources that training never saw: AUC of the type, and rejection of `other`.

    A split that was not trained for this recipe yields nothing.
    """
    calibration = fit_calibration(judge.outcome.raw, judge.entries)
    threshold = choose_threshold(confidence(calibration.apply(judge.outcome.raw)), judge.entries)
    left_out = {
        source: others
        for source, others in plan_left_out(judge.entries).items()
        if _has(judge, f"without_{source}", PLAIN)
    }
    said = {source: calibration.apply(_spread(judge, f"without_{source}")) for source in left_out}
    kinds = {source: log_odds(scores)[1] for source, scores in said.items()}
    title = "fisura against fractura, AUC"
    for source, kind in kinds.items():
        chosen = judge.typed & (judge.sources == source)
        auc_there = judge.estimate(_auc_of(kind, judge.fisura), chosen)
        yield Figure(f"transfer_{source}", f"{title}, {source}", "trained without this source", auc_there)
    if kinds:
        chosen = judge.typed & np.isin(judge.sources, list(kinds))
        mean = judge.estimate(_mean_auc(kinds, judge), chosen)
        yield Figure("transfer_mean", f"{title}, mean of these sources", "each trained without it", mean, 0.72)
    for source, others in left_out.items():
        rejected = confidence(said[source]) < threshold
        for other in others:
            chosen = judge.other & (judge.sources == other)
            if not chosen.any():
                continue
            split = f"trained without {' and '.join(others)}"
            share_there = judge.share(rejected, chosen)
            yield Figure(f"left_out_{other}", f"`other` rejected, {other}", split, share_there, 0.95)


def part_figures(judge: Judge) -> Iterator[Figure]:
    """Yield the figures per source, tier and body part, where there are enough images to say anything."""
    parts = {f"source {name}": judge.sources == name for name in sorted(set(judge.sources))}
    parts |= {f"tier {name}": judge.core == (name == "core") for name in ("core", "secondary")}
    bodies = sorted({part for entry in judge.entries for part in entry.body_part.split("+") if part})
    for body in bodies:
        parts[f"body part {body}"] = np.array([body in entry.body_part.split("+") for entry in judge.entries])
    for name, chosen in parts.items():
        yield from _aucs_of(judge, name, chosen)
        yield from _shares_of(judge, name, chosen)
    fracatlas = judge.sources == "fracatlas"
    for label in ("fisura", "fractura", "fracture_untyped"):
        images = fracatlas & ((judge.labels == label) | judge.normal)
        if _are_enough(images & judge.fractured, images & judge.normal):
            name = f"source fracatlas: {label} against normal, AUC"
            yield Figure(f"fracture_auc, {label}", name, FOLDS, judge.fracture_auc(images))


def _aucs_of(judge: Judge, name: str, chosen: Bools) -> Iterator[Figure]:
    if _are_enough(chosen & judge.fisura, chosen & judge.fractura):
        yield Figure(f"type_auc, {name}", f"{name}: fisura against fractura, AUC", FOLDS, judge.type_auc(chosen))
    if _are_enough(chosen & judge.fractured, chosen & judge.normal):
        yield Figure(
            f"fracture_auc, {name}", f"{name}: fractured against normal, AUC", FOLDS, judge.fracture_auc(chosen)
        )


def _shares_of(judge: Judge, name: str, chosen: Bools) -> Iterator[Figure]:
    accepted = judge.outcome.accepted
    answers = [(label, "accepted", accepted) for label in ("fisura", "fractura", "fracture_untyped")]
    answers += [(label, "rejected", ~accepted) for label in ("normal", "other")]
    for label, answer, hits in answers:
        images = chosen & (judge.labels == label)
        if _are_enough(images):
            yield Figure(f"{label}_{answer}, {name}", f"{name}: {label} {answer}", FOLDS, judge.share(hits, images))


def _are_enough(*kinds: Bools) -> bool:
    return min(int(kind.sum()) for kind in kinds) >= _MIN_IMAGES


def _balanced(judge: Judge, cuts: Floats) -> Estimate:
    called = judge.kind > cuts
    return judge.estimate(lambda rows: balanced_accuracy(called[rows], judge.fisura[rows]), judge.typed)


def _cuts(judge: Judge) -> Floats:
    """Return the log-odds of fisura among the typed of the other folds: the cut at which both classes weigh alike."""
    folds = np.array([entry.fold for entry in judge.entries])
    cuts = np.zeros(len(folds))
    for fold in np.unique(folds):
        fisura = judge.fisura[judge.typed & (folds != fold)].mean()
        cuts[folds == fold] = np.log(fisura / (1 - fisura))
    return cuts


def _auc_of(scores: Floats, positive: Bools) -> Callable[[Rows], float]:
    return lambda rows: auc(scores[rows], positive[rows])


def _mean_auc(kinds: dict[str, Floats], judge: Judge) -> Callable[[Rows], float]:
    def metric(rows: Rows) -> float:
        parts = {source: rows[judge.sources[rows] == source] for source in kinds}
        return float(np.mean([auc(kind[parts[source]], judge.fisura[parts[source]]) for source, kind in kinds.items()]))

    return metric


def _loss(whole: Floats, damaged: Floats, positive: Bools) -> Callable[[Rows], float]:
    return lambda rows: auc(whole[rows], positive[rows]) - auc(damaged[rows], positive[rows])


def _scored(judge: Judge) -> list[str]:
    """List the damages that every fold was scored under."""
    folds = {entry.fold for entry in judge.entries}
    return [damage for damage in DAMAGES if all(_has(judge, f"fold_{fold}", damage) for fold in folds)]


def _has(judge: Judge, split: str, view: str) -> bool:
    return (judge.scores / f"{split}.{view}.npz").exists()


def _spread(judge: Judge, split: str) -> NDArray[np.float32]:
    """Return a split's plain scores at their rows of the manifest, thirds elsewhere. (n, 3)."""
    scores = np.full((len(judge.entries), 3), 1 / 3, np.float32)
    part = load_split(judge.scores, split)
    scores[part["rows"]] = part["probabilities"]
    return scores
