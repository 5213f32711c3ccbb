import io
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid

from explanation import Box
from pacs.answers import AnswerError, read_answer
from pacs.films import FilmError, read_film, silence_libraries
from pacs.results import ask, build_results, encode
from pacs.service import as_png
from pacs.structured_report import outline
from preprocessing import decode
from tests.support import pacs as support
from tests.support.dicoms import PATIENT
from tests.support.pacs import PIXELS, film, run
from tests.support.server import ROOT

pytestmark = pytest.mark.extras

WHEN = datetime(2026, 1, 2, 10, 30, tzinfo=UTC)
MAX_PIXELS = 10**7
MODEL = {"sha256": "ab" * 32, "version": "places-1"}
BOXES = [
    {"x": 0.3, "y": 0.4, "width": 0.3, "height": 0.15, "strength": 0.9},
    {"x": 0.0, "y": 0.9, "width": 0.1, "height": 0.1, "strength": 0.5},
]
FOUND = {
    "success": 1,
    "predictedClass": "fractura",
    "confidence": 77.82,
    "allProbabilities": [{"class": "fisura", "probability": 12.0}, {"class": "fractura", "probability": 88.0}],
    "detail": {"certainty": "doubtful", "fractured": 91.0, "model": MODEL},
    "boxes": BOXES,
}
NOTHING = {
    "success": 0,
    "confidence": 3.8,
    "allProbabilities": FOUND["allProbabilities"],
    "detail": {"certainty": "sure", "fractured": None, "model": MODEL},
}
REFUSED = {"code": "unreadable_image"}
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
TWO_FRAMES = np.stack([PIXELS, PIXELS])
KINDS = {
    "CR, left": {},
    "no laterality": {"Laterality": None},
    "wrong laterality": {"Laterality": "LEFT"},
    "MONOCHROME1": {"PhotometricInterpretation": "MONOCHROME1"},
    "RLE": {"compress": uid.RLELossless},
    "lossy": {"LossyImageCompression": "01", "LossyImageCompressionRatio": 12.5},
    "Japanese": {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": JAPANESE},
    "Cyrillic": {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Люкceмбypг"},
    "no optional module": dict.fromkeys(
        "StudyDate StudyTime StudyID AccessionNumber ReferringPhysicianName PatientBirthDate PatientSex"
        " BodyPartExamined PatientOrientation ViewPosition InstanceNumber".split()
    ),
    "invalid values": {"PatientSex": "W", "PatientOrientation": None, "StudyDate": None},
    "DX": {
        "SOPClassUID": uid.DigitalXRayImageStorageForPresentation,
        "Modality": "DX",
        "Laterality": None,
        "ImageLaterality": "R",
    },
    "MG": {
        "SOPClassUID": uid.DigitalMammographyXRayImageStorageForPresentation,
        "Modality": "MG",
        "Laterality": None,
        "ImageLaterality": "B",
    },
    "XA, two frames": {
        "pixels": TWO_FRAMES,
        "NumberOfFrames": 2,
        "SOPClassUID": uid.XRayAngiographicImageStorage,
        "Modality": "XA",
    },
    "SC, colour": {
        "pixels": np.stack([(PIXELS >> 4).astype(np.uint8)] * 3, axis=2),
        "BitsStored": 8,
        "HighBit": 7,
        "SOPClassUID": uid.SecondaryCaptureImageStorage,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _as_the_command_does():
    silence_libraries()


def results(data, body=FOUND):
    """Return the capture, or None, and the report, written and read again."""
    *captures, report = [dcmread(io.BytesIO(encode(one))) for one in build_results([(data, body)], WHEN, MAX_PIXELS)]
    return next(iter(captures), None), report


def items(dataset):
    """Yield the name and the value of each coded, measured or textual item of a report."""
    for item in dataset.get("ContentSequence", []):
        name = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""
        if item.ValueType == "CODE":
            yield name, item.ConceptCodeSequence[0].CodeMeaning
        elif item.ValueType == "NUM":
            yield name, float(item.MeasuredValueSequence[0].NumericValue)
        elif item.ValueType == "TEXT":
            yield name, item.TextValue
        elif item.ValueType == "SCOORD":
            yield name, list(item.GraphicData)
        yield from items(item)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_object_has_an_error_for_dciodvfy(kind, tmp_path):
    support.need("dciodvfy")
    for name, result in zip(("capture", "report"), results(film(**KINDS[kind])), strict=True):
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(encode(result))
        lines = run("dciodvfy", path).stdout.splitlines()
        assert {"SCImage", "ComprehensiveSR"} & set(lines)
        assert not [line for line in lines if line.startswith("Error")]


@pytest.mark.parametrize("body", [NOTHING, REFUSED], ids=["nothing", "refused"])
def test_a_report_without_finding_has_no_error_for_dciodvfy(body, tmp_path):
    path = tmp_path / "report.dcm"
    path.write_bytes(encode(results(film(), body)[1]))
    assert "Error" not in run("dciodvfy", path).stdout


def test_dsrdump_shows_what_a_radiologist_reads(tmp_path):
    path = tmp_path / "report.dcm"
    path.write_bytes(encode(results(film())[1]))
    text = run("dsrdump", "+Pl", path).stdout
    for shown in (
        "Comprehensive SR Document", "PRELIMINARY", "UNVERIFIED", '"For Research"', '"Fracture of bone"', "ab" * 32,
        '"Fracture, displaced or otherwise complete"', '"77.82" (%,UCUM', '"88.0" (%,UCUM', '"91.0" (%,UCUM',
        "Doubtful", "0.1.0, model places-1", "POLYLINE", "CR image", "not the outline of a lesion",
    ):  # fmt: skip
        assert shown in text


def test_a_report_names_the_finding_its_numbers_and_its_spots_in_pixels_of_the_film():
    said = list(items(results(film())[1]))
    assert ("Finding", "Fracture of bone") in said
    assert ("Certainty of Finding", 77.82) in said
    assert ("Probability of fisura, if one of the classes", 12.0) in said
    assert ("Verdict", "Fracture, displaced or otherwise complete") in said
    outlines = [value for name, value in said if name == "Image Region"]
    assert outlines[0] == pytest.approx([27, 48, 54, 48, 54, 66, 27, 66, 27, 48])
    assert outlines[1] == pytest.approx([0, 108, 9, 108, 9, 120, 0, 120, 0, 108])


def test_where_nothing_is_recognised_nothing_is_found_and_nothing_is_ruled_out():
    capture, report = results(film(), NOTHING)
    said = dict(items(report))
    assert said["Verdict"] == "None of the known classes"
    assert said["Summary of Analyses"] == "All algorithms succeeded; without findings"
    assert "Finding" not in said
    assert "Certainty of Finding" not in said
    assert capture is not None


def test_a_refused_film_gets_a_report_that_says_why_and_no_capture():
    capture, report = results(film(), REFUSED)
    said = dict(items(report))
    assert capture is None
    assert said["Reason why the film was not analysed"] == "The film is damaged or too expensive to decode"
    assert "Verdict" not in said


@pytest.mark.parametrize("kind", KINDS)
def test_results_lie_in_the_films_study_and_keep_its_patient_laterality_and_orientation(kind):
    data = film(**KINDS[kind])
    source = dcmread(io.BytesIO(data))
    for result in results(data):
        for name in ("StudyInstanceUID", "PatientID"):
            assert result[name].value == source[name].value
        assert str(result.PatientName) == str(source.PatientName)
        assert result.SeriesInstanceUID != source.SeriesInstanceUID
    capture = results(data)[0]
    stated = source.get("ImageLaterality") or source.get("Laterality")
    side = stated if stated in ("L", "R", "B", "U") else ""
    assert (capture.get("ImageLaterality") or capture.Laterality) == side
    assert capture.get("PatientOrientation") == (source.get("PatientOrientation") or "")
    assert capture.get("LossyImageCompression") == source.get("LossyImageCompression")
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_a_capture_shows_the_film_unchanged_but_for_the_outlines_and_a_band_below():
    data = film(PhotometricInterpretation="MONOCHROME1")
    shown, _ = decode(data, MAX_PIXELS)
    expected, pixels = np.asarray(shown), results(data)[0].pixel_array
    assert pixels.shape[1] == expected.shape[1]
    assert pixels.shape[0] > expected.shape[0]
    changed = pixels[: len(expected)] != expected
    assert 0 < changed.mean() < 0.1
    assert not changed[:40].any()
    assert changed[48, 30:50].all()  # the upper edge of the first box
    assert (pixels[len(expected) :] > 200).any()  # the words


def test_the_same_film_and_model_give_the_same_uids_and_others_give_others():
    first, again = results(film()), results(film())
    assert [one.SOPInstanceUID for one in first] == [one.SOPInstanceUID for one in again]
    other_model = FOUND | {"detail": FOUND["detail"] | {"model": MODEL | {"sha256": "cd" * 32}}}
    for others in (results(film(2)), results(film(), other_model)):
        assert not {one.SOPInstanceUID for one in first} & {one.SOPInstanceUID for one in others}
    assert all(one.SOPInstanceUID.startswith("2.25.") and len(one.SOPInstanceUID) <= 64 for one in first)


def test_one_report_speaks_of_all_films_of_a_study():
    films = [(film(1), FOUND), (film(2), NOTHING), (film(3), REFUSED)]
    *captures, report = build_results(films, WHEN, MAX_PIXELS)
    assert len(captures) == 2
    referenced = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert len(referenced) == 3
    assert [value for name, value in items(report) if name == "Summary of Analyses"] == [
        "All algorithms succeeded; with findings",
        "All algorithms succeeded; without findings",
        "No algorithms succeeded; without findings",
    ]


def test_classes_of_another_model_get_codes_of_their_own():
    body = FOUND | {
        "predictedClass": "a class with quite a long name",
        "allProbabilities": [{"class": "a class with quite a long name", "probability": 100}],
    }
    assert dict(items(results(film(), body)[1]))["Verdict"] == "a class with quite a long name"


@pytest.mark.parametrize(
    ("elements", "sentence"),
    [
        ({"StudyInstanceUID": None}, "The film has no StudyInstanceUID, so a result cannot be filed with it."),
        ({"StudyInstanceUID": ""}, "The film has no StudyInstanceUID, so a result cannot be filed with it."),
        (
            {"SeriesInstanceUID": "../etc"},
            "The film's SeriesInstanceUID is not a UID, so a result cannot be filed with it.",
        ),
        (
            {"PatientID": None, "PatientName": None},
            "The film has no patient module, so a result cannot be filed with its patient.",
        ),
        ({"PatientID": "P" * 65}, "The film's PatientID is not valid, so a result cannot be filed with its patient."),
        (
            {"SOPClassUID": uid.CTImageStorage},
            "The file is not a radiograph: its SOP class is not one of CR, DX, MG, XA, RF or SC.",
        ),
    ],
)  # fmt: skip
def test_a_film_that_nothing_can_be_filed_for_is_refused_with_a_sentence(elements, sentence):
    with pytest.raises(FilmError) as raised:
        read_film(film(**elements))
    assert str(raised.value) == sentence


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" + bytes(900), film()[:200], bytes(5000)])
def test_a_file_that_is_not_dicom_is_refused_with_a_sentence(data):
    with pytest.raises(FilmError, match=r"^The fil[em] [^\n]*\.$"):
        read_film(data)


@pytest.mark.parametrize(
    ("elements", "note"),
    [
        ({"Laterality": None}, "The film states no laterality."),
        ({"Laterality": "LEFT"}, "The film's laterality is not R, L, U or B; it was not copied."),
        ({"ImageLaterality": "R"}, "The film states two lateralities; none was copied."),
        ({"PatientSex": "W"}, "The film's PatientSex is not valid; it was not copied."),
    ],
)
def test_what_is_left_out_is_named(elements, note):
    assert note in read_film(film(**elements)).notes


@pytest.mark.parametrize(
    "body", [{}, {"confidence": "x"}, FOUND | {"boxes": [BOXES[0] | {"x": 3}]}, FOUND | {"detail": None}]
)
def test_an_answer_of_something_else_is_refused(body):
    with pytest.raises(AnswerError):
        read_answer(body)


def test_a_box_is_mapped_to_rows_and_columns_of_the_film():
    points = outline(Box(0.5, 0.25, 0.5, 0.8, 1.0), read_film(film()))
    assert points.tolist() == [[45, 30], [90, 30], [90, 120], [45, 120], [45, 30]]


def test_the_service_sees_pixels_alone():
    seen = []

    class Recorder:
        def ask(self, image):
            seen.append(image)
            return NOTHING

    data = film(compress=uid.RLELossless, BodyPartExamined="ARM")
    ask(Recorder(), data, MAX_PIXELS)
    png = as_png(seen[0])
    assert PATIENT.encode() in data
    assert Image.open(io.BytesIO(png)).info == {}
    assert {png[start + 4 : start + 8] for start in chunk_starts(png)} == {b"IHDR", b"IDAT", b"IEND"}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), np.asarray(decode(data, MAX_PIXELS)[0]))


def chunk_starts(png):
    start = 8
    while start < len(png):
        yield start
        start += 12 + int.from_bytes(png[start : start + 4], "big")


def test_the_command_writes_both_objects_beside_an_untouched_film(service, tmp_path):
    path, out = tmp_path / "arm.dcm", tmp_path / "out"
    path.write_bytes(film(Laterality=None))
    before, _ = path.read_bytes(), out.mkdir()
    ran = report(path, out, "--url", service.url)
    assert (ran.returncode, ran.stdout.strip() in ("fisura", "fractura")) == (0, True), ran.stderr
    assert ran.stderr == "The film states no laterality.\n"
    assert sorted(one.name for one in out.iterdir()) == ["arm.capture.dcm", "arm.report.dcm"]
    assert [value for name, value in items(dcmread(out / "arm.report.dcm")) if name == "Image Region"]
    assert path.read_bytes() == before


def test_the_command_asks_the_network_in_its_own_process_without_a_url(tmp_path):
    path = tmp_path / "arm.dcm"
    path.write_bytes(film())
    ran = report(path, tmp_path)
    assert (ran.returncode, ran.stdout in ("fractura\n", "fisura\n", "none of the known classes\n")) == (0, True)
    assert len(dict(items(dcmread(tmp_path / "arm.report.dcm")))["Algorithm Parameters"]) > 64


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (film(StudyInstanceUID=None), "The film has no StudyInstanceUID, so a result cannot be filed with it."),
        (film(), "http://127.0.0.1:1/predict is unreachable (ConnectionError)."),
    ],
    ids=["no study", "no service"],
)
def test_what_goes_wrong_is_one_sentence_and_nothing_is_written(data, sentence, tmp_path):
    path = tmp_path / "arm.dcm"
    path.write_bytes(data)
    ran = report(path, tmp_path, "--url", "http://127.0.0.1:1")
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", sentence + "\n")
    assert [one.name for one in tmp_path.iterdir()] == ["arm.dcm"]


def report(*arguments):
    command = [sys.executable, "-m", "pacs", "report", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
