"""DICOM files written by pydicom: pixels and elements chosen by a test, and a patient name that must not leak."""

import warnings
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

PATIENT = "Quijano^Alonso"


def dicom_file(
    pixels: NDArray[Any] | None, syntax: str = uid.ExplicitVRLittleEndian, compress: str | None = None, **elements: Any
) -> bytes:
    """Return the bytes of a file: `pixels` (height, width), (height, width, 3) or, with NumberOfFrames, one more."""
    dataset = Dataset()
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = uid.generate_uid(entropy_srcs=["bone"])
    dataset.Modality = "DX"
    dataset.PatientName = PATIENT
    dataset.PatientID = PATIENT
    if pixels is not None:
        _describe(dataset, pixels, "NumberOfFrames" in elements)
        dataset.PixelData = _native(pixels, syntax)
        dataset["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if compress:
            dataset.compress(compress)
        return _written(dataset)


def encapsulated(frame: bytes, syntax: str, pixels: NDArray[Any], **elements: Any) -> bytes:
    """Return a file with a given compressed frame; `pixels` has the shape and dtype that its header states."""
    from pydicom.encaps import encapsulate

    data = dicom_file(pixels, **elements)
    dataset = read(data)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    return _written(dataset)


def read(data: bytes) -> Dataset:
    """Read a file, to modify it."""
    from pydicom import dcmread

    return dcmread(BytesIO(data))


def look_up_table(table: NDArray[Any], first: int, bits: int) -> Dataset:
    """Return an item of a modality or VOI LUT sequence."""
    item = Dataset()
    item.LUTDescriptor = [len(table) % 65536, first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.LUTData = table.astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    return item


def _describe(dataset: Dataset, pixels: NDArray[Any], has_frames: bool) -> None:
    shape = pixels.shape[1:] if has_frames else pixels.shape
    dataset.Rows, dataset.Columns = shape[:2]
    dataset.SamplesPerPixel = 3 if len(shape) == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if len(shape) == 3 else "MONOCHROME2"
    if len(shape) == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))


def _native(pixels: NDArray[Any], syntax: str) -> bytes:
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    return pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()


def _written(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
