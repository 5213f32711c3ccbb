"""Every figure of the model card: the same measure for sources left out, for folds, and for the network before."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from training.calibration import PRIOR, shift
from training.conformal import true_classes
from training.heatmap import centre_hits, drawn_share, hit_boxes, peak_hits
from training.manifest import Entry
from training.metrics import (
    Bools,
    Estimate,
    Floats,
    Metric,
    auc,
    bootstrap,
    calibration_error,
    excess_calibration_error,
    share,
)
from training.outcome import Answers, Run, load_split
from training.splits import Rows
from training.views import DAMAGES, PLAIN

Column = Literal["left_out", "folds", "left_out_before", "folds_before"]
COLUMNS: Final[Mapping[Column, str]] = {
    "left_out": "source left out",
    "left_out_before": "before",
    "folds": "folds",
    "folds_before": "before",
}
OVERCONFIDENT: Final = 0.9
MIN_FILMS_FOR_AIM: Final = 30  # with fewer, chance alone meets an aim or misses it
BALANCED_CUT: Final = float(np.log(PRIOR["fisura"] / PRIOR["fractura"]))

_MIN_FILMS: Final = 10  # a part with fewer of a kind gets no figure
_CLINICS: Final = ("multan_wrist", "fracatlas", "eeeh_lowerleg")  # in the order of the card; others follow

Measure = Callable[[Answers], Metric]
RegionMeasure = Callable[[Sequence[Entry], NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Aim:
    """What the project set itself: a figure of at least, or at most, this."""

    value: float
    at_most: bool = False

    def is_met(self, estimate: Estimate) -> bool:
        """Return whether the figure itself, not its interval, reaches the aim; never that of a few films."""
        reached = estimate.value <= self.value if self.at_most else estimate.value >= self.value
        return reached and estimate.images >= MIN_FILMS_FOR_AIM

    def compare(self, estimate: Estimate) -> str:
        """Return what the card says of the aim: met, missed, or that a few films cannot tell."""
        if estimate.images < MIN_FILMS_FOR_AIM:
            return "too few films to say"
        return "met" if self.is_met(estimate) else "missed"


@dataclass(frozen=True)
class Figure:
    """One line of the card: estimates by column; a column without one was not measured."""

    key: str
    name: str
    estimates: Mapping[Column, Estimate]

    @property
    def aims(self) -> Mapping[Column, Aim]:
        """Return what the project set itself, by column."""
        if self.key.startswith("lost_"):
            return {"folds": Aim(0.05 if self.key.endswith("half_resolution") else 0.02, at_most=True)}
        return AIMS.get(self.key, {})


AIMS: Final[Mapping[str, Mapping[Column, Aim]]] = {
    "fracture_auc_multan_wrist": {"left_out": Aim(0.72)},
    "fracture_auc_fracatlas": {"left_out": Aim(0.72), "folds": Aim(0.87)},
    "fracture_auc_eeeh_lowerleg": {"left_out": Aim(0.80)},
    "normal_rejected_multan_wrist": {"left_out": Aim(0.70)},
    "normal_rejected_fracatlas": {"left_out": Aim(0.70), "folds": Aim(0.93)},
    "fractured_accepted_multan_wrist": {"left_out": Aim(0.50)},
    "fractured_accepted_fracatlas": {"left_out": Aim(0.50), "folds": Aim(0.60)},
    "overconfident_multan_wrist": {"left_out": Aim(0.05, at_most=True)},
    "overconfident_fracatlas": {"left_out": Aim(0.05, at_most=True)},
    "overconfident_eeeh_lowerleg": {"left_out": Aim(0.05, at_most=True)},
    "ece_confidence_multan_wrist": {"left_out": Aim(0.10, at_most=True)},
    "ece_fractured_multan_wrist": {"left_out": Aim(0.10, at_most=True)},
    "ece_confidence_shifted_multan_wrist": {"left_out": Aim(0.10, at_most=True)},
    "ece_fractured_shifted_multan_wrist": {"left_out": Aim(0.10, at_most=True)},
    "type_auc_mean": {"left_out": Aim(0.80)},
    "type_auc": {"folds": Aim(0.87)},
    "fisura_right_balanced": {"folds": Aim(0.70)},
    "fractura_right_balanced": {"folds": Aim(0.90)},
    "other_rejected_imagenet_samples": {"left_out": Aim(0.95)},
    "peak_at_box_fracatlas": {"folds": Aim(0.65)},
    "spot_for_each_box_fracatlas": {"folds": Aim(0.50)},
    "coverage_fisura": {"left_out": Aim(0.85), "folds": Aim(0.87)},
    "coverage_fractura": {"left_out": Aim(0.85), "folds": Aim(0.87)},
    "coverage_none": {"left_out": Aim(0.85), "folds": Aim(0.87)},
}


class Judge:
    """Holds what all figures are made of: what the films show, one row each, and the answers by column."""

    def __init__(self, entries: Sequence[Entry], answers: Mapping[Column, Answers]) -> None:
        self.entries, self.answers = entries, answers
        self.labels = np.array([entry.label for entry in entries])
        self.sources = np.array([entry.source for entry in entries])
        self.typed = np.array([entry.is_typed for entry in entries], bool)
        self.fractured = np.array([entry.is_fractured for entry in entries], bool)
        self.normal, self.other = self.labels == "normal", self.labels == "other"
        self.bone = ~self.other
        self.medical = self.other & ~np.array([entry.is_photograph for entry in entries], bool)
        self.fisura = self.labels == "fisura"
        self.certain = self.typed | ~self.fractured  # whether it is known which answer would be right
        self.groups = [entry.group for entry in entries]

    @property
    def clinics(self) -> list[str]:
        """List the sources that hold enough fractured and normal films to be judged by themselves."""
        names = [*_CLINICS, *sorted(set(self.sources.tolist()) - set(_CLINICS))]
        return [name for name in names if self._are_enough(self.fractured, self.normal, within=self.sources == name)]

    def compare(self, key: str, name: str, measure: Measure, chosen: Bools, least: int = 1) -> Figure:
        """Compute one measure in every column, over the chosen films that were judged there, if they are enough."""
        estimates: dict[Column, Estimate] = {}
        for column, answers in self.answers.items():
            rows = chosen & answers.judged
            if rows.sum() >= least:
                estimate = bootstrap(measure(answers), np.flatnonzero(rows), self.groups)
                estimates |= {column: estimate} if np.isfinite(estimate.value) else {}
        return Figure(key, name, estimates)

    def estimate(self, metric: Metric, chosen: Bools) -> Estimate:
        """Compute a metric of rows, with its interval, over the chosen films."""
        return bootstrap(metric, np.flatnonzero(chosen), self.groups)

    def right(self, answers: Answers, cut: float = 0.0) -> Bools:
        """Return where the class on this side of the cut of log-odds is the true one. (n,)."""
        return np.asarray(np.where(answers.type > cut, self.fisura, self.labels == "fractura"), np.bool_)

    def fracture_auc(self, answers: Answers) -> Metric:
        """Return the metric: AUC of fractured against normal."""
        return lambda rows: auc(answers.fractured[rows], self.fractured[rows])

    def type_auc(self, answers: Answers) -> Metric:
        """Return the metric: AUC of fisura against fractura."""
        return lambda rows: auc(answers.type[rows], self.fisura[rows])

    def mean(self, measure: Measure, sources: Sequence[str]) -> Measure:
        """Return the mean of a measure over sources, each weighing alike; over those alone that were judged."""

        def measure_mean(answers: Answers) -> Metric:
            metric = measure(answers)
            judged = [name for name in sources if (answers.judged & (self.sources == name)).any()]

            def mean(rows: Rows) -> float:
                return float(np.mean([metric(rows[self.sources[rows] == name]) for name in judged]))

            return mean

        return measure_mean

    def _are_enough(self, *kinds: Bools, within: Bools, least: int = 30) -> bool:
        return min(int((kind & within).sum()) for kind in kinds) >= least

    def parts(self) -> Iterator[tuple[str, Bools]]:
        """Yield the sources, tiers and body parts by name."""
        for name in sorted(set(self.sources.tolist())):
            yield f"source {name}", self.sources == name
        tiers = np.array([entry.tier for entry in self.entries])
        for name in ("core", "secondary"):
            yield f"tier {name}", tiers == name
        bodies = [set(entry.body_part.replace("/", "+").split("+")) - {""} for entry in self.entries]
        for name in sorted(set().union(*bodies)):
            yield f"body part {name}", np.array([name in body for body in bodies])

    def has_enough(self, *kinds: Bools) -> bool:
        """Return whether every kind has enough films to give a figure."""
        return min(int(kind.sum()) for kind in kinds) >= _MIN_FILMS


def accepted(answers: Answers) -> Metric:
    """Return the metric: share answered with a class."""
    return lambda rows: share(answers.accepted[rows])


def rejected(answers: Answers) -> Metric:
    """Return the metric: share answered with none of the classes."""
    return lambda rows: share(~answers.accepted[rows])


def overconfident(answers: Answers) -> Metric:
    """Return the metric: share with a probability of being fractured above 90 %."""
    return lambda rows: share(answers.fractured[rows] > OVERCONFIDENT)


def first_figures(judge: Judge) -> Iterator[Figure]:
    """Yield the rows of the card's first table, in the order of the project's own."""
    yield from _recognition(judge)
    yield from _calibration(judge, "multan_wrist")
    yield from _types(judge)
    yield from _others(judge)
    yield from coverage_figures(judge)


def calibration_figures(judge: Judge) -> Iterator[Figure]:
    """Yield the calibration errors of each source that can be judged by itself, and of all films in folds."""
    for name in judge.clinics:
        if name != "multan_wrist":
            yield from _calibration(judge, name)
    yield judge.compare(
        "ece_folds", "calibration error of confidence, all films", _confidence_error(judge), judge.certain
    )


def coverage_figures(judge: Judge) -> Iterator[Figure]:
    """Yield how often the true class is among those that cannot be excluded."""
    truth = true_classes(judge.entries)
    for index, (name, label) in enumerate(zip(PRIOR, ("fisura", "fractura", "none (normal bones)"), strict=True)):

        def measure(answers: Answers, index: int = index) -> Metric:
            covered = np.where(np.isfinite(answers.quantiles[:, index]), answers.possible[:, index], np.nan)
            return lambda rows: float(np.mean(covered[rows]))

        title = f"`possible` holds the true class: {label}"
        yield judge.compare(f"coverage_{name}", title, measure, truth == index)
    yield judge.compare("possible_size", "names in `possible`, mean, all bones", _mean_size, judge.bone)


def region_figures(judge: Judge, run: Run, side: int, scale: tuple[float, float]) -> Iterator[Figure]:
    """Yield how often what the service draws meets a radiologist's boxes; `scale` is the evidence drawn as 0 and 1."""
    judged = np.isfinite(run.strongest)
    boxed = judged & judge.fractured & np.array([bool(entry.boxes) for entry in judge.entries], bool)
    measures: Mapping[tuple[str, str], RegionMeasure] = {
        ("peak_at_box", "strongest spot, drawn or too faint, at a radiologist's box"): lambda entries, evidence: (
            peak_hits(entries, evidence, side)
        ),
        ("spot_for_each_box", "share of a film's boxes with a spot drawn at them"): lambda entries, evidence: hit_boxes(
            entries, evidence, side, scale
        ),
        ("centre_at_box", "for comparison: the film's centre at a box"): lambda entries, _: centre_hits(entries),
    }
    for source in sorted(set(judge.sources[boxed].tolist()), key=lambda name: (name != "fracatlas", name)):
        chosen = boxed & (judge.sources == source)
        entries = [judge.entries[row] for row in np.flatnonzero(chosen).tolist()]
        for (key, name), measure in measures.items() if judge.has_enough(chosen) else ():
            hits = np.full(len(boxed), np.nan)
            hits[chosen] = measure(entries, run.evidence[chosen])
            estimates: dict[Column, Estimate] = {"folds": judge.estimate(_mean_of(hits), chosen)}
            yield Figure(f"{key}_{source}", f"{name}: {source}", estimates)
    if (judge.normal & judged).any():
        drawn = _mean_of(drawn_share(run.strongest, scale))
        shown: dict[Column, Estimate] = {"folds": judge.estimate(drawn, judge.normal & judged)}
        yield Figure("drawn_on_normal", "normal films on which a spot would be drawn", shown)


