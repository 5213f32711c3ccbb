"""`python -m pacs report FILM OUT` writes a film's report and marked copy; `python -m pacs serve` is a DICOM node."""

import argparse
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from config import ConfigError, read_config
from model_loader import ModelError
from pacs.answers import AnswerError, read_answer
from pacs.films import FilmError, read_film, silence_libraries
from pacs.results import ask, build_results, encode, write_whole
from pacs.service import HttpService, LocalService, Service, ServiceFaultError, ServiceUnavailableError

ERRORS: Final = (FilmError, AnswerError, ConfigError, ModelError, ServiceUnavailableError, ServiceFaultError, OSError)


def main(arguments: list[str]) -> int:
    """Run a command and return the exit code; what goes wrong is one sentence on standard error."""
    options = _parse(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(message)s", level=logging.WARNING)
    silence_libraries()
    try:
        if options.command == "report":
            report(options.film, options.folder, options.url)
            return 0
        from pacs.serve import serve  # noqa: PLC0415 pynetdicom is not needed for a report

        return serve()
    except ERRORS as error:
        print(error, file=sys.stderr)
        return 1


def report(path: Path, folder: Path, url: str | None) -> None:
    """Write FOLDER/NAME.report.dcm and, unless the film was refused, FOLDER/NAME.capture.dcm; print the verdict."""
    config = read_config(os.environ)
    data = path.read_bytes()
    film = read_film(data)
    if not folder.is_dir():
        raise FilmError(f"{folder} is not a folder; create it first.")
    service: Service = HttpService(url, os.environ.get("BONE_PACS_API_KEY")) if url else LocalService(config)
    body, _ = ask(service, data, config.max_pixels)
    for result in list(build_results([(data, body)], datetime.now(UTC), config.max_pixels)):
        kind = "report" if result.Modality == "SR" else "capture"
        write_whole(folder / f"{path.stem}.{kind}.dcm", encode(result))
    for note in film.notes:
        print(note, file=sys.stderr)
    answer = read_answer(body)
    print(f"refused: {answer.refusal}" if answer.refusal else answer.predicted_class or "none of the known classes")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m pacs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("report", help="write the report and the marked copy of one film")
    one.add_argument("film", type=Path, help="a DICOM file, which is not changed")
    one.add_argument("folder", type=Path, metavar="out", help="an existing folder for the results")
    one.add_argument("--url", help="the service to ask, such as http://127.0.0.1:5010; else the network runs here")
    commands.add_parser("serve", help="receive films and answer with results; pacs/README.md lists the settings")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
