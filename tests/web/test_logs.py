import json
import logging
import sys
import threading
from io import StringIO

import pytest

from web.logs import JsonFormatter, LineHandler, TerminalFormatter


def record(**fields):
    made = logging.LogRecord(
        "bone", logging.INFO, "", 0, fields.pop("msg", "request"), None, fields.pop("exc_info", None)
    )
    made.__dict__.update(fields)
    return made


def test_a_log_line_for_machines_is_one_json_object():
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


def test_a_log_line_for_people_names_its_fields():
    assert TerminalFormatter().format(record(status=200, ms=3.2)).endswith("INFO    request status=200 ms=3.2")


def test_a_traceback_is_part_of_the_json_object():
    try:
        raise ValueError("told")
    except ValueError:
        line = JsonFormatter().format(record(exc_info=sys.exc_info()))
    assert "ValueError: told" in json.loads(line)["traceback"]


def test_fields_that_were_not_requested_are_left_out():
    assert "filename" not in json.loads(JsonFormatter().format(record(filename="PEREZ_JUAN.png")))


@pytest.mark.parametrize(("level", "lines"), [("debug", 2), ("info", 1), ("warning", 0)])
def test_a_stream_that_is_not_a_terminal_gets_json_from_a_level_on(level, lines):
    from web.logs import configure_logs

    stream = StringIO()
    before = logging.getLogger().handlers[:]
    try:
        configure_logs(stream, level)
        logging.getLogger("bone").debug("hello")
        logging.getLogger("bone").info("hello")
    finally:
        logging.getLogger().handlers[:] = before
        logging.getLogger("bone").setLevel(logging.NOTSET)
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["hello"] * lines


class SlowStream(StringIO):
    """A stream whose first write waits until it is released."""

    def __init__(self):
        super().__init__()
        self.began, self.may_go_on = threading.Event(), threading.Event()

    def write(self, text):
        self.began.set()
        assert self.may_go_on.wait(30)
        return super().write(text)


def test_nobody_waits_for_a_slow_log_and_no_line_is_lost():
    stream = SlowStream()
    handler = LineHandler(stream)
    writer = threading.Thread(target=handler.handle, args=(record(msg="0"),))
    writer.start()
    assert stream.began.wait(30)
    for number in range(1, 100):
        handler.handle(record(msg=str(number)))  # in this thread it would wait for ever
    stream.may_go_on.set()
    writer.join(30)
    assert stream.getvalue().split() == [str(number) for number in range(100)]


def test_lines_written_by_concurrent_threads_are_whole():
    stream = StringIO()
    handler = LineHandler(stream)

    def write_many(name):
        for number in range(200):
            handler.handle(record(msg=f"{name}-{number}"))

    writers = [threading.Thread(target=write_many, args=(name,)) for name in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    handler.flush()
    written = stream.getvalue().split()
    assert sorted(written) == sorted(f"{name}-{number}" for name in range(8) for number in range(200))
    assert [line for line in written if line.startswith("3-")] == [f"3-{number}" for number in range(200)]


def test_a_log_that_cannot_be_written_does_not_fail_a_request(capsys):
    stream = StringIO()
    stream.close()
    LineHandler(stream).handle(record())
    assert "I/O operation on closed file" in capsys.readouterr().err
