"""A film's bytes -> the answer to it; and answers -> the objects that go into its study."""

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path

from PIL.Image import Image
from pydicom import Dataset

from pacs.answers import Body, read_answer
from pacs.capture import build_capture
from pacs.films import read_film
from pacs.service import Service
from pacs.structured_report import Judged, build_report
from preprocessing import ImageError, decode


def ask(service: Service, data: bytes, max_pixels: int) -> tuple[Body, Image | None]:
    """Decode a film here, as the service would, and let the service see the pixels alone.

    Return the answer, and the image if it could be decoded. Raise ServiceUnavailableError or ServiceFaultError.
    """
    try:
        image, _ = decode(data, max_pixels)
    except ImageError as error:
        return {"code": error.code}, None
    return service.ask(image), image


def build_results(
    films: Sequence[tuple[bytes, Body]], when: datetime, max_pixels: int, number: int = 1
) -> Iterator[Dataset]:
    """Yield a marked copy of each film of a study that was not refused, then the one report on all of them.

    `number` is the report's within its series. Raise FilmError or AnswerError before the first is yielded.
    """
    judged: list[Judged] = [(read_film(data), read_answer(body)) for data, body in films]
    report = build_report(judged, when, number)
    for (film, answer), (data, _) in zip(judged, films, strict=True):
        if not answer.refusal:
            image, _ = decode(data, max_pixels)
            yield build_capture(film, answer, image, when)
    yield report


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all, and on the disk when this returns, of mode 0600."""
    unfinished = path.with_name(path.name + ".unfinished")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def encode(dataset: Dataset) -> bytes:
    """Return the bytes of a DICOM file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
