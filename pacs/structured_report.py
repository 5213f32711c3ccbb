"""Films of a study and the answers to them -> a Comprehensive SR, TID 1500: preliminary, unverified, for research."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes

from config import VERSION
from explanation import Box
from pacs import codes as ours
from pacs.answers import Answer
from pacs.films import MODEL_NAME, Film
from pacs.uids import derive_uid

MANUFACTURER: Final = "Bone Fracture Classifier"
SERIES_NUMBER: Final = 9001
Judged = tuple[Film, Answer]
Groups = Iterator[MeasurementsAndQualitativeEvaluations | PlanarROIMeasurementsAndQualitativeEvaluations]


def report_uid(judged: Sequence[Judged]) -> str:
    """Return the SOP Instance UID of the report on these films by these models."""
    return derive_uid("report", *sorted(f"{film.uid}/{answer.model_sha256}" for film, answer in judged))


def build_report(judged: Sequence[Judged], when: datetime, number: int) -> Dataset:
    """Return the report on films of one study, with what was found in each; `when` has a time zone.

    `number` is the report's within its series.
    """
    film, answer = judged[0]
    moment = when.astimezone(UTC)
    report: Dataset = ComprehensiveSR(
        evidence=[film.header for film, _ in judged],
        content=_content(judged),
        series_instance_uid=derive_uid("report series", film.study_uid, answer.model_sha256),
        series_number=SERIES_NUMBER,
        sop_instance_uid=report_uid(judged),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=VERSION,
        device_serial_number=answer.model_sha256 or "unknown",
        series_description="Fracture classifier, preliminary, for research",
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=[ours.identify_scheme()],
        content_date=moment.date(),
        content_time=moment.time(),
    )
    report.TimezoneOffsetFromUTC = "+0000"
    return report


def _content(judged: Sequence[Judged]) -> MeasurementReport:
    answer = judged[0][1]
    device = DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", answer.model_sha256),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=answer.model_sha256 or None,
    )
    context = ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))
    groups = [group for judgement in judged for group in _groups(*judgement)]
    return MeasurementReport(context, ours.PLAIN_RADIOGRAPHY, groups)


def _groups(film: Film, answer: Answer) -> Groups:
    """Yield what holds for the film as a whole, then each spot."""
    yield MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(derive_uid("film", film.uid, answer.model_sha256), f"Film {_number(film)}"),
        finding_type=ours.FRACTURE if answer.predicted_class else None,
        algorithm_id=_algorithm(answer),
        measurements=list(_measurements(answer)) or None,
        qualitative_evaluations=[QualitativeEvaluation(name, value) for name, value in _evaluations(film, answer)],
        source_images=[SourceImageForMeasurementGroup(*_reference(film))],
    )
    for number, box in enumerate(answer.boxes, 1):
        yield _spot(film, answer, box, number)


def _spot(film: Film, answer: Answer, box: Box, number: int) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(
            derive_uid("spot", film.uid, answer.model_sha256, str(number)), f"Film {_number(film)}, spot {number}"
        ),
        referenced_region=ImageRegion(
            GraphicTypeValues.POLYLINE, outline(box, film), SourceImageForRegion(*_reference(film))
        ),
        finding_type=ours.SPOT,
        algorithm_id=_algorithm(answer),
        measurements=[Measurement(ours.STRENGTH, box.strength, ours.NO_UNITS)],
    )


def outline(box: Box, film: Film) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the closed outline of a box in the film's pixels: (5, 2) of column and row."""
    left, right = box.x * film.header.Columns, min(box.x + box.width, 1.0) * film.header.Columns
    top, bottom = box.y * film.header.Rows, min(box.y + box.height, 1.0) * film.header.Rows
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], np.float64)


def _evaluations(film: Film, answer: Answer) -> Iterator[tuple[CodedConcept, CodedConcept]]:
    if answer.refusal:
        yield ours.SUMMARY, ours.FAILED
        yield ours.REFUSAL, ours.REFUSALS.get(answer.refusal, ours.OTHER_REFUSAL)
    else:
        yield ours.SUMMARY, ours.WITH_FINDINGS if answer.predicted_class else ours.WITHOUT_FINDINGS
        yield ours.VERDICT, ours.class_code(answer.predicted_class) if answer.predicted_class else ours.NONE
        yield ours.CERTAINTY, ours.CERTAINTIES[answer.certainty]
    if film.laterality is None:
        yield ours.LATERALITY, ours.NO_LATERALITY
    yield ours.INTENDED_USE, ours.FOR_RESEARCH


def _measurements(answer: Answer) -> Iterator[Measurement]:
    if answer.refusal:
        return
    certainty = ours.CERTAINTY_OF_FINDING if answer.predicted_class else ours.CONFIDENCE
    yield Measurement(certainty, answer.confidence, ours.PERCENT)
    if answer.fractured is not None:
        yield Measurement(ours.FRACTURED, answer.fractured, ours.PERCENT)
    for name, probability in (answer.probabilities or {}).items():
        yield Measurement(ours.probability_code(name), probability, ours.PERCENT)


def _algorithm(answer: Answer) -> AlgorithmIdentification:
    parameters = [f"Model SHA-256: {answer.model_sha256}"] if answer.model_sha256 else None
    version = f"{VERSION}, model {answer.model_version}" if answer.model_version else VERSION
    return AlgorithmIdentification(MODEL_NAME, version, parameters=parameters)


def _reference(film: Film) -> tuple[str, str, list[int] | None]:
    """Return the class and the instance of a film, and the first of its frames if it has several."""
    frames = int(film.header.get("NumberOfFrames", 1))
    return film.header.SOPClassUID, film.header.SOPInstanceUID, [1] if frames > 1 else None


def _number(film: Film) -> str:
    return str(film.header.get("InstanceNumber", 1))
