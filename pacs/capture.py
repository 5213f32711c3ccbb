"""A film and the answer to it -> a Secondary Capture: the film, the spots' outlines, and the verdict below it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from highdicom.sc import SCImage
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

from config import VERSION
from explanation import Box
from pacs import codes as ours
from pacs.answers import Answer
from pacs.films import MODEL_NAME, Film
from pacs.structured_report import MANUFACTURER, outline
from pacs.uids import derive_uid

SERIES_NUMBER: Final = 9002
RESEARCH: Final = "PRELIMINARY, UNVERIFIED. FOR RESEARCH USE ONLY, NOT A DIAGNOSIS."
LEAST_FONT_PIXELS: Final = 10
COPIED: Final = (
    "IssuerOfPatientID StudyDescription BodyPartExamined BurnedInAnnotation"
    " LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod".split()
)


def build_capture(film: Film, answer: Answer, image: Image.Image, when: datetime) -> Dataset:
    """Return the marked copy of a film whose decoded image is given; `when` has a time zone."""
    pixels = np.asarray(draw(film, answer, image))
    moment, header = when.astimezone(UTC), film.header
    capture: Dataset = SCImage(
        pixels,
        photometric_interpretation="RGB" if pixels.ndim == 3 else "MONOCHROME2",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # what highdicom requires; replaced below by what the film states
        study_instance_uid=film.study_uid,
        series_instance_uid=derive_uid("capture series", film.study_uid, answer.model_sha256),
        series_number=SERIES_NUMBER,
        series_description="Fracture classifier, marked copy, for research",
        sop_instance_uid=derive_uid("capture", film.uid, answer.model_sha256),
        instance_number=max(1, int(header.get("InstanceNumber", 1))),
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=VERSION,
        device_serial_number=answer.model_sha256,
        content_date=moment.date(),
        content_time=moment.time(),
        specific_character_set=header.SpecificCharacterSet,
        patient_id=header.PatientID,
        patient_name=header.PatientName,
        patient_birth_date=header.PatientBirthDate or None,
        patient_sex=header.PatientSex or None,
        accession_number=header.AccessionNumber,
        study_id=header.StudyID,
        study_date=header.StudyDate or None,
        study_time=header.StudyTime or None,
        referring_physician_name=header.ReferringPhysicianName or None,
    )
    capture.TimezoneOffsetFromUTC = "+0000"
    capture.PatientOrientation = header.get("PatientOrientation", "")
    if film.laterality in ("U", "B"):  # which only the laterality of an image may be
        capture.ImageLaterality = film.laterality
    else:
        capture.Laterality = film.laterality or ""
    _copy(header, capture)
    return capture


def draw(film: Film, answer: Answer, image: Image.Image) -> Image.Image:
    """Return the film, mode L or RGB, with outlined spots, and the verdict in a band below that covers none of it."""
    lines, font = _fit(list(_sentences(film, answer)), image.width)
    line_height = round(1.35 * font.size)
    marked = Image.new(image.mode, (image.width, image.height + line_height * len(lines) + line_height // 2))
    marked.paste(image)
    pen = ImageDraw.Draw(marked)
    for box in answer.boxes:
        _outline(pen, film, box, image.width)
    for number, line in enumerate(lines):
        pen.text((font.size // 2, image.height + line_height // 4 + number * line_height), line, "white", font)
    return marked


def _outline(pen: ImageDraw.ImageDraw, film: Film, box: Box, width: int) -> None:
    """Draw a light line between two dark ones, which shows on bone and on air."""
    stroke = max(1, width // 500)
    points = outline(box, film)
    (left, top), (right, bottom) = points[0].tolist(), points[2].tolist()
    for inset, colour in ((-stroke, "black"), (stroke, "black"), (0, "white")):
        corners = (left + inset, top + inset, max(right - inset, left), max(bottom - inset, top))
        if corners[0] < corners[2] and corners[1] < corners[3]:
            pen.rectangle(corners, outline=colour, width=stroke)


def _sentences(film: Film, answer: Answer) -> Iterator[str]:
    if answer.predicted_class:
        yield f"{ours.class_code(answer.predicted_class).meaning}: {answer.confidence:.0f} %, {answer.certainty}."
    else:
        yield f"{ours.NONE.meaning}: no fracture recognised, none ruled out ({answer.certainty})."
    if answer.boxes:
        yield "Outlines show what the answer rests on, not the extent of a lesion."
    if film.laterality is None:
        yield "The film states no valid laterality."
    yield RESEARCH
    version = f"{VERSION}, model {answer.model_version} {answer.model_sha256[:12]}".replace("  ", " ")
    yield f"{MODEL_NAME} {version}"


def _fit(sentences: list[str], width: int) -> tuple[list[str], Any]:
    """Return the lines that the sentences take in a band of that width, and their font."""
    font: Any = ImageFont.load_default(max(LEAST_FONT_PIXELS, width // 45))
    lines: list[str] = []
    for sentence in sentences:
        line = ""
        for word in sentence.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width - font.size:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines, font


def _copy(header: Dataset, capture: Dataset) -> None:
    """Copy what holds for the marked copy as for the film, and name the film as its source."""
    for name in COPIED:
        if name in header:
            setattr(capture, name, header[name].value)
    source = Dataset()
    source.ReferencedSOPClassUID = header.SOPClassUID
    source.ReferencedSOPInstanceUID = header.SOPInstanceUID
    capture.SourceImageSequence = [source]