def damage_figures(judge: Judge, folder: Path) -> Iterator[Figure]:
    """Yield the AUC that each kind of damage costs, in folds, draws of groups paired; one not scored yields none."""
    folds = [fold for fold in sorted({entry.fold for entry in judge.entries}) if _is_scored(folder, fold, PLAIN)]
    plain = _raw_scores(folder, folds, PLAIN, len(judge.entries))
    for damage in DAMAGES:
        if not all(_is_scored(folder, fold, damage) for fold in folds):
            continue
        damaged = _raw_scores(folder, folds, damage, len(judge.entries))
        bones = judge.bone & (judge.sources == "fracatlas")
        for key, name, index, positive, chosen in (
            ("fracture", "fractured against normal in FracAtlas", 0, judge.fractured, bones),
            ("type", "type", 1, judge.fisura, judge.typed),
        ):
            loss = judge.estimate(_loss(plain[index], damaged[index], positive), chosen)
            yield Figure(f"lost_{key}_{damage}", f"{damage}: AUC lost, {name}", {"folds": loss})


def part_figures(judge: Judge) -> Iterator[Figure]:
    """Yield the figures per source, tier and body part, where there are enough films to say anything."""
    for name, part in judge.parts():
        if judge.has_enough(part & judge.fisura, part & judge.typed & ~judge.fisura):
            title = f"{name}: fisura against fractura, AUC"
            yield judge.compare(f"type_auc, {name}", title, judge.type_auc, part & judge.typed, _MIN_FILMS)
        if judge.has_enough(part & judge.fractured, part & judge.normal):
            title = f"{name}: fractured against normal, AUC"
            yield judge.compare(f"fracture_auc, {name}", title, judge.fracture_auc, part & judge.bone, _MIN_FILMS)
        for label, answer, measure in (
            ("fisura", "accepted", accepted),
            ("fractura", "accepted", accepted),
            ("fracture_untyped", "accepted", accepted),
            ("normal", "rejected", rejected),
            ("other", "rejected", rejected),
        ):
            films = part & (judge.labels == label)
            if judge.has_enough(films):
                yield judge.compare(
                    f"{label}_{answer}, {name}", f"{name}: {label} {answer}", measure, films, _MIN_FILMS
                )


