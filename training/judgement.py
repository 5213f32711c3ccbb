"""Labels and answers -> figures with intervals: how good one model is on one folder, or how two compare on it."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from model_loader import Classifier
from prediction import HUNDREDTHS, UNFAMILIAR, shift
from training.manifest import UNTYPED, Entry
from training.metrics import (
    Bools,
    Estimate,
    Floats,
    Metric,
    auc,
    bootstrap,
    bootstrap_share,
    calibration_error,
    excess_calibration_error,
    share,
    widen_at_edge,
)
from training.scoring import Answer

MIN_FILMS: Final = 10  # a figure that rests on fewer is too few to say
PARTS_OF_NUMBERS: Final = 4  # that a column of many numbers is cut into
MAX_PARTS: Final = 20
_STEP: Final = 1 / HUNDREDTHS  # the smallest difference between two confidences

Aim = Literal["sensitivity", "specificity"]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Figure:
    """A figure of `films` films, the rarer kind where it needs two; no estimate where they are too few to say."""

    key: str
    name: str
    films: int
    estimate: Estimate | None


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold that reaches a wanted share on these films, if one does, and what it does."""

    aim: Aim
    wanted: float
    films: int
    threshold: Estimate | None
    sensitivity: Figure | None = None
    specificity: Figure | None = None


class Labels:
    """What films show, one row for each."""

    def __init__(self, entries: Sequence[Entry], class_names: Sequence[str]) -> None:
        self.entries, self.class_names = entries, tuple(class_names)
        labels = np.array([entry.label for entry in entries], dtype=object)
        self.kind = np.full(len(entries), -1)
        for index, name in enumerate(class_names):
            self.kind[labels == name] = index
        self.typed = self.kind >= 0
        self.fractured = self.typed | (labels == UNTYPED)
        self.normal, self.other = labels == "normal", labels == "other"
        self.bone, self.certain = self.fractured | self.normal, labels != UNTYPED
        self.groups = [entry.group for entry in entries]
        self.counts = Counter(labels.tolist())

    def parts(self, column: str) -> Iterator[tuple[str, Bools]]:
        """Yield the values of a manifest's column, the most frequent first; many numbers in quarters."""
        texts = np.array([entry.columns.get(column, "") for entry in self.entries], dtype=object)
        numbers = _as_numbers(texts)
        if numbers is not None and len(np.unique(numbers)) > MAX_PARTS:
            edges = np.quantile(numbers, np.linspace(0, 1, PARTS_OF_NUMBERS + 1))
            quarter = np.searchsorted(edges[1:-1], numbers, side="left")
            for index in range(PARTS_OF_NUMBERS):
                inside = quarter == index
                if inside.any():
                    yield f"{numbers[inside].min():g} to {numbers[inside].max():g}", inside
            return
        for text, _ in Counter(texts.tolist()).most_common(MAX_PARTS):
            yield text or "(empty)", texts == text


class Answers:
    """What one model answers for the same films, one row for each."""

    def __init__(self, classifier: Classifier, answers: Sequence[Answer]) -> None:
        names = classifier.class_names
        self.has_none, self.class_names = classifier.has_none_output, names
        self.outputs = np.array([answer.outputs for answer in answers], float).reshape(len(answers), -1)
        verdicts = [answer.verdict for answer in answers]
        self.confidence = np.array([verdict.confidence for verdict in verdicts]) / HUNDREDTHS
        self.accepted = np.array([verdict.accepted for verdict in verdicts], bool)
        self.best = np.array([verdict.best for verdict in verdicts])
        self.doubtful = np.array([verdict.certainty == "doubtful" for verdict in verdicts], bool)
        self.familiarity = np.array([answer.familiarity for answer in answers])
        self.is_learnt = np.array([answer.is_learnt for answer in answers], bool)
        possible = [verdict.possible for verdict in verdicts]
        known = (*names, "none")
        self.possible = np.array([[name in (found or ()) for name in known] for found in possible], bool)
        self.has_possible = np.array([found is not None for found in possible], bool)
        prior = classifier.describe()["prior"]
        stated = classifier.prevalence.shares if classifier.prevalence else prior
        self.prior = np.array([stated[name] for name in stated]) if stated and self.has_none else None

    @property
    def fractured(self) -> Floats:
        """Return the score of being fractured: 1 less the output for none, or the confidence where none lacks. (n,)."""
        return np.asarray(1 - self.outputs[:, -1] if self.has_none else self.confidence)

    @cached_property
    def type(self) -> Floats:
        """Return the log-odds of the first of two classes. (n,)."""
        first, second = np.clip(self.outputs[:, :2].T, 1e-12, 1)
        return np.asarray(np.log(first / second))


