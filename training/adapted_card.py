"""The card of an adapted network: what each stage was worth, and figures before and after, all on films held back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.adaptation import AS_IT_IS, Change, Films, Trial, last_kept
from training.calibration import PRIOR, confidence, shift
from training.metrics import Bools, Estimate, Floats, Metric, auc, bootstrap, calibration_error, share

MIN_FILMS: Final = 10  # of each kind; a figure that rests on fewer is not given
Figures = Mapping[str, Estimate]


@dataclass(frozen=True)
class Origin:
    """The network that was adapted."""

    name: str
    sha256: str
    version: str


@dataclass(frozen=True)
class Adapted:
    """What was found: the trials of all stages, the change to make, and what the file then states."""

    trials: Sequence[Trial]
    change: Change
    threshold: float
    quantiles: Mapping[str, float]


def judge(films: Films, probabilities: Floats, threshold: float) -> dict[str, Estimate]:
    """Return figures of probabilities, (n, 3), with intervals by bootstrap over groups. Few films give no figure."""
    fractured, stated = films.fractured, 1 - _shift_to_own(probabilities, films)[:, 2]
    accepted, everything = confidence(probabilities) >= threshold, np.ones(len(films), bool)
    measures: dict[str, tuple[Metric, Bools]] = {
        "fractured against normal, AUC": (lambda rows: auc(stated[rows], fractured[rows]), everything),
        "normal rejected": (lambda rows: share(~accepted[rows]), ~fractured),
        "fractured accepted": (lambda rows: share(accepted[rows]), fractured),
        "calibration error of P(fractured), at the prevalence of these films": (
            lambda rows: calibration_error(stated[rows], fractured[rows], bins=5),
            everything,
        ),
    }
    if min(fractured.sum(), (~fractured).sum()) < MIN_FILMS:
        return {}
    groups = films.groups.tolist()
    return {name: bootstrap(measure, np.flatnonzero(among), groups) for name, (measure, among) in measures.items()}


def render_stages(trials: Sequence[Trial]) -> Iterator[str]:
    """Yield the lines of a table: what each stage was worth on films held back."""
    yield "| stage | loss | gain over the stage kept before | standard error | kept |"
    yield "| --- | --- | --- | --- | --- |"
    for trial in trials:
        gain = ("", "") if trial.stage == AS_IT_IS else (f"{trial.gain:+.4f}", f"{trial.error:.4f}")
        yield f"| {trial.stage} | {trial.loss:.4f} | {gain[0]} | {gain[1]} | {'yes' if trial.kept else 'no'} |"


def render_figures(before: Figures, after: Figures) -> Iterator[str]:
    """Yield the lines of a table: each figure before and after."""
    if not after:
        yield f"Too few films to say how good it is: fewer than {MIN_FILMS} of a kind."
        return
    yield "| figure | before | after | films | groups |"
    yield "| --- | --- | --- | --- | --- |"
    for name, one in after.items():
        yield f"| {name} | {_show(before[name])} | {_show(one)} | {one.images} | {one.groups} |"


def render_card(
    name: str, origin: Origin, films: Films, adapted: Adapted, figures: tuple[Figures, Figures], others: int
) -> str:
    """Return the card as Markdown."""
    fractured, groups = int(films.fractured.sum()), len(np.unique(films.groups))
    kept = last_kept(adapted.trials).stage
    changed = "nothing but the threshold" if kept == AS_IT_IS else f"the {kept}, and the threshold"
    lines = [
        f"# {name}: an adapted network",
        "",
        f"Adapted from `{origin.name}`, version {origin.version}, SHA-256 `{origin.sha256}`, with `python -m "
        f"training.adapt`, to {len(films)} films of limb bones: {fractured} fractured, "
        f"{len(films) - fractured} normal, {groups} groups.",
        *([f"{others} labelled films that show something else were left out."] if others else []),
        f"Changed: {changed}. The layers that see pixels are those of the original, and so are its heat maps.",
        "",
        "## What each stage was worth",
        "",
        "Log loss per film, films held back by group, both kinds weighing as in the file's prior. A stage is kept if "
        "the loss falls; beside the gain stands its standard error. A stage that is missing had too few films of "
        "a kind, or too few groups.",
        "",
        *render_stages(adapted.trials),
        "",
        "## How good it is on these films",
        "",
        "Each film was judged by what was fitted without its group; 95 % intervals by bootstrap over groups. "
        "“Before” is the original at its own threshold. The threshold after was chosen on the same held-back answers, "
        "and so was the stage: expect a little less on new films, and judge those with labels that the network has not "
        "seen.",
        "",
        *render_figures(*figures),
        "",
        "## What the file states",
        "",
        f"- threshold: {adapted.threshold:g}",
        f"- conformal quantiles: {', '.join(f'{key} {value:.3f}' for key, value in adapted.quantiles.items())}",
        "- reference histograms: none, since those of the original do not describe this network's answers",
        "",
        "It fits the hospital whose films these are. Intended use and limits are those of the original's model card.",
    ]
    return "\n".join(lines) + "\n"


def _shift_to_own(probabilities: Floats, films: Films) -> Floats:
    """Shift probabilities from the prior to the share of fractured films among these."""
    share_fractured = float(films.fractured.mean())
    ratio = share_fractured / (1 - PRIOR["none"])
    own = {name: value * ratio for name, value in PRIOR.items()} | {"none": 1 - share_fractured}
    return shift(probabilities, own)


def _show(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
