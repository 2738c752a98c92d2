"""Logs: one JSON object a line, redacted, with request ids, and nothing of a body in an error."""

import io
import json
import logging
import sqlite3

import pytest
import sqlalchemy
import structlog

from tollgate.errors import ConfigError, InputError, LedgerError
from tollgate.serve.logs import LEVELS, Logs, describe_error

LOG = logging.getLogger("tollgate_log_test.part")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def hide_secrets(event):
    return {key: "***" if key == "secret" else value for key, value in event.items()}


@pytest.fixture
def opened():
    made = []

    def open_logs(stream=None, level="info"):
        stream = stream or io.StringIO()
        made.append(Logs(stream, hide_secrets, level, root="tollgate_log_test"))
        return made[-1], stream

    LOG.parent.propagate = False
    yield open_logs
    for logs in made:
        logs.close()
    LOG.parent.propagate = True


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def raised(error, cause=None):
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def test_a_record_is_one_line_of_json_with_its_fields(opened):
    """Time in UTC, level and event come first, then the fields."""
    _, stream = opened()
    LOG.warning("recovered %d of %d", 3, 4, extra={"bundle": "b-1"})
    (line,) = lines(stream)
    assert list(line)[:3] == ["time", "level", "event"]
    assert line["time"].endswith("Z")
    assert line | {"time": ""} == {
        "time": "", "level": "warning", "event": "recovered 3 of 4", "bundle": "b-1", "logger": LOG.name,
    }  # fmt: skip


def test_the_request_id_of_the_context_is_in_every_record(opened):
    """What is bound while a request is handled names it in records of any module."""
    _, stream = opened(level="debug")
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        LOG.debug("answered", extra={"status": 200})
    LOG.debug("idle")
    assert [line.get("request_id") for line in lines(stream)] == ["r-1", None]


def test_a_secret_is_redacted_before_it_is_written(opened):
    """The redaction sees fields, and its result is what is written."""
    _, stream = opened()
    LOG.info("key used", extra={"secret": "tollgate_abc"})
    assert "tollgate_abc" not in stream.getvalue()
    assert lines(stream)[0]["secret"] == "***"


def test_the_level_changes_while_it_runs(opened):
    """A lower level shows at once, and an unknown one is refused by name."""
    logs, stream = opened()
    for level in LEVELS:
        logs.level = level
        assert logs.level == level
        for name, number in LEVELS.items():
            LOG.log(number, "%s at %s", name, level)
    assert [line["event"] for line in lines(stream)] == [
        f"{name} at {level}" for level, least in LEVELS.items() for name, number in LEVELS.items() if number >= least
    ]
    with pytest.raises(ConfigError, match="debug, info, warning, error, but got 'loud'"):
        logs.level = "loud"


def test_a_terminal_gets_text_for_people(opened):
    """A terminal sees no JSON, and an error's places."""
    _, stream = opened(Terminal())
    LOG.error("not recorded", exc_info=raised(LedgerError("disk_full", "no space is left")))
    text = stream.getvalue()
    assert "not recorded" in text
    assert "LedgerError: no space is left" in text
    assert not text.startswith("{")


def test_an_error_is_logged_with_its_places_and_causes_in_one_line(opened):
    """The whole chain of an exception is one field."""
    _, stream = opened()
    cause = OSError(28, "No space left on device")
    LOG.error("not recorded", exc_info=raised(LedgerError("disk_full", "no space is left"), cause))
    (line,) = lines(stream)
    assert "LedgerError: no space is left" in line["exception"]
    assert "test_logs.py" in line["exception"]
    assert "caused by OSError: [Errno 28] No space left on device" in line["exception"]


@pytest.mark.parametrize(
    "error",
    [
        KeyError("4111-card"),
        ValueError("could not convert '4111-card'"),
        InputError("bad_amount", "expected an amount, but got '4111-card'"),
        sqlalchemy.exc.IntegrityError("INSERT", {"card": "4111-card"}, sqlite3.IntegrityError("UNIQUE failed")),
        sqlalchemy.exc.StatementError("4111-card", "INSERT", {"card": "4111-card"}, KeyError("4111-card")),
    ],
)
def test_nothing_of_a_body_is_in_an_error(error):
    """Messages that may quote a transaction are left out, in the error and in what caused it."""
    text = describe_error(raised(LedgerError("failed", "not recorded"), raised(error)))
    assert "4111-card" not in text
    assert type(error).__name__ in text


def test_a_database_says_why(opened):
    """Of an error of the database its own words stay, which name no value."""
    error = sqlalchemy.exc.OperationalError("INSERT", {"a": 1}, sqlite3.OperationalError("database is locked"))
    assert "OperationalError: database is locked" in describe_error(raised(error))


def test_what_json_cannot_hold_is_logged_all_the_same(opened):
    """A log line is never lost to its own fields."""
    _, stream = opened()
    LOG.info("odd", extra={"lone": "\ud800", "thing": object(), "not": float("nan")})
    (line,) = lines(stream)
    assert line["event"] == "odd"
    assert line["thing"].startswith("<object")


def test_closed_logs_write_nothing(opened):
    """After `close` the stream is left alone."""
    logs, stream = opened()
    logs.close()
    LOG.error("late")
    assert stream.getvalue() == ""
