"""`python -m pacs.benchmark`: films a second through a node and through the bare service; memory; TLS. Linux only.

It starts the service, a node and a receiver of results on free ports of the loopback address, and sends drawn films.
"""

import argparse
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import requests
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt

from pacs.uids import derive_uid

ROOT: Final = Path(__file__).parents[1]
SIZE: Final = (1500, 1333)  # 2 megapixels of 12 bits
FILMS_PER_STUDY: Final = 2
START_SECONDS: Final = 300


def main(arguments: list[str]) -> int:
    """Measure and print the figures; return the exit code."""
    parser = argparse.ArgumentParser("python -m pacs.benchmark", description=__doc__)
    parser.add_argument("--films", type=int, default=100)
    count = parser.parse_args(arguments).films
    films = [draw_film(number) for number in range(count)]
    with tempfile.TemporaryDirectory() as name, service() as url:
        folder = Path(name)
        tls = make_certificate(folder)
        alone = post_all(url, films)
        print(f"{count} films of {SIZE[0]} x {SIZE[1]} pixels; one-minute load {os.getloadavg()[0]:.1f}")
        print(f"bare service, two clients: {count / alone:.1f} films/s")
        for title, certificate in (("node", None), ("node with TLS", tls), ("node", None), ("node with TLS", tls)):
            accepted, delivered, memory = through_node(folder / f"{time.monotonic_ns()}", url, films, certificate)
            print(
                f"{title}: acknowledged {count / accepted:.1f} films/s, delivered {count / delivered:.1f} films/s"
                f" ({alone / delivered:.2f} of the bare service), peak memory {memory:.0f} MB"
            )
    return 0


def draw_film(number: int) -> bytes:
    """Return a CR film of noise on a bright bar, 12 bits, uncompressed."""
    random = np.random.default_rng(number)
    across = np.linspace(-1, 1, SIZE[1])
    bar = 2600 * np.exp(-((across / 0.25) ** 2)) + 600
    pixels = (bar + random.normal(0, 60, SIZE)).clip(0, 4095).astype("<u2")
    film = Dataset()
    film.SOPClassUID, film.Modality = ComputedRadiographyImageStorage, "CR"
    film.SOPInstanceUID = derive_uid("benchmark film", str(number), str(time.time_ns()))
    film.StudyInstanceUID = derive_uid("benchmark study", str(number // FILMS_PER_STUDY), str(os.getpid()))
    film.SeriesInstanceUID = derive_uid("benchmark series", str(number // FILMS_PER_STUDY), str(os.getpid()))
    film.PatientName, film.PatientID = "Drawn^Film", "DRAWN"
    film.Rows, film.Columns, film.SamplesPerPixel, film.PhotometricInterpretation = *SIZE, 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.PixelData = pixels.tobytes()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def post_all(url: str, films: list[bytes]) -> float:
    """Return the seconds that two clients need to have all films classified by the service itself."""

    def post(film: bytes) -> None:
        requests.post(f"{url}/predict?detail=1", files={"image": film}, timeout=60).raise_for_status()

    started = time.perf_counter()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(post, films))
    return time.perf_counter() - started


def through_node(
    folder: Path, url: str, films: list[bytes], certificate: tuple[Path, Path] | None
) -> tuple[float, float, float]:
    """Return the seconds until all films were acknowledged and all reported, and the node's peak memory in MB."""
    datasets = [dcmread(BytesIO(film)) for film in films]
    reported: list[str] = []
    with receiver(reported) as results_port, node(folder, url, results_port, certificate) as (port, process, monitor):
        started = time.perf_counter()
        send_all(port, datasets, certificate)
        accepted = time.perf_counter() - started
        while (
            f'bone_pacs_spool_films{{state="delivered"}} {len(films)}.0' not in requests.get(monitor, timeout=30).text
        ):
            time.sleep(0.1)
        delivered = time.perf_counter() - started
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    if reported.count(ComprehensiveSRStorage) != -(-len(films) // FILMS_PER_STUDY):
        raise SystemExit("Not every study was reported once; these figures mean nothing.")
    return accepted, delivered, int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def send_all(port: int, films: Sequence[Dataset], certificate: tuple[Path, Path] | None) -> None:
    """Send films over one association."""
    entity = AE("BENCH")
    entity.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
    tls = (ssl.create_default_context(cafile=certificate[0]), "localhost") if certificate else None
    association = entity.associate("127.0.0.1", port, ae_title="BONE", tls_args=tls)
    for film in films:
        if association.send_c_store(film).Status != 0:
            raise SystemExit("A film was refused; these figures mean nothing.")
    association.release()


@contextmanager
def receiver(reported: list[str]) -> Iterator[int]:
    """Take results in this process, append the SOP class of each, and yield the port."""

    def take(event: Any) -> int:
        reported.append(str(event.request.AffectedSOPClassUID))
        return 0x0000

    entity = AE("SINK")
    for sop_class in (ComprehensiveSRStorage, SecondaryCaptureImageStorage):
        entity.add_supported_context(sop_class)
    server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


@contextmanager
def service() -> Iterator[str]:
    """Run the service and yield its address."""
    port = free_port()
    with process([sys.executable, "app.py"], {"BONE_HOST": "127.0.0.1", "BONE_PORT": str(port)}):
        wait(f"http://127.0.0.1:{port}/ready")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def node(
    folder: Path, url: str, results_port: int, certificate: tuple[Path, Path] | None
) -> Iterator[tuple[int, "subprocess.Popen[bytes]", str]]:
    """Run a node; yield its port, its process and the address of its metrics."""
    port, monitor_port = free_port(), free_port()
    settings = {
        "BONE_PACS_URL": url,
        "BONE_PACS_HOST": "127.0.0.1",
        "BONE_PACS_PORT": str(port),
        "BONE_PACS_MONITOR_PORT": str(monitor_port),
        "BONE_PACS_SENDERS": "BENCH@127.0.0.1",
        "BONE_PACS_DESTINATION": f"dicom://SINK@127.0.0.1:{results_port}",
        "BONE_PACS_SPOOL": str(folder),
        "BONE_PACS_QUIET_SECONDS": "1",
    }
    if certificate:
        settings |= {"BONE_PACS_TLS_CERTIFICATE": str(certificate[0]), "BONE_PACS_TLS_KEY": str(certificate[1])}
    with process([sys.executable, "-m", "pacs", "serve"], settings) as running:
        wait(f"http://127.0.0.1:{monitor_port}/health")
        yield port, running, f"http://127.0.0.1:{monitor_port}/metrics"


@contextmanager
def process(command: list[str], settings: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command in the project's root until the block ends."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BONE_")}
    running = subprocess.Popen(  # noqa: S603 our own commands
        command, cwd=ROOT, env=clean | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        running.terminate()
        running.wait()


def wait(url: str) -> None:
    """Return once an address answers 200. Raise SystemExit if it never does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.1)
    raise SystemExit(f"{url} never answered 200.")


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for localhost with openssl."""
    certificate, key = folder / "node.pem", folder / "node.key"
    options = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(  # noqa: S603
        ["openssl", *options.split(), "-keyout", str(key), "-out", str(certificate)],  # noqa: S607 the caller's openssl
        check=True,
        capture_output=True,
    )
    return certificate, key


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
