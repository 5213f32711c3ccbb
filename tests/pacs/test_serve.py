import os
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time

import pytest
import requests
from PIL import Image
from pydicom import dcmread, uid
from pynetdicom import AE, evt

from pacs.films import read_film, silence_libraries
from pacs.pipeline import backoff
from pacs.service import HttpService, ServiceFaultError, ServiceUnavailableError
from pacs.spool import Spool, SpoolError, SpoolFullError
from pacs.structured_report import SERIES_NUMBER
from tests.support import pacs as support
from tests.support.pacs import STUDY, film, node, orthanc, run, until
from tests.support.programs import free_port
from tests.support.server import ROOT, serving

pytestmark = [
    pytest.mark.extras,
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # sockets that pynetdicom leaves open
]

NOWHERE = "dicom://NONE@127.0.0.1:1"
NO_SERVICE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _as_the_command_does():
    silence_libraries()


def write(folder, *films):
    """Write films to files and return their paths."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:04}.dcm" for number in range(len(films))]
    for path, data in zip(paths, films, strict=True):
        path.write_bytes(data)
    return paths


# -- the spool


def spool_of(folder, max_bytes=10**9):
    return Spool(folder / "spool", max_bytes)


def put(spool, number=1, **elements):
    data = film(number, **elements)
    return spool.accept(read_film(data), data)


def test_a_film_that_was_accepted_is_there_when_the_spool_is_opened_anew(tmp_path):
    first = spool_of(tmp_path)
    assert put(first) == "accepted"
    first.close()  # as after a kill, nothing else is written
    again = spool_of(tmp_path)
    key, tries = again.claim_waiting()
    assert (dcmread(tmp_path / "spool/films" / f"{key}.dcm").SOPInstanceUID, tries) == (f"{STUDY}.1.1.1", 0)
    assert again.claim_waiting() is None  # it is claimed


def test_only_the_owner_may_read_the_spool_and_no_name_in_it_is_an_identifier(tmp_path):
    put(spool_of(tmp_path))
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    (path,) = (tmp_path / "spool/films").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert STUDY not in str(path)


def test_the_same_film_is_kept_once_and_another_with_its_uid_is_not_kept(tmp_path):
    spool = spool_of(tmp_path)
    assert [put(spool), put(spool), put(spool, PatientID="other")] == ["accepted", "known", "differs"]
    assert spool.count()["waiting"] == 1


def test_a_film_that_was_on_the_disk_but_not_in_the_index_is_taken_up_and_a_piece_of_one_is_not(tmp_path):
    spool = spool_of(tmp_path)
    spool.close()
    (tmp_path / "spool/films/abc.dcm").write_bytes(film())
    (tmp_path / "spool/films/bad.dcm").write_bytes(b"no film")
    (tmp_path / "spool/films/7.unfinished").write_bytes(film(2)[:500])
    again = spool_of(tmp_path)
    assert again.claim_waiting() == ("abc", 0)
    assert sorted(path.name for path in (tmp_path / "spool/poison").iterdir()) == ["bad.dcm", "bad.txt"]
    assert [path.name for path in (tmp_path / "spool/films").iterdir()] == ["abc.dcm"]


def test_a_film_whose_file_vanished_is_listed_as_poisoned(tmp_path):
    spool = spool_of(tmp_path)
    put(spool)
    spool.close()
    next((tmp_path / "spool/films").iterdir()).unlink()
    again = spool_of(tmp_path)
    assert (again.count()["poisoned"], again.count()["waiting"]) == (1, 0)
    assert put(again) == "accepted"  # it may come again


def test_a_full_spool_accepts_nothing(tmp_path):
    spool = spool_of(tmp_path, max_bytes=10_000)
    put(spool)
    with pytest.raises(SpoolFullError):
        put(spool, 2)


def test_a_second_node_cannot_use_the_same_spool(tmp_path):
    spool = spool_of(tmp_path)
    with pytest.raises(SpoolError, match="another node uses it"):
        spool_of(tmp_path)
    spool.close()


def test_a_study_is_reported_when_it_is_quiet_and_all_its_films_are_answered(tmp_path):
    spool = spool_of(tmp_path)
    put(spool, 1)
    put(spool, 2)
    put(spool, 3, study=2)
    answered = [spool.claim_waiting()[0] for _ in range(2)]
    for key in answered:
        spool.answer(key, {"code": "x"})
    spool.close_quiet_studies(quiet_seconds=60)
    assert spool.next_report() is None
    spool.close_quiet_studies(quiet_seconds=0)
    report = spool.next_report()
    assert sorted(report.keys) == sorted(answered)
    put(spool, 4)  # a late film gets a report of its own
    spool.answer(spool.claim_waiting()[0], {"code": "x"})
    spool.answer(spool.claim_waiting()[0], {"code": "x"})
    spool.finish_report(report)
    spool.close_quiet_studies(quiet_seconds=0)
    assert [len(spool.next_report().keys), spool.count()["delivered"]] == [1, 2]


def test_films_of_two_patients_are_not_reported_together_even_under_one_study_uid(tmp_path):
    spool = spool_of(tmp_path)
    put(spool, 1, PatientID="one")
    put(spool, 2, PatientID="two")
    for _ in range(2):
        spool.answer(spool.claim_waiting()[0], {"code": "x"})
    spool.close_quiet_studies(quiet_seconds=0)
    assert len(spool.next_report().keys) == 1


def test_each_try_is_counted_before_it_is_made_unless_an_outage_ended_it(tmp_path):
    for expected in (0, 1, 2):  # as if the film ended the process each time
        spool = spool_of(tmp_path)
        expected or put(spool)
        key, tries = spool.claim_waiting()
        assert tries == expected
        spool.close()
    spool = spool_of(tmp_path)
    spool.claim_waiting()
    spool.forgive(key)
    spool.release(key)
    assert spool.claim_waiting() == (key, 3)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (b"", ServiceFaultError),
        (b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}", ServiceUnavailableError),
        (b'HTTP/1.1 500 X\r\nContent-Length: 18\r\n\r\n{"code":"a_fault"}', ServiceFaultError),
        (b"HTTP/1.1 200 X\r\nContent-Length: 6\r\n\r\n<html>", ServiceUnavailableError),
        (b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", ServiceUnavailableError),
        (b"HTTP/1.1 413 X\r\nContent-Length: 6\r\n\r\n<html>", {"code": "image_too_large"}),
    ],
    ids=[
        "breaks off",
        "an empty fault",
        "a fault",
        "another service",
        "a proxy whose service is down",
        "a proxy's limit",
    ],
)
def test_an_outage_is_told_from_a_film_that_the_service_fails_on(response, expected):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 20)
                connection.sendall(response)

        peer = threading.Thread(target=answer)
        peer.start()
        service = HttpService(f"http://127.0.0.1:{listener.getsockname()[1]}")
        if isinstance(expected, dict):
            assert service.ask(Image.new("L", (40, 40))) == expected
        else:
            with pytest.raises(expected):
                service.ask(Image.new("L", (40, 40)))
        peer.join()


def test_waits_grow_and_differ():
    assert all(0.5 <= backoff(0) <= 1.5 and 150 <= backoff(30) <= 450 for _ in range(50))
    assert len({backoff(3) for _ in range(20)}) > 10


# -- the node


@pytest.fixture(scope="module")
def idle_node(tmp_path_factory):
    """A node that accepts films, whose service and destination are both down."""
    with node(tmp_path_factory.mktemp("idle"), NO_SERVICE, NOWHERE) as running:
        yield running


def test_dcmtk_echoes_and_stores(idle_node, tmp_path):
    echoed = run("echoscu", "-v", "-aet", "ROOM", "-aec", "BONE", "127.0.0.1", idle_node.port).stdout
    assert "Received Echo Response (Success)" in echoed
    sent = idle_node.send(*write(tmp_path, film(11)), command="storescu").stdout
    assert "Received Store Response (Success)" in sent


@pytest.mark.parametrize(
    ("title", "called"), [("STRANGER", "BONE"), ("ORTHANC", "OTHER")], ids=["unknown sender", "another node"]
)
def test_associations_of_others_are_rejected(idle_node, title, called):
    sent = run("echoscu", "-v", "-aet", title, "-aec", called, "127.0.0.1", idle_node.port)
    assert "Rejected" in sent.stdout
    assert sent.returncode != 0


@pytest.mark.parametrize(
    "sop_class", [uid.CTImageStorage, uid.EncapsulatedPDFStorage, uid.ComprehensiveSRStorage], ids=lambda one: one.name
)
def test_other_kinds_of_object_get_no_presentation_context(idle_node, sop_class, tmp_path):
    sent = idle_node.send(*write(tmp_path, film(SOPClassUID=sop_class))).stdout
    assert "Success" not in sent
    assert "No Acceptable Presentation Contexts" in sent or "no valid presentation context" in sent.lower()


@pytest.mark.parametrize(
    ("elements", "status"),
    [
        ({"number": 21, "StudyInstanceUID": None}, 0xC000),
        ({"number": 22, "PatientID": None, "PatientName": None}, 0xC000),
        ({"number": 23, "ManufacturerModelName": "Bone Fracture Classifier"}, 0x0000),
    ],
    ids=["no study", "no patient", "own result"],
)
def test_a_film_that_cannot_be_filed_gets_a_status_with_a_sentence(idle_node, elements, status):
    before = idle_node.metric('bone_pacs_spool_films{state="waiting"}')
    answered = store(idle_node.port, film(**elements))
    assert answered.Status == status
    assert status == 0 or len(answered.ErrorComment) > 30
    assert idle_node.metric('bone_pacs_spool_films{state="waiting"}') == before


def test_another_film_with_the_same_uid_gets_a_status_of_its_own(idle_node):
    first, other = film(31), film(31, BodyPartExamined="LEG")
    statuses = [store(idle_node.port, data).Status for data in (first, first, other)]
    assert statuses == [0x0000, 0x0000, 0x0111]


def test_the_log_and_the_metrics_name_no_patient_and_no_film(idle_node):
    store(idle_node.port, film(41, PatientName="Perezmarked^Ana", PatientID="PEREZMARKED7731"))
    said = idle_node.server.output + requests.get(idle_node.server.url + "/metrics", timeout=10).text
    assert "perezmarked" not in said.lower()
    assert STUDY not in said


def test_the_monitor_answers_and_a_connection_that_sends_nothing_blocks_nobody(idle_node):
    with socket.create_connection(("127.0.0.1", idle_node.port)):
        assert store(idle_node.port, film(42)).Status == 0
        for route, status in (("/health", 200), ("/ready", 200), ("/metrics", 200), ("/other", 404)):
            assert requests.get(idle_node.server.url + route, timeout=10).status_code == status


def test_a_node_whose_spool_is_full_refuses_before_it_accepts_and_is_not_ready(tmp_path):
    with node(tmp_path, NO_SERVICE, NOWHERE, BONE_PACS_MAX_SPOOL_MB="1") as running:
        statuses = [store(running.port, film(number, pixels=big())).Status for number in (1, 2, 3)]
        assert statuses == [0x0000, 0x0000, 0xA700]
        assert requests.get(running.server.url + "/ready", timeout=10).status_code == 503


def test_what_prevents_a_start_is_one_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        needed = {"BONE_PACS_SENDERS": "A@127.0.0.1", "BONE_PACS_DESTINATION": NOWHERE, "BONE_PACS_HOST": "127.0.0.1"}
        needed |= {"BONE_PACS_PORT": str(taken.getsockname()[1]), "BONE_PACS_MONITOR_PORT": str(free_port())}
        others = {name: value for name, value in os.environ.items() if not name.startswith("BONE_")}
        environment = others | needed | {"BONE_PACS_SPOOL": str(tmp_path / "spool")}
        started = subprocess.run(
            support.NODE, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert started.returncode == 1
    assert started.stderr.startswith("Cannot listen on 127.0.0.1 port ")
    assert started.stderr.count("\n") == 1


def test_with_tls_only_those_with_a_certificate_may_send(tmp_path):
    authority, (certificate, key) = certificates(tmp_path)
    settings = {
        "BONE_PACS_TLS_CERTIFICATE": str(certificate),
        "BONE_PACS_TLS_KEY": str(key),
        "BONE_PACS_TLS_CA": str(authority),
    }
    context = ssl.create_default_context(cafile=authority)
    with (
        node(tmp_path, NO_SERVICE, NOWHERE, **settings) as running,
        socket.create_connection(("127.0.0.1", running.port)),  # shakes no hand, and blocks nobody
    ):
        stranger = AE("ROOM")
        stranger.add_requested_context("1.2.840.10008.1.1")
        assert not stranger.associate("127.0.0.1", running.port, ae_title="BONE").is_established
        context.load_cert_chain(certificate, key)
        assert store(running.port, film(), tls_args=(context, "localhost")).Status == 0


# -- with a real PACS


def test_orthanc_sends_films_and_finds_report_and_captures_in_their_study(service, tmp_path):
    port = free_port()
    with orthanc(tmp_path, port) as pacs:
        destination = f"dicom://ORTHANC@127.0.0.1:{pacs.dicom_port}"
        with node(tmp_path, service.url, destination, BONE_PACS_PORT=str(port)) as running:
            for data in (film(1), film(2), film(3, pixels=None), film(4, study=2)):
                uploaded = requests.post(f"{pacs.url}/instances", data=data, timeout=30)
                answer = requests.post(f"{pacs.url}/modalities/bone/store", data=uploaded.json()["ID"], timeout=60)
                assert answer.ok, answer.text
            running.wait(delivered=4)
            for study, captures in ((1, 2), (2, 1)):
                found = [one for one in pacs.instances() if one.StudyInstanceUID == f"{STUDY}.{study}"]
                kinds = [one.SOPClassUID for one in found]
                assert kinds.count(uid.ComprehensiveSRStorage) == 1
                assert kinds.count(uid.SecondaryCaptureImageStorage) == captures
                assert {one.PatientID for one in found} == {"P-7731"}
            assert not list((running.spool / "films").iterdir())


def test_results_are_delivered_by_stow_too_and_a_film_that_comes_again_is_not_reported_again(service, tmp_path):
    with orthanc(tmp_path, 1) as pacs, node(tmp_path, service.url, pacs.web) as running:
        paths = write(tmp_path / "films", film(1))
        running.send(*paths)
        running.wait(delivered=1)
        before = sorted(one.SOPInstanceUID for one in pacs.instances())
        running.send(*paths)
        time.sleep(1.5)
        assert sorted(one.SOPInstanceUID for one in pacs.instances()) == before
        assert len(before) == 2
        assert running.metric('bone_pacs_films_total{outcome="known"}') == 1
        assert [one.SeriesNumber for one in pacs.of_class(uid.ComprehensiveSRStorage)] == [SERIES_NUMBER]


def test_results_that_the_destination_refuses_end_with_their_film_in_the_poison_folder(service, tmp_path):
    refusing = AE("PACS")
    for kind in (uid.ComprehensiveSRStorage, uid.SecondaryCaptureImageStorage):
        refusing.add_supported_context(kind)
    server = refusing.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0xC123)])
    try:
        to = f"dicom://PACS@127.0.0.1:{server.server_address[1]}"
        with node(tmp_path, service.url, to, BONE_PACS_QUIET_SECONDS="0") as running:
            running.send(*write(tmp_path / "films", film(1)))
            running.wait(poisoned=1)
            (reason,) = (running.spool / "poison").glob("*.txt")
            assert "PACS answers 0xC123 to a result." in reason.read_text()
            assert reason.with_suffix(".dcm").exists()
            assert running.metric('bone_pacs_reports_total{outcome="poisoned"}') == 1
    finally:
        server.shutdown()


@pytest.mark.timeout(900)
def test_of_a_burst_of_200_films_none_is_lost_and_none_reported_twice_although_processes_are_killed(tmp_path):
    films, port, monitor, url_port = write(tmp_path / "films", *burst()), free_port(), free_port(), free_port()
    settings = {"BONE_PACS_PORT": str(port), "BONE_PACS_MONITOR_PORT": str(monitor)}
    with orthanc(tmp_path, port) as pacs:
        arguments = (tmp_path, f"http://127.0.0.1:{url_port}", f"dicom://ORTHANC@127.0.0.1:{pacs.dicom_port}")
        sender = threading.Thread(target=send_until_acknowledged, args=(films, port))
        with asked(url_port) as service:
            with node(*arguments, **settings) as running:
                sender.start()
                until(lambda: len(list((running.spool / "films").glob("*.dcm"))) > 20)
                running.server.process.send_signal(signal.SIGKILL)
            with node(*arguments, **settings) as running:
                until(lambda: running.metric('bone_pacs_answers_total{outcome="none"}') > 10, 120)
                service.process.send_signal(signal.SIGKILL)
                running.server.process.send_signal(signal.SIGKILL)
        with asked(url_port), node(*arguments, **settings) as running:
            sender.join(300)
            assert not sender.is_alive()
            until(lambda: running.metric('bone_pacs_spool_films{state="delivered"}') == 200, 400)
            reports, captures = (
                pacs.of_class(kind) for kind in (uid.ComprehensiveSRStorage, uid.SecondaryCaptureImageStorage)
            )
            sources = [source for one in captures for source in sources_of(pacs, one)]
            assert sorted(sources) == sorted(dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in films)
            reported = [film_uid for one in reports for film_uid in evidence_of(pacs, one)]
            assert sorted(reported) == sorted(sources)
            assert running.metric('bone_pacs_spool_films{state="poisoned"}') == 0


def asked(port):
    """Run a service that recognises no fracture, and so explains none, on a given port."""
    return serving(BONE_CONFIDENCE_THRESHOLD="0.999", BONE_PORT=str(port))


def burst():
    """Return 200 films of 20 studies."""
    return [film(number, study=1 + number % 20) for number in range(200)]


def send_until_acknowledged(paths, port):
    """Send each film until it was acknowledged, as a modality does."""
    for path in paths:
        data = path.read_bytes()
        while (status := store(port, data)) is None or status.get("Status") != 0:
            time.sleep(0.2)


def store(port, data, **associate):
    """Send a film over a separate association and return the status; None if there was no answer."""
    from io import BytesIO

    dataset = dcmread(BytesIO(data))
    entity = AE("ROOM")
    entity.add_requested_context(dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="BONE", **associate)
    if not association.is_established:
        return None
    try:
        status = association.send_c_store(dataset)
    except RuntimeError:  # the node was killed
        return None
    finally:
        association.release()
    return status if "Status" in status else None


def stored(pacs, found):
    """Return a whole object of Orthanc's."""
    from io import BytesIO

    (identifier,) = requests.post(f"{pacs.url}/tools/lookup", data=found.SOPInstanceUID, timeout=30).json()
    return dcmread(BytesIO(requests.get(f"{pacs.url}/instances/{identifier['ID']}/file", timeout=30).content))


def sources_of(pacs, capture):
    return [one.ReferencedSOPInstanceUID for one in stored(pacs, capture).SourceImageSequence]


def evidence_of(pacs, report):
    for study in stored(pacs, report).CurrentRequestedProcedureEvidenceSequence:
        for series in study.ReferencedSeriesSequence:
            yield from (one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence)


def big():
    import numpy as np

    return np.zeros((600, 500), np.uint16)


def certificates(folder):
    """Make a certificate of its own authority, for localhost, with openssl."""
    if not support.find("openssl"):
        pytest.skip("openssl is not installed")
    certificate, key = folder / "node.pem", folder / "node.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return certificate, (certificate, key)