def judge_model(labels: Labels, answers: Answers, prevalence: float | None) -> dict[str, list[Figure]]:
    """Return every figure that answers give, by section of the report."""
    return {
        "verdicts": list(_verdicts(labels, answers, prevalence)),
        "scores": list(_scores(labels, answers)),
        "certainty": list(_certainty(labels, answers)),
    }


def judge_parts(labels: Labels, answers: Answers, column: str) -> Iterator[tuple[str, list[Figure]]]:
    """Yield sensitivity, specificity and AUC for each value of a column."""
    for name, part in labels.parts(column):
        yield (
            name,
            [
                _share("sensitivity", "sensitivity", answers.accepted, labels.fractured & part, labels),
                _share("specificity", "specificity", ~answers.accepted, labels.normal & part, labels),
                _fracture_auc(labels, answers, part),
            ],
        )


def compare(labels: Labels, first: Answers, second: Answers) -> Iterator[Figure]:
    """Yield how much the first model is ahead of the second on the same films; both are redrawn together."""
    everything = np.ones(len(labels.entries), bool)
    for key, name, films, metrics in (
        ("sensitivity", "sensitivity", labels.fractured, [_mean(a.accepted) for a in (first, second)]),
        ("specificity", "specificity", labels.normal, [_mean(~a.accepted) for a in (first, second)]),
        ("other_rejected", "`other` rejected", labels.other, [_mean(~a.accepted) for a in (first, second)]),
    ):
        yield _figure(key, name, films, films.sum(), labels, _difference(*metrics))
    for key, name, films, positive, scores in _rankings(labels, first, second):
        metrics = [_auc(score, positive) for score in scores]
        yield _figure(key, name, films, _rarer(positive, films), labels, _difference(*metrics))
    if first.has_none and second.has_none:
        metrics = [_calibration(a.fractured, labels.fractured) for a in (first, second)]
        name = "calibration error, fractured or not"
        yield _figure("calibration_fractured", name, labels.bone, labels.bone.sum(), labels, _difference(*metrics))
    same = np.array(first.accepted == second.accepted) & (~first.accepted | (first.best == second.best))
    yield _share("same_verdict", "films with the same verdict from both", same, everything, labels)


def find_operating_point(labels: Labels, answers: Answers, aim: Aim, wanted: float) -> OperatingPoint:
    """Find the threshold that reaches a wanted sensitivity, or specificity, with the least loss of the other."""
    films, choose = (
        (labels.fractured, _highest_threshold) if aim == "sensitivity" else (labels.normal, _lowest_threshold)
    )
    count = int(films.sum())
    threshold = choose(answers.confidence[films], wanted) if count else math.nan
    lowest = (
        0.0 if answers.has_none else 1 / len(answers.class_names) + _STEP / 2
    )  # the service refuses what never rejects
    if count < MIN_FILMS or not lowest <= threshold <= 1:
        return OperatingPoint(aim, wanted, count, None)
    accepted = answers.confidence >= threshold - _STEP / 2
    return OperatingPoint(
        aim,
        wanted,
        count,
        _bootstrap(lambda rows: choose(answers.confidence[rows], wanted), films, labels),
        _share("sensitivity", "sensitivity", accepted, labels.fractured, labels),
        _share("specificity", "specificity", ~accepted, labels.normal, labels),
    )


def list_thresholds(labels: Labels, answers: Answers) -> Iterator[tuple[float, Figure, Figure]]:
    """Yield sensitivity and specificity at ten thresholds, from accepting every film to accepting few."""
    for threshold in np.unique(np.round(np.quantile(answers.confidence[labels.bone], np.arange(0, 1, 0.1)), 4)):
        accepted = answers.confidence >= threshold - _STEP / 2
        yield (
            float(threshold),
            _share("sensitivity", "sensitivity", accepted, labels.fractured, labels),
            _share("specificity", "specificity", ~accepted, labels.normal, labels),
        )


