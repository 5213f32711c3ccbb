"""How common each class is: the prior that a file's confidence is calibrated for, and what the operator states."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from inference.inspection import ModelError
from inference.settings import read_by_name


class Prevalence(NamedTuple):
    """How common each class, and none, is where the service runs, and the ratio of that to the file's prior.

    `shares` is by name; `ratios` has one number for each output.
    """

    shares: Mapping[str, float]
    ratios: tuple[float, ...]


def read_prevalence(
    chosen: Mapping[str, float] | None, stated: Mapping[str, Any], class_names: Sequence[str], *, has_none: bool
) -> Prevalence | None:
    """Compare the prevalence that the operator states with the file's prior; None where nothing is stated.

    Raise ModelError where the file has no prior, or where the names are not the classes.
    """
    if chosen is None:
        return None
    prior = read_by_name("prior", stated, class_names, has_none=has_none)
    if prior is None or not all(prior.values()):
        raise ModelError("it states no prior (bone_prior), so BONE_PREVALENCE cannot be used; leave that out.")
    if chosen.keys() != set(class_names):
        raise ModelError(
            f"BONE_PREVALENCE names {', '.join(chosen)}; it must state the prevalence of each of "
            f"{', '.join(class_names)}, and of nothing else."
        )
    none = {"none": 1 - sum(chosen.values())} if has_none else {}
    shares = {name: chosen[name] for name in class_names} | none
    return Prevalence(shares, tuple(share / prior[name] for name, share in shares.items()))
