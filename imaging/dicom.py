"""DICOM files -> an 8-bit image as a viewer shows it. Nothing else of a file leaves this module.

Exceptions of pydicom stay in it too, because their texts quote the file.
"""

from typing import Any, Final

from PIL import Image

from imaging import dicom_reading
from imaging.dicom_display import show
from imaging.dicom_frames import first_frame
from imaging.image import DecoderFacts, ImageError
from imaging.limits import check_size

MODALITIES: Final = ("CR", "DX", "RG", "XA", "MG")  # of radiographs
# Defined terms of Modality, PS3.3 C.7.3.1.1.1, and the retired ones: the only text of a file that leaves.
_OTHER_MODALITIES: Final = frozenset(
    "ANN AR ASMT AU BDUS BI BMD CD CF CFM CP CS CT CTPROTOCOL DD DF DG DM DMS DOC DS EC ECG EEG EMG EOG EPS ES FA FID"
    " FS GM HC HD IO IOL IVOCT IVUS KER KO LEN LP LS M3D MA MR MS NM OAM OCT OP OPM OPR OPT OPTBSV OPTENF OPV OSS OT PA"
    " PLAN POS PR PT PX REG RESP RF RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR"
    " SRF ST STAIN TEXTUREMAP TG US VA VF VIDD XAPROTOCOL XC".split()
)
_PHOTOMETRIC: Final = {
    1: ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
    3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
}


def is_dicom(data: bytes) -> bool:
    """Tell whether the bytes begin as a DICOM file does; see `dicom_reading.find_start`."""
    return dicom_reading.find_start(data) is not None


def decode(data: bytes, max_pixels: int) -> tuple[Image.Image, DecoderFacts]:
    """Decode the first frame as it is meant to be shown: 8-bit, mode L where it is grey and RGB where it is not.

    Raise ImageError: unsupported_image (with a `reason`: modality, unknown_modality, no_pixels, encoding),
    too_many_pixels (of all frames) and image_too_small, all checked before any pixel is decoded; unreadable_image if
    the file is damaged.
    """
    try:
        dataset, syntax = dicom_reading.read(data, max_pixels)
        _check(dataset, max_pixels)
        return show(dataset, first_frame(dataset, syntax)), _facts(dataset)
    except ImageError:
        raise
    except Exception:  # noqa: BLE001 a damaged file can raise anything, and the text may quote it
        raise ImageError("unreadable_image") from None


def _check(dataset: Any, max_pixels: int) -> None:
    """Refuse what is not a radiograph, is stored in a way that is not accepted, or has a size outside the limits."""
    modality = str(dataset.get("Modality", ""))
    if modality not in MODALITIES:
        _refuse_modality(modality)
    if "PixelData" not in dataset:
        raise ImageError("unsupported_image", reason="no_pixels")
    check_size(int(dataset.Rows), int(dataset.Columns), int(dataset.get("NumberOfFrames") or 1), max_pixels)
    photometric = str(dataset.PhotometricInterpretation)
    is_known = photometric in _PHOTOMETRIC.get(int(dataset.SamplesPerPixel), ())
    has_palette = photometric != "PALETTE COLOR" or "RedPaletteColorLookupTableData" in dataset  # not a segmented one
    if not (is_known and has_palette) or int(dataset.BitsAllocated) not in (8, 16):
        raise ImageError("unsupported_image", reason="encoding")
    if not 1 <= int(dataset.BitsStored) <= int(dataset.BitsAllocated):
        raise ImageError("unreadable_image")


def _facts(dataset: Any) -> DecoderFacts:
    return DecoderFacts(
        format="DICOM",
        bits=int(dataset.BitsStored),
        inverted=dataset.PhotometricInterpretation == "MONOCHROME1",
        rotated=0,
        mirrored=False,
        frames=max(1, int(dataset.get("NumberOfFrames") or 1)),
        original_size=(int(dataset.Rows), int(dataset.Columns)),
    )


def _refuse_modality(modality: str) -> None:
    if modality in _OTHER_MODALITIES:
        raise ImageError("unsupported_image", reason="modality", modality=modality, accepted=MODALITIES)
    raise ImageError("unsupported_image", reason="unknown_modality", accepted=MODALITIES)