def _verdicts(labels: Labels, answers: Answers, prevalence: float | None) -> Iterator[Figure]:
    accepted = answers.accepted
    yield _share("sensitivity", "sensitivity: fractured films accepted", accepted, labels.fractured, labels)
    for index, name in enumerate(labels.class_names):
        yield _share(f"accepted_{name}", f"{name} accepted", accepted, labels.kind == index, labels)
    yield _share("specificity", "specificity: normal films rejected", ~accepted, labels.normal, labels)
    yield _share("false_alarms", "false alarms: normal films accepted", accepted, labels.normal, labels)
    if labels.other.any():
        yield _share("other_rejected", "`other` rejected", ~accepted, labels.other, labels)
    for index, name in enumerate(labels.class_names):
        films = accepted & (labels.kind == index)
        yield _share(f"right_{name}", f"right class among accepted {name}", answers.best == index, films, labels)
    yield from _predictive_values(labels, accepted, prevalence)


def _predictive_values(labels: Labels, accepted: Bools, prevalence: float | None) -> Iterator[Figure]:
    """Yield the share of accepted films that are fractured, and of rejected ones that are not, by Bayes' theorem."""
    count = _rarer(labels.fractured, labels.bone)
    own = share(labels.fractured[labels.bone])
    at = own if prevalence is None else prevalence

    def rates(rows: Rows) -> tuple[float, float]:
        fractured = labels.fractured[rows]
        return share(accepted[rows[fractured]]), share(accepted[rows[~fractured]])

    def positive(rows: Rows) -> float:
        sensitivity, alarms = rates(rows)
        return _ratio(sensitivity * at, alarms * (1 - at))

    def negative(rows: Rows) -> float:
        sensitivity, alarms = rates(rows)
        return _ratio((1 - alarms) * (1 - at), (1 - sensitivity) * at)

    where = f"at a prevalence of {100 * at:.3g} %" + (", that of these films" if prevalence is None else "")
    for key, name, metric, answered in (
        ("ppv", f"positive predictive value {where}", positive, accepted),
        ("npv", f"negative predictive value {where}", negative, ~accepted),
    ):
        figure = _figure(key, name, labels.bone, count, labels, metric)
        yield _widened(figure, int((answered & labels.bone).sum()))


def _scores(labels: Labels, answers: Answers) -> Iterator[Figure]:
    yield _fracture_auc(labels, answers, labels.bone)
    for key, name, films, positive, scores in _rankings(labels, answers):
        if key == "type_auc":
            yield _auc_figure(key, name, scores[0], positive, films, labels)
    if answers.has_none:
        films, count = labels.bone, labels.bone.sum()
        metric = _calibration(answers.fractured, labels.fractured)
        yield _figure("calibration_fractured", "calibration error, fractured or not", films, count, labels, metric)
        if (shifted := _shift_to_own_prevalence(labels, answers)) is not None:
            name = "the same, shifted to the prevalence of these films"
            metric = _calibration(1 - shifted[:, -1], labels.fractured)
            yield _figure("calibration_shifted", name, films, count, labels, metric)
    right = np.asarray(answers.best == labels.kind)
    metric = _calibration(answers.confidence, right)
    name = "calibration error of the confidence"
    yield _figure("calibration_confidence", name, labels.certain, labels.certain.sum(), labels, metric)


def perfect_calibration_error(labels: Labels, answers: Answers) -> float:
    """Return the error, fractured or not, that a perfectly calibrated model has on as many films by chance."""
    stated, true = answers.fractured[labels.bone], labels.fractured[labels.bone]
    return calibration_error(stated, true) - excess_calibration_error(stated, true)


def _certainty(labels: Labels, answers: Answers) -> Iterator[Figure]:
    truth = np.where(labels.normal, len(labels.class_names), labels.kind)
    if answers.has_possible.any():
        for index, name in enumerate((*labels.class_names, "none")):
            if index < len(labels.class_names) or answers.has_none:
                films = (truth == index) & answers.has_possible
                title = f"`possible` holds the true class: {name}{' (normal)' if name == 'none' else ''}"
                yield _share(f"coverage_{name}", title, answers.possible[:, index], films, labels)
        films = labels.bone & answers.has_possible
        sizes = answers.possible.sum(axis=1).astype(float)
        metric = _mean(sizes)
        yield _figure("possible_size", "names in `possible`, mean", films, films.sum(), labels, metric)
    yield _share("doubtful", "films called doubtful", answers.doubtful, labels.bone, labels)
    if np.isfinite(answers.familiarity).any():
        unfamiliar = answers.familiarity < UNFAMILIAR
        for key, name, films in (
            ("unfamiliar", "films called unfamiliar: bones", labels.bone),
            ("unfamiliar_other", "films called unfamiliar: `other`", labels.other),
        ):
            if films.any():
                yield _share(key, name, unfamiliar, films, labels)


