"""From the network's outputs to a verdict, and from the verdict to the contract's JSON."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from config import SCALINGS
from model_loader import Classifier, Images, Outputs
from preprocessing import DecoderFacts, ImageError, decode, is_blank, prepare

Reason = Literal["blank", "none", "low_confidence"]
Certainty = Literal["sure", "doubtful", "unfamiliar"]
OutputRow = NDArray[np.floating[Any]]

HUNDREDTHS: Final = 10_000  # a percentage with two decimals is a whole number of these
SUM_TOLERANCE: Final = 1e-2
NEGLIGIBLE: Final = 1e-6
UNFAMILIAR: Final = 0.01  # below this share of training images that are at least as unusual


class OutputError(Exception):
    """The network's outputs are not probabilities: a fault of the model, never an answer."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one image: probabilities in whole hundredths of a percent, in the order of the class names.

    `none` is the probability of "none of them", None if the network has no such output. `reason` is why a verdict is
    not accepted: the image is blank, the none output is the highest, or the confidence is below the threshold.
    `threshold`, 0 to 1, is what the confidence was compared with. `possible` holds the names that cannot be excluded at
    90 %, None if the model file holds no quantiles.
    """

    class_names: tuple[str, ...]
    best: int
    shares: tuple[int, ...]
    confidence: int
    accepted: bool
    none: int | None
    reason: Reason | None
    threshold: float
    possible: tuple[str, ...] | None = None
    is_unfamiliar: bool = False

    @property
    def predicted_class(self) -> str | None:
        """Return the name of the class if the verdict is accepted, else None."""
        return self.class_names[self.best] if self.accepted else None

    @property
    def fractured(self) -> int | None:
        """Return the probability of all classes together; None if that of "none of them" is unknown."""
        return None if self.none is None else max(HUNDREDTHS - self.none, self.confidence)

    @property
    def certainty(self) -> Certainty:
        """Return `doubtful` if more than the answer, or nothing, is possible, or if none is likelier than the class."""
        if self.is_unfamiliar:
            return "unfamiliar"
        none_is_likelier = self.accepted and (self.none or 0) > self.confidence
        is_alone = self.possible in (None, (self.predicted_class or "none",))
        return "doubtful" if none_is_likelier or not is_alone else "sure"


def classify(classifier: Classifier, image: Image) -> Verdict:
    """Return the verdict on a decoded image of mode L or RGB. Raise OutputError."""
    return judge_outputs(classifier, None if is_blank(image) else classifier.predict(inputs_for(classifier, image)))


def compare_scalings(classifier: Classifier, path: Path, max_pixels: int) -> Iterator[str]:
    """Yield lines on what the network answers to an image file with each scaling that its channels allow."""
    yield f"{path}:"
    try:
        image, _ = decode(path.read_bytes(), max_pixels)
    except (ImageError, OSError) as error:
        yield f"  it cannot be read: {error}"
        return
    for scaling in (name for name, scale in SCALINGS.items() if len(scale.mean) <= classifier.channels):
        mark = " (in use)" if scaling == classifier.scaling else ""
        yield f"  BONE_SCALING={scaling:5}  {_in_words(classifier.with_scaling(scaling), image)}{mark}"


def _in_words(classifier: Classifier, image: Image) -> str:
    try:
        verdict = classify(classifier, image)
    except OutputError as error:
        return str(error)
    name, share = verdict.class_names[verdict.best], verdict.shares[verdict.best] / 100
    return f"{name} {share:.2f} %, confidence {verdict.confidence / 100:.2f} %"


def inputs_for(classifier: Classifier, image: Image) -> Images:
    """Prepare a decoded image as the network expects it: float32 (1, height, width, channels)."""
    return prepare(image, classifier.input_size, classifier.channels, classifier.scaling, classifier.resize)


def judge_outputs(classifier: Classifier, outputs: Outputs | None) -> Verdict:
    """Judge what the network returned for one image; None stands for a blank one. Raise OutputError."""
    names, threshold = classifier.class_names, classifier.threshold
    if outputs is None:
        return nothing_known(names, threshold, has_none=classifier.has_none_output)
    row, prevalence = outputs.probabilities[0], classifier.prevalence
    if prevalence is None:
        verdict = judge(row, names, threshold)
    elif classifier.settings["threshold"].source == "environment":
        _check(np.asarray(row, np.float64), len(names))
        verdict = judge(shift(row, prevalence.ratios), names, threshold)
    else:
        verdict = judge_shifted(row, prevalence.ratios, names, threshold)
    is_unfamiliar = outputs.familiarity is not None and bool(outputs.familiarity[0, 0] < UNFAMILIAR)
    return replace(verdict, possible=possible_names(row, classifier.conformal), is_unfamiliar=is_unfamiliar)


def watched_scores(classifier: Classifier, outputs: Outputs | None) -> dict[str, float]:
    """Return the scores of one image, 0 to 1, that show drift: `fractured`, before any shift, and `familiarity`.

    Empty for a blank image (None); a score that the network has no output for is left out.
    """
    scores = {}
    if outputs is not None and classifier.has_none_output:
        scores["fractured"] = 1 - float(outputs.probabilities[0, -1])
    if outputs is not None and outputs.familiarity is not None:
        scores["familiarity"] = float(outputs.familiarity[0, 0])
    return scores


def mean_brightness(classifier: Classifier, inputs: Images) -> float:
    """Return the mean brightness, 0 to 1, of images that were prepared for this network."""
    scale = SCALINGS[classifier.scaling]
    return float((inputs * scale.deviation + scale.mean).mean()) / 255


def judge(outputs: OutputRow, class_names: Sequence[str], threshold: float) -> Verdict:
    """Judge one row of outputs: one per class name, or one more, the last, for "none of them".

    `threshold` (0 to 1) is compared with the confidence as it is shown. Raise OutputError if the outputs are not
    finite, are negative by more than a rounding error, or add up to something further than 1e-2 from 1.
    """
    values = np.asarray(outputs, dtype=np.float64)
    _check(values, len(class_names))
    values = np.maximum(values, 0)
    known = values[: len(class_names)]
    shares = _shares(known)
    confidence = _confidence(known, shares, has_none=len(values) > len(class_names))
    accepted = confidence >= round(threshold * HUNDREDTHS, 6)  # 0.985 has no exact binary representation
    none = min(_half_up(float(values[-1])), HUNDREDTHS) if len(values) > len(class_names) else None
    reason = None if accepted else _reason(values, len(class_names))
    return Verdict(tuple(class_names), int(np.argmax(known)), shares, confidence, accepted, none, reason, threshold)


def judge_shifted(outputs: OutputRow, ratios: Sequence[float], class_names: Sequence[str], threshold: float) -> Verdict:
    """Judge one row of outputs at another prevalence, and accept exactly what is accepted without the shift."""
    before = judge(outputs, class_names, threshold)
    shifted = shift(outputs, ratios)
    shown = judge(shifted, class_names, threshold).confidence / HUNDREDTHS
    carried = carry_over(threshold, outputs, ratios, len(class_names))
    carried = min(carried, shown) if before.accepted else max(carried, shown + 1 / HUNDREDTHS)
    return judge(shifted, class_names, carried)


def shift(outputs: OutputRow, ratios: Sequence[float]) -> NDArray[np.float64]:
    """Return probabilities at another prevalence; `ratios` is that prevalence by the one they were calibrated for.

    Saerens, Latinne and Decaestecker, Neural Computation 14 (2002), equation 2.4.
    """
    weighted = np.maximum(np.asarray(outputs, np.float64), 0) * np.asarray(ratios)
    return cast("NDArray[np.float64]", weighted / weighted.sum())


def carry_over(threshold: float, outputs: OutputRow, ratios: Sequence[float], classes: int) -> float:
    """Return the threshold that separates at the new prevalence what `threshold` separates at the old one, 0 to 1.

    It is what the shift makes of the likeliest class at the threshold, with the other outputs in the same proportions.
    """
    values, factors = np.maximum(np.asarray(outputs, np.float64), 0), np.asarray(ratios)
    best = int(np.argmax(values[:classes]))
    others = np.delete(values, best)
    mean = np.average(np.delete(factors, best), weights=others) if others.any() else 1.0
    carried = threshold * factors[best] / (threshold * factors[best] + (1 - threshold) * mean)
    likeliest = float((values * factors)[:classes].max())  # another class may be ahead after the shift
    ahead = likeliest / (values * factors)[best] if likeliest else 1.0
    return min(1.0, float(carried * ahead))


def possible_names(outputs: OutputRow, quantiles: Mapping[str, float] | None) -> tuple[str, ...] | None:
    """Return the names whose output is at least 1 minus their quantile, in the order of the outputs.

    These are class-conditional conformal sets (Sadinle, Lei and Wasserman 2019), which hold at any prevalence, because
    each quantile comes from the images of its own class. None without quantiles.
    """
    if quantiles is None:
        return None
    pairs = zip(quantiles.items(), outputs, strict=True)
    return tuple(name for (name, quantile), output in pairs if output >= 1 - quantile)


def nothing_known(class_names: Sequence[str], threshold: float, *, has_none: bool) -> Verdict:
    """Return the verdict on a blank image, on which the network is not run: equal shares, lowest confidence."""
    shares = _shares(np.zeros(len(class_names)))
    confidence = 0 if has_none else max(shares)
    return Verdict(
        tuple(class_names),
        best=0,
        shares=shares,
        confidence=confidence,
        accepted=False,
        none=None,
        reason="blank",
        threshold=threshold,
    )


def answer(verdict: Verdict, refusal: str) -> dict[str, Any]:
    """Return the contract's JSON object, keys in the contract's order; `refusal` is the message of a failure."""
    body: dict[str, Any] = {"success": int(verdict.accepted)}
    if verdict.accepted:
        body["predictedClass"] = verdict.predicted_class
    else:
        body["message"] = refusal
    body["confidence"] = verdict.confidence / 100
    body["allProbabilities"] = [
        {"class": name, "probability": share / 100}
        for name, share in zip(verdict.class_names, verdict.shares, strict=True)
    ]
    return body


def describe_verdict(verdict: Verdict, classifier: Classifier, facts: DecoderFacts) -> dict[str, Any]:
    """Return how an answer came about, as JSON types; numbers in percent, as in the answer."""
    height, width = facts.original_size
    return {
        "reason": verdict.reason,
        "noneProbability": None if verdict.none is None else verdict.none / 100,
        "fractured": None if verdict.fractured is None else verdict.fractured / 100,
        **({} if verdict.possible is None else {"possible": list(verdict.possible)}),
        "certainty": verdict.certainty,
        "threshold": round(100 * verdict.threshold, 4),
        "decoder": {
            "format": facts.format,
            "bits": facts.bits,
            "inverted": facts.inverted,
            "rotated": facts.rotated,
            "mirrored": facts.mirrored,
            "frames": facts.frames,
            "originalSize": {"height": height, "width": width},
        },
        "model": {"sha256": classifier.sha256, "version": classifier.stated.get("version")},
    }


def _check(values: NDArray[np.float64], classes: int) -> None:
    if values.shape not in ((classes,), (classes + 1,)):
        raise OutputError(f"{values.shape} outputs for {classes} classes")
    if not np.all(np.isfinite(values)) or np.any(values < -NEGLIGIBLE) or abs(values.sum() - 1) > SUM_TOLERANCE:
        raise OutputError(f"outputs that are not probabilities: {values.tolist()}")


def _shares(known: NDArray[np.float64]) -> tuple[int, ...]:
    """Scale to 10,000 and round by largest remainder, ties to the earlier class, so that the parts add up."""
    total = known.sum()
    exact = known / total if total >= NEGLIGIBLE else np.full(len(known), 1 / len(known))
    exact = np.round(exact * HUNDREDTHS, 6)  # smaller differences are rounding errors of the division
    whole = np.floor(exact).astype(int)
    by_remainder = np.argsort(np.round(whole - exact, 6), kind="stable")
    whole[by_remainder[: HUNDREDTHS - int(whole.sum())]] += 1
    return tuple(whole.tolist())


def _confidence(known: NDArray[np.float64], shares: tuple[int, ...], *, has_none: bool) -> int:
    """Return the highest known output in hundredths of a percent, never above the highest share shown."""
    if known.sum() < NEGLIGIBLE:
        return 0
    if not has_none:
        return max(shares)
    return min(_half_up(float(known.max())), max(shares))


def _reason(values: NDArray[np.float64], classes: int) -> Reason:
    return "none" if int(np.argmax(values)) == classes else "low_confidence"


def _half_up(share: float) -> int:
    """Round a share of 0 to 1 to whole hundredths of a percent."""
    return math.floor(round(share * HUNDREDTHS, 6) + 0.5)
