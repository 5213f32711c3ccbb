"""A DICOM film -> its header, checked, and nothing of it that the results do not need."""

import logging
import re
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pydicom import Dataset, config, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)
from pydicom.valuerep import validate_value

SOP_CLASSES: Final = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForPresentation,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
    SecondaryCaptureImageStorage,
)
LATERALITIES: Final = ("R", "L", "U", "B")
MODEL_NAME: Final = "Bone Fracture Classifier"  # the ManufacturerModelName of our own results
MAX_UID_LENGTH: Final = 64

# What must be right, or the results would be filed under another patient or nowhere.
_UIDS: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_IDENTITY: Final = ("PatientID", "PatientName")
# Of type 2 in the results: present, and empty where the film states none.
_USUAL: Final = "PatientBirthDate PatientSex StudyDate StudyTime AccessionNumber StudyID ReferringPhysicianName".split()
_OPTIONAL: Final = (
    "IssuerOfPatientID StudyDescription Modality BodyPartExamined ViewPosition PatientOrientation Rows Columns"
    " NumberOfFrames InstanceNumber BurnedInAnnotation LossyImageCompression LossyImageCompressionRatio"
    " LossyImageCompressionMethod ManufacturerModelName".split()
)
_LATERALITY: Final = ("ImageLaterality", "Laterality", "FrameLaterality")
_UID: Final = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")


class FilmError(Exception):
    """A film that no result can be filed for; the message is one sentence that quotes nothing of the film."""


@dataclass(frozen=True)
class Film:
    """The checked header of a film, in UTF-8, and a sentence for each thing that was left out of it."""

    header: Dataset
    notes: tuple[str, ...]

    @property
    def uid(self) -> str:
        """Return the SOP Instance UID."""
        return str(self.header.SOPInstanceUID)

    @property
    def study_uid(self) -> str:
        """Return the Study Instance UID."""
        return str(self.header.StudyInstanceUID)

    @property
    def laterality(self) -> str | None:
        """Return R, L, U (unpaired) or B (both); None where the film states none or something else."""
        return str(self.header.Laterality) if "Laterality" in self.header else None

    @property
    def is_own_result(self) -> bool:
        """Tell whether this is a capture that we made ourselves, which a PACS may send back."""
        return bool(self.header.get("ManufacturerModelName") == MODEL_NAME)


def silence_libraries() -> None:
    """Let pydicom read values as they are, since they are checked here, and let no library quote them in a log."""
    config.settings.reading_validation_mode = config.IGNORE
    warnings.filterwarnings("ignore", module=r"(PIL|pydicom|highdicom|pynetdicom)\b")
    for name in ("pydicom", "highdicom", "pynetdicom", "dicomweb_client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def read_film(data: bytes) -> Film:
    """Read and check the header of a DICOM file. Raise FilmError."""
    try:
        found = _read_elements(data)
    except (FilmError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 a damaged file can raise anything, and the text may quote it
        raise FilmError("The file is not a readable DICOM file.") from None
    notes: list[str] = []
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    _take_identity(found, header)
    for name in _USUAL:
        setattr(header, name, _valid(found, name, notes) or "")
    for name in _OPTIONAL:
        if (value := _valid(found, name, notes)) not in (None, ""):
            setattr(header, name, value)
    _take_laterality(found, header, notes)
    return Film(header, tuple(notes))


def _read_elements(data: bytes) -> dict[str, Any]:
    """Return the values that are wanted, decoded, by keyword."""
    wanted = [*_UIDS, *_IDENTITY, *_USUAL, *_OPTIONAL, *_LATERALITY]
    try:
        dataset = dcmread(BytesIO(data), stop_before_pixels=True, force=True, specific_tags=wanted)
    except InvalidDicomError:
        raise FilmError("The file is not a readable DICOM file.") from None
    return {name: dataset[name].value for name in wanted if name in dataset}


def _take_identity(found: dict[str, Any], header: Dataset) -> None:
    """Copy what decides where the results are filed. Raise FilmError."""
    for name in _UIDS:
        uid = str(found.get(name) or "")
        if not uid:
            raise FilmError(f"The film has no {name}, so a result cannot be filed with it.")
        if len(uid) > MAX_UID_LENGTH or not _UID.fullmatch(uid):
            raise FilmError(f"The film's {name} is not a UID, so a result cannot be filed with it.")
        setattr(header, name, UID(uid))
    if header.SOPClassUID not in SOP_CLASSES:
        raise FilmError("The file is not a radiograph: its SOP class is not one of CR, DX, MG, XA, RF or SC.")
    if not any(name in found for name in _IDENTITY):
        raise FilmError("The film has no patient module, so a result cannot be filed with its patient.")
    for name in _IDENTITY:
        value = found.get(name) or ""
        if not _is_valid(name, value):
            raise FilmError(f"The film's {name} is not valid, so a result cannot be filed with its patient.")
        setattr(header, name, value)


def _take_laterality(found: dict[str, Any], header: Dataset, notes: list[str]) -> None:
    stated = {str(found[name]).strip() for name in _LATERALITY if found.get(name)}
    if not stated:
        notes.append("The film states no laterality.")
    elif len(stated) > 1:
        notes.append("The film states two lateralities; none was copied.")
    elif (side := stated.pop()) in LATERALITIES:
        header.Laterality = side
    else:
        notes.append("The film's laterality is not R, L, U or B; it was not copied.")


def _valid(found: dict[str, Any], name: str, notes: list[str]) -> Any:
    """Return a value that may be written, else None and a note."""
    value = found.get(name)
    if value in (None, "") or _is_valid(name, value):
        return value
    notes.append(f"The film's {name} is not valid; it was not copied.")
    return None


def _is_valid(name: str, value: Any) -> bool:
    """Tell whether a value is what the element's type allows."""
    vr = dictionary_VR(tag_for_keyword(name) or 0)
    values = value if isinstance(value, (MultiValue, list)) else [value]
    try:
        for one in values:
            validate_value(vr, one if vr == "US" else str(one), config.RAISE)
    except ValueError:
        return False
    return name != "PatientSex" or str(value) in ("M", "F", "O")
