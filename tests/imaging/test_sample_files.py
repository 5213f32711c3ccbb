"""The sample files that pydicom, pydicom-data and other installed packages bring, and those in a folder of your own.

    BONE_SAMPLES_DIR=folder python -m pytest tests/imaging/test_sample_files.py

tries every file in that folder too.
"""

import io
import os
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from PIL import Image

from imaging.dicom import MODALITIES, is_dicom
from preprocessing import ImageError, decode
from tests.support import pydicom_pipeline

LIMIT = 50_000_000
PACKAGES = {"pydicom": "data", "data_store": "data", "matplotlib": "mpl-data", "sklearn": "datasets"}
STATUSES = {200, 400, 413, 415, 422}
NOT_TAKEN = {  # what these hold is refused by its name
    "32 bits a sample": "SC_rgb_32bit SC_rgb_32bit_2frame SC_rgb_expb_32bit SC_rgb_expb_32bit_2frame SC_rgb_rle_32bit"
    " SC_rgb_rle_32bit_2frame",
    "segments of 1 bit": "liver liver_1frame liver_expb liver_expb_1frame",
    "a segmented palette": "gdcm-US-ALOKA-16 gdcm-US-ALOKA-16_big",
}
OTHERWISE = {
    "eCT_Supplemental": "the window in its functional groups counts, which pydicom does not look for",
    "MR_truncated": "part of its pixels is missing, which pydicom refuses, too",
    "JPEG2000-embedded-sequence-delimiter": "its delimiter is lost when pydicom writes it again",
    "emri_small_jpeg_2k_lossless_too_short": "part of its pixels is missing",
}


def sample_files():
    """Return every file of these packages' data, and of BONE_SAMPLES_DIR."""
    roots = [
        Path(location, folder)
        for package, folder in PACKAGES.items()
        if (spec := find_spec(package))
        for location in spec.submodule_search_locations or ()
    ]
    roots += [Path(folder) for folder in [os.environ.get("BONE_SAMPLES_DIR")] if folder]
    found = [path for root in roots for path in sorted(root.rglob("*"))]
    return [path for path in found if path.is_file() and path.suffix not in (".py", ".pyc")]


def test_every_sample_file_gets_an_answer_or_a_refusal_of_the_contract(server):
    statuses = {}
    for path in sample_files():
        answer = requests.post(server.url + "/predict", files={"image": path.read_bytes()}, timeout=60)
        statuses.setdefault(answer.status_code, []).append(path.name)
    assert set(statuses) <= STATUSES, {status: names for status, names in statuses.items() if status not in STATUSES}
    assert len(statuses[200]) >= 10
    assert "Traceback" not in server.output


def as_radiographs():
    """Yield each DICOM sample with pixels and sides of at least 32 pixels, labelled as DX if it is not a radiograph."""
    for path in sample_files():
        data = path.read_bytes()
        if not is_dicom(data):
            continue
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        if "PixelData" not in dataset or min(dataset.get("Rows") or 0, dataset.get("Columns") or 0) < 32:
            continue
        if dataset.get("Modality") not in MODALITIES:
            dataset.Modality = "DX"
            buffer = io.BytesIO()
            try:
                dataset.save_as(buffer)
            except TypeError:  # of an element with a wrong type
                continue
            data = buffer.getvalue()
        yield path.stem, dataset, data


def test_every_sample_with_pixels_is_shown_as_pydicom_shows_it():
    warnings.simplefilter("ignore")
    equal = []
    for name, dataset, data in as_radiographs():
        if any(name in names.split() for names in NOT_TAKEN.values()):
            with pytest.raises(ImageError) as refused:
                decode(data, LIMIT)
            assert refused.value.facts == {"reason": "encoding"}, name
            continue
        if name in OTHERWISE:
            continue
        try:
            expected = pydicom_pipeline.show(dataset)
        except (RuntimeError, AttributeError):  # no decoder is installed, or no transfer syntax is stated
            continue
        shown = np.asarray(decode(data, LIMIT)[0]).astype(float)
        assert shown.shape == expected.shape, name
        assert np.max(np.abs(shown - expected)) <= 2, name
        equal.append(name)
    assert len(equal) >= 60


def test_every_image_of_at_most_8_bits_is_shown_as_pillow_shows_it():
    compared = 0
    for path in sample_files():
        data = path.read_bytes()
        try:
            image = Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
            if image.mode not in ("1", "L", "P", "RGB"):
                continue
            shown = decode(data, LIMIT)[0]
        except (OSError, ImageError):
            continue
        if image.has_transparency_data or image.getexif().get(274, 1) != 1:
            continue
        expected = np.asarray(image.convert("RGB")).astype(int)
        assert np.max(np.abs(np.asarray(shown.convert("RGB")) - expected)) <= 1, path.name
        compared += 1
    assert compared >= 3
