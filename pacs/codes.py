"""Codes of the report: SNOMED CT and DCM where they have one, else the private scheme 99BONE of pacs/README.md."""

import hashlib
from typing import Final

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

SCHEME: Final = "99BONE"


def private(value: str, meaning: str) -> CodedConcept:
    """Return a code of our own scheme; `value` has at most 16 characters, `meaning` at most 64."""
    return CodedConcept(value, SCHEME, meaning)


FRACTURE: Final = CodedConcept("125605004", "SCT", "Fracture of bone")
PLAIN_RADIOGRAPHY: Final = codes.SCT.PlainRadiography
SUMMARY: Final = codes.DCM.SummaryOfAnalyses
WITH_FINDINGS: Final = codes.DCM.AllAlgorithmsSucceededWithFindings
WITHOUT_FINDINGS: Final = codes.DCM.AllAlgorithmsSucceededWithoutFindings
FAILED: Final = codes.DCM.NoAlgorithmsSucceededWithoutFindings
CERTAINTY_OF_FINDING: Final = codes.DCM.CertaintyOfFinding
FOR_RESEARCH: Final = codes.DCM.ForResearch
PERCENT: Final = codes.UCUM.Percent
NO_UNITS: Final = codes.UCUM.NoUnits

VERDICT: Final = private("verdict", "Verdict")
NONE: Final = private("none", "None of the known classes")
CERTAINTY: Final = private("certainty", "Certainty of the answer")
CERTAINTIES: Final = {
    "sure": private("sure", "Sure"),
    "doubtful": private("doubtful", "Doubtful: another answer cannot be excluded at 90 %"),
    "unfamiliar": private("unfamiliar", "Unfamiliar: unlike the films that the network learnt from"),
}
CONFIDENCE: Final = private("confidence", "Probability of the likeliest known class")
FRACTURED: Final = private("p-any", "Probability of any of the known classes")
SPOT: Final = private("spot", "Spot that the answer rests on; not the outline of a lesion")
STRENGTH: Final = private("strength", "Strength of the evidence in the spot, 0 to 1")
INTENDED_USE: Final = private("intended-use", "Intended use; preliminary and unverified")
REFUSAL: Final = private("refusal", "Reason why the film was not analysed")
REFUSALS: Final = {
    "unsupported_image": private("unsupported", "The film is not a radiograph in an accepted encoding"),
    "unreadable_image": private("unreadable", "The film is damaged or too expensive to decode"),
    "image_too_small": private("too-small", "A side of the film is under 32 pixels"),
    "too_many_pixels": private("too-many-pixels", "The film has too many pixels"),
    "image_too_large": private("too-large", "The film is larger than the service accepts"),
}
OTHER_REFUSAL: Final = private("other-refusal", "The service refused the film")
LATERALITY: Final = private("laterality", "Laterality stated by the film")
NO_LATERALITY: Final = private("no-laterality", "None, or not a valid one")

_CLASSES: Final = {
    "fisura": "Fissure: a hairline or undisplaced fracture",
    "fractura": "Fracture, displaced or otherwise complete",
}


def class_code(name: str) -> CodedConcept:
    """Return the code of one of the model's classes."""
    return private(_short(name), _CLASSES.get(name, name)[:64])


def probability_code(name: str) -> CodedConcept:
    """Return the code of the probability of a class, provided that it is one of them."""
    return private(_short(f"p-{name}"), f"Probability of {name}, if one of the classes"[:64])


def identify_scheme() -> CodingSchemeIdentificationItem:
    """Return the item that says whose scheme 99BONE is."""
    return CodingSchemeIdentificationItem(
        SCHEME,
        name="Bone Fracture Classifier codes",
        responsible_organization="Bone Fracture Classifier; documented in pacs/README.md",
    )


def _short(name: str) -> str:
    """Return the name, or its digest where a code value, 16 characters of one byte, cannot hold it."""
    is_short = len(name) <= 16 and name.isascii() and name.isprintable() and "\\" not in name
    return name if is_short else hashlib.sha256(name.encode()).hexdigest()[:16]