def _recognition(judge: Judge) -> Iterator[Figure]:
    """Yield, per source and as their mean, AUC, rejected and accepted at the threshold, and the overconfident share."""
    for key, name, measure, kind in (
        ("fracture_auc", "fractured against normal, AUC", judge.fracture_auc, judge.bone),
        ("normal_rejected", "normal rejected", rejected, judge.normal),
        ("fractured_accepted", "fractured accepted", accepted, judge.fractured),
        ("overconfident", "normal with P(fractured) above 90 %", overconfident, judge.normal),
    ):
        for source in judge.clinics:
            chosen = kind & (judge.sources == source)
            yield judge.compare(f"{key}_{source}", f"{name}: {source}", measure, chosen)
        if len(judge.clinics) > 1:
            chosen, mean = kind & np.isin(judge.sources, judge.clinics), judge.mean(measure, judge.clinics)
            yield judge.compare(f"{key}_mean", f"{name}: mean of these sources", mean, chosen)


def _calibration(judge: Judge, source: str) -> Iterator[Figure]:
    there = judge.bone & (judge.sources == source)
    if source not in judge.clinics:
        return
    confident, fractured = _confidence_error(judge), _fractured_error(judge)
    own = _prevalence(judge, there)
    for key, name, measure, chosen in (
        ("ece_confidence", "confidence", confident, there & judge.certain),
        ("ece_fractured", "fractured or not", fractured, there),
    ):
        title = f"calibration error on {source}, {name}"
        yield judge.compare(f"{key}_{source}", f"{title}, as it stands", measure, chosen)
        shifted = _after_shift(measure, own)
        yield judge.compare(f"{key}_shifted_{source}", f"{title}, shifted to its own prevalence", shifted, chosen)
    excess = _after_shift(_fractured_error(judge, excess=True), own)
    title = f"calibration error on {source}, fractured or not, shifted, less a perfect model's"
    yield judge.compare(f"ece_excess_{source}", title, excess, there)


