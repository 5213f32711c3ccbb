"""Films that a PACS would hold, a node of `python -m pacs serve`, an Orthanc, and dcmtk's and dicom3tools' commands."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from pydicom import Dataset, dcmread, uid

from tests.support.dicoms import dicom_file
from tests.support.phantoms import phantom
from tests.support.programs import free_port
from tests.support.server import ROOT, RunningServer, serving

NODE = (sys.executable, "-m", "pacs", "serve")
STUDY = "1.2.826.0.1.3680043.8.498.1"
PIXELS = np.asarray(phantom("fractura", (120, 90)), np.uint16) * 16


def film(number: int = 1, study: int = 1, pixels: Any = PIXELS, **elements: Any) -> bytes:
    """Return a CR film of 12 bits with every module that it needs; an element that is None is left out."""
    usual = {
        "SOPClassUID": uid.ComputedRadiographyImageStorage,
        "StudyInstanceUID": f"{STUDY}.{study}",
        "SeriesInstanceUID": f"{STUDY}.{study}.1",
        "SOPInstanceUID": f"{STUDY}.{study}.1.{number}",
        "InstanceNumber": number,
        "Modality": "CR",
        "BitsStored": 12,
        "HighBit": 11,
        "PatientID": "P-7731",
        "PatientBirthDate": "19700131",
        "PatientSex": "F",
        "StudyDate": "20260102",
        "StudyTime": "101500",
        "StudyID": "S1",
        "AccessionNumber": "A1",
        "ReferringPhysicianName": "",
        "BodyPartExamined": "ARM",
        "Laterality": "L",
        "PatientOrientation": ["L", "F"],
        "ViewPosition": "AP",
    }
    wanted = usual | elements
    left_out = [name for name, value in wanted.items() if value is None]
    data = dicom_file(pixels, **{name: value for name, value in wanted.items() if value is not None})
    if not left_out:
        return data
    from io import BytesIO

    dataset = dcmread(BytesIO(data))
    for name in left_out:
        if name in dataset:
            delattr(dataset, name)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def need(*commands: str) -> None:
    """Skip the test, with a sentence, where a command is not installed."""
    packages = {"Orthanc": "orthanc and orthanc-dicomweb", "dciodvfy": "dicom3tools"}
    for command in commands:
        if not find(command):
            pytest.skip(f"{command} is not installed: apt-get install {packages.get(command, 'dcmtk')}")


def find(command: str) -> str | None:
    """Return the path of a command, also of one for administrators."""
    return shutil.which(command) or shutil.which(command, path="/usr/sbin")


def run(command: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of dcmtk or dicom3tools; its output is in stdout, its errors too."""
    need(command)
    path = find(command) or command
    return subprocess.run(
        [path, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=120,
        encoding="utf-8",
        errors="replace",
    )


class RunningNode:
    """A node as a process of its own."""

    def __init__(self, server: RunningServer, port: int, monitor_port: int, spool: Path) -> None:
        self.server, self.port, self.spool = server, port, spool
        server.url = f"http://127.0.0.1:{monitor_port}"
        server.wait("/health")

    def metric(self, name: str) -> float:
        """Return the value of a series, named with its labels."""
        lines = requests.get(f"{self.server.url}/metrics", timeout=10).text.splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " "))

    def send(self, *paths: Path, title: str = "ROOM", command: str = "dcmsend") -> subprocess.CompletedProcess[str]:
        """Send files by dcmtk."""
        return run(command, "-v", "-aet", title, "-aec", "BONE", "127.0.0.1", self.port, *paths)

    def wait(self, **states: int) -> None:
        """Return once the spool holds so many films in these states."""
        wanted = {f'bone_pacs_spool_films{{state="{state}"}}': count for state, count in states.items()}
        until(lambda: all(self.metric(name) == count for name, count in wanted.items()))


@contextmanager
def node(folder: Path, url: str, destination: str, **settings: str) -> Iterator[RunningNode]:
    """Run a node that asks the service at `url` and delivers to `destination`, with its spool in `folder`."""
    port, monitor_port, spool = free_port(), free_port(), folder / "spool"
    usual = {
        "BONE_PACS_URL": url,
        "BONE_PACS_HOST": "127.0.0.1",
        "BONE_PACS_PORT": str(port),
        "BONE_PACS_MONITOR_PORT": str(monitor_port),
        "BONE_PACS_SENDERS": "ROOM@127.0.0.1,ORTHANC@127.0.0.0/8",
        "BONE_PACS_DESTINATION": destination,
        "BONE_PACS_SPOOL": str(spool),
        "BONE_PACS_QUIET_SECONDS": "1",
    }
    with serving(NODE, ROOT, **(usual | settings)) as server:
        port = int((usual | settings)["BONE_PACS_PORT"])
        yield RunningNode(server, port, int((usual | settings)["BONE_PACS_MONITOR_PORT"]), spool)


class Orthanc:
    """A running Orthanc, with DICOMweb, that knows a node as BONE and lets anyone store."""

    def __init__(self, http_port: int, dicom_port: int) -> None:
        self.url, self.dicom_port = f"http://127.0.0.1:{http_port}", dicom_port
        self.web = f"{self.url}/dicom-web"

    def instances(self) -> list[Dataset]:
        """Return what QIDO-RS lists, with class and study of each."""
        found = requests.get(f"{self.web}/instances", params={"includefield": "all"}, timeout=30)
        found.raise_for_status()
        return [Dataset.from_json(one) for one in found.json()] if found.text.strip() else []

    def of_class(self, sop_class: str) -> list[Dataset]:
        """Return the instances of one SOP class."""
        return [instance for instance in self.instances() if instance.SOPClassUID == sop_class]


@contextmanager
def orthanc(folder: Path, node_port: int) -> Iterator[Orthanc]:
    """Run an Orthanc with an empty store in `folder`; skip the test where there is none."""
    need("Orthanc")
    plugins = Path("/usr/share/orthanc/plugins")
    if not (plugins / "libOrthancDicomWeb.so").exists():
        pytest.skip("Orthanc's DICOMweb is not installed: apt-get install orthanc-dicomweb")
    http_port, dicom_port = free_port(), free_port()
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "Plugins": [str(plugins / "libOrthancDicomWeb.so")],
        "HttpPort": http_port,
        "DicomPort": dicom_port,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
        "DicomModalities": {"bone": ["BONE", "127.0.0.1", node_port]},
        "DicomWeb": {"Enable": True},
        "SaveJobs": False,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([find("Orthanc") or "", str(path)], stdout=log, stderr=subprocess.STDOUT)
        try:
            running = Orthanc(http_port, dicom_port)
            until(lambda: _answers(f"{running.url}/system"))
            yield running
        finally:
            process.terminate()
            process.wait(30)


def until(holds: Any, seconds: float = 60) -> None:
    """Return once a condition holds. Raise AssertionError if it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError("it never came to hold")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return bool(requests.get(url, timeout=5).ok)
    except requests.RequestException:
        return False
