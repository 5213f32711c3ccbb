import json
import logging
import sys
from io import StringIO

from logs import JsonFormatter, TerminalFormatter


def record(**fields):
    made = logging.LogRecord("bone", logging.INFO, "", 0, "request", None, fields.pop("exc_info", None))
    made.__dict__.update(fields)
    return made


def test_a_line_for_machines_is_one_json_object():
    line = JsonFormatter().format(record(requestId="a1", status=200, ms=3.2, bytes=10, outcome="fisura"))
    assert "\n" not in line
    assert json.loads(line) | {"time": ""} == {
        "time": "",
        "level": "info",
        "message": "request",
        "requestId": "a1",
        "status": 200,
        "ms": 3.2,
        "bytes": 10,
        "outcome": "fisura",
    }


def test_a_line_for_people_names_its_fields():
    assert TerminalFormatter().format(record(status=200, ms=3.2)).endswith("INFO    request status=200 ms=3.2")


def test_a_traceback_stays_within_the_json_object():
    try:
        raise ValueError("told")
    except ValueError:
        line = JsonFormatter().format(record(exc_info=sys.exc_info()))
    assert "ValueError: told" in json.loads(line)["traceback"]


def test_fields_that_are_not_asked_for_are_left_out():
    assert "filename" not in json.loads(JsonFormatter().format(record(filename="PEREZ_JUAN.png")))


def test_a_stream_that_is_no_terminal_gets_json(monkeypatch):
    from logs import configure_logs

    stream = StringIO()
    before = logging.getLogger().handlers[:]
    try:
        configure_logs(stream)
        logging.getLogger("bone").info("hello")
    finally:
        logging.getLogger().handlers[:] = before
    assert json.loads(stream.getvalue())["message"] == "hello"