def _types(judge: Judge) -> Iterator[Figure]:
    names = [
        name
        for name in sorted(set(judge.sources[judge.typed].tolist()))
        if judge.has_enough(
            judge.fisura & (judge.sources == name), judge.typed & ~judge.fisura & (judge.sources == name)
        )
    ]
    title = "fisura against fractura, AUC"
    for name in names if len(names) > 1 else ():
        yield judge.compare(
            f"type_auc_{name}", f"{title}: {name}", judge.type_auc, judge.typed & (judge.sources == name)
        )
    if names:
        chosen, mean = judge.typed & np.isin(judge.sources, names), judge.mean(judge.type_auc, names)
        yield judge.compare("type_auc_mean", f"{title}: mean of these sources", mean, chosen)
    yield judge.compare("type_auc", f"{title}: all sources together", judge.type_auc, judge.typed)
    for label in ("fisura", "fractura"):
        for key, cut_name, cut in (("balanced", "a balanced cut", BALANCED_CUT), ("argmax", "argmax", 0.0)):
            name = f"right class among accepted {label}, at {cut_name}"
            yield judge.compare(f"{label}_right_{key}", name, _right_measure(judge, cut), judge.labels == label)


def _others(judge: Judge) -> Iterator[Figure]:
    names = sorted(set(judge.sources[judge.other].tolist()), key=lambda name: (name != "imagenet_samples", name))
    for name in names:
        chosen = judge.other & (judge.sources == name)
        yield judge.compare(f"other_rejected_{name}", f"`other` rejected: {name}", rejected, chosen)