def _rankings(labels: Labels, *models: Answers) -> Iterator[tuple[str, str, Bools, Bools, list[Floats]]]:
    """Yield what an AUC is made of: key, name, films, which are positive, each model's scores."""
    name = "AUC, fractured against normal"
    yield "fracture_auc", name, labels.bone, labels.fractured, [model.fractured for model in models]
    if len(labels.class_names) == 2:
        name = f"AUC of the type, {labels.class_names[0]} against {labels.class_names[1]}"
        yield "type_auc", name, labels.typed, labels.kind == 0, [model.type for model in models]


def _fracture_auc(labels: Labels, answers: Answers, part: Bools) -> Figure:
    key, name, films, positive, scores = next(_rankings(labels, answers))
    return _auc_figure(key, name, scores[0], positive, films & part, labels)


def _auc_figure(key: str, name: str, scores: Floats, positive: Bools, films: Bools, labels: Labels) -> Figure:
    rarer = _rarer(positive, films)
    return _widened(_figure(key, name, films, rarer, labels, _auc(scores, positive)), rarer)


def _shift_to_own_prevalence(labels: Labels, answers: Answers) -> Floats | None:
    """Shift the outputs from their prior to the shares of these films; types of unknown ones as in the prior."""
    if answers.prior is None or not labels.bone.any():
        return None
    fractured, typed = share(labels.fractured[labels.bone]), labels.typed & labels.bone
    of_types = answers.prior[:-1] / answers.prior[:-1].sum()
    if typed.any():
        of_types = np.array([share(labels.kind[typed] == index) for index in range(len(labels.class_names))])
    ratios = np.append(fractured * of_types, 1 - fractured) / answers.prior
    return np.array([shift(row, ratios) if (row * ratios).any() else row for row in answers.outputs])


def _highest_threshold(confidence: Floats, wanted: float) -> float:
    """Return the highest threshold that accepts at least the wanted share."""
    return float(np.sort(confidence)[::-1][_enough(len(confidence), wanted) - 1])


def _lowest_threshold(confidence: Floats, wanted: float) -> float:
    """Return the lowest threshold that rejects at least the wanted share."""
    return round(float(np.sort(confidence)[_enough(len(confidence), wanted) - 1]) + _STEP, 4)


def _enough(count: int, wanted: float) -> int:
    return max(1, math.ceil(wanted * count - 1e-9))


def _share(key: str, name: str, hits: Bools, films: Bools, labels: Labels) -> Figure:
    count = int(films.sum())
    enough = count >= MIN_FILMS
    return Figure(key, name, count, bootstrap_share(hits, np.flatnonzero(films), labels.groups) if enough else None)


def _figure(key: str, name: str, films: Bools, count: Any, labels: Labels, metric: Metric) -> Figure:
    """Return a figure of these films unless `count`, that of the rarest kind it needs, is too small."""
    estimate = _bootstrap(metric, films, labels) if count >= MIN_FILMS else None
    known = estimate is not None and math.isfinite(estimate.value)
    return Figure(key, name, int(count), estimate if known else None)


def _bootstrap(metric: Metric, films: Bools, labels: Labels) -> Estimate:
    return bootstrap(metric, np.flatnonzero(films), labels.groups)


def _widened(figure: Figure, count: int) -> Figure:
    estimate = None if figure.estimate is None else widen_at_edge(figure.estimate, min(count, figure.estimate.groups))
    return Figure(figure.key, figure.name, figure.films, estimate)


def _auc(scores: Floats, positive: Bools) -> Metric:
    return lambda rows: auc(scores[rows], positive[rows])


def _calibration(stated: Floats, true: Bools) -> Metric:
    return lambda rows: calibration_error(stated[rows], true[rows])


def _mean(values: NDArray[Any]) -> Metric:
    return lambda rows: share(values[rows])


def _difference(first: Metric, second: Metric) -> Metric:
    return lambda rows: first(rows) - second(rows)


def _rarer(positive: Bools, films: Bools) -> int:
    return int(min((positive & films).sum(), (~positive & films).sum()))


def _ratio(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest else float("nan")


def _as_numbers(texts: Sequence[str] | NDArray[Any]) -> Floats | None:
    try:
        return np.array([float(text) for text in texts])
    except ValueError:
        return None
