"""Histograms of scores of films from hospitals that the network never saw, to compare the service's own with."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from config import TENTHS
from inference.inspection import ModelError
from inference.prevalence import Prevalence
from inference.settings import misread, read_by_name, stated_names

SCORES: Final = ("fractured", "familiarity")
SUM_TOLERANCE: Final = 1e-3


def read_reference(
    stated: Mapping[str, Any], class_names: Sequence[str], prevalence: Prevalence | None, *, has_none: bool
) -> dict[str, tuple[float, ...]] | None:
    """Return the share of films that is expected in each tenth of 0 to 1, for each score; None if none is stated.

    The file holds a histogram for each class and for none. They are mixed as the operator says that classes are mixed
    where the service runs, or else as in the file's prior. Raise ModelError.
    """
    if "reference" not in stated:
        return None
    mix = prevalence.shares if prevalence else read_by_name("prior", stated, class_names, has_none=has_none)
    if mix is None or not sum(mix.values()):
        raise ModelError(
            "its attribute bone_reference needs bone_prior, which says how common each class is; add that."
        )
    names = stated_names(stated, has_none=has_none)
    parts = _parse(stated["reference"], names)
    weights = np.array(list(mix.values())) / sum(mix.values())
    return {score: tuple((weights @ [shares[name] for name in names]).tolist()) for score, shares in parts.items()}


def _parse(text: Any, names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Read a histogram of each name for some of the scores. Raise ModelError."""
    try:
        parts = json.loads(text)
        if parts and parts.keys() <= set(SCORES) and all(_fits(part, names) for part in parts.values()):
            return dict(parts)
    except (TypeError, ValueError, AttributeError, RecursionError, OverflowError):
        pass
    raise misread(
        "reference",
        text,
        f"a JSON object with {' or '.join(SCORES)}, each with {len(TENTHS)} shares that add up to 1 for each of "
        f"{', '.join(names)}",
    )


def _fits(part: Mapping[str, Sequence[float]], names: Sequence[str]) -> bool:
    shares = np.array([part[name] for name in names]) if part.keys() == set(names) else np.zeros(0)
    return (
        shares.shape == (len(names), len(TENTHS))
        and shares.dtype.kind in "if"
        and bool(np.all(shares >= 0))
        and bool(np.allclose(shares.sum(axis=1), 1, atol=SUM_TOLERANCE))
    )