def _right_measure(judge: Judge, cut: float) -> Measure:
    def measure(answers: Answers) -> Metric:
        right, taken = judge.right(answers, cut), answers.accepted
        return lambda rows: share(right[rows[taken[rows]]])

    return measure


def _confidence_error(judge: Judge) -> Measure:
    def measure(answers: Answers) -> Metric:
        right, stated = judge.right(answers), answers.confidence
        return lambda rows: calibration_error(stated[rows], right[rows])

    return measure


def _fractured_error(judge: Judge, excess: bool = False) -> Measure:
    def measure(answers: Answers) -> Metric:
        if excess:
            return lambda rows: excess_calibration_error(answers.fractured[rows], judge.fractured[rows], repeats=20)
        return lambda rows: calibration_error(answers.fractured[rows], judge.fractured[rows])

    return measure


def _after_shift(measure: Measure, prevalence: dict[str, float]) -> Measure:
    def measure_shifted(answers: Answers) -> Metric:
        return measure(Answers(shift(answers.probabilities, prevalence), answers.thresholds, answers.quantiles))

    return measure_shifted


def _prevalence(judge: Judge, there: Bools) -> dict[str, float]:
    """Return the shares of fisura, fractura and none among these films; fractures of unknown type as the typed ones."""
    fractured, typed = judge.fractured[there].mean(), judge.typed & there
    fisura = judge.fisura[typed].mean() if typed.any() else PRIOR["fisura"] / (1 - PRIOR["none"])
    return {
        "fisura": float(fractured * fisura),
        "fractura": float(fractured * (1 - fisura)),
        "none": float(1 - fractured),
    }


def _mean_size(answers: Answers) -> Metric:
    sizes = np.where(np.isfinite(answers.quantiles[:, 0]), answers.possible.sum(axis=1), np.nan)
    return lambda rows: float(np.mean(sizes[rows]))


def _mean_of(values: NDArray[Any]) -> Metric:
    return lambda rows: float(np.mean(values[rows]))


def _loss(whole: Floats, damaged: Floats, positive: Bools) -> Metric:
    return lambda rows: auc(whole[rows], positive[rows]) - auc(damaged[rows], positive[rows])


def _is_scored(folder: Path, fold: int, view: str) -> bool:
    return (folder / f"fold_{fold}.{view}.npz").exists()


def _raw_scores(folder: Path, folds: Sequence[int], view: str, count: int) -> tuple[Floats, Floats]:
    known: NDArray[np.float64] = np.full(count, np.nan)
    kind: NDArray[np.float64] = np.full(count, np.nan)
    for fold in folds:
        part = load_split(folder, f"fold_{fold}", view)
        known[part["rows"]], kind[part["rows"]] = part["known"], part["type"]
    return known, kind
