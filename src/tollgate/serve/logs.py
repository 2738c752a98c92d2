"""One line of JSON for each thing worth knowing, on the error stream; for people where that is a terminal.

All modules log through the standard library, with fields as `extra`. Here every record takes its form, is redacted and
written. Nothing logs each request at `info`: what is counted is in the metrics.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from tollgate.errors import ConfigError, InputError, TollgateError

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
QUIET = ("alembic", "httpcore", "httpx", "asyncio")  # what they say at info is of no use to an operator
MAX_MESSAGE = 300  # characters of another library's message
MAX_FRAMES = 20  # of a traceback: the innermost
MAX_CAUSES = 4  # errors behind an error

# Errors whose message says what the machine did. That of any other (a KeyError) may quote what came in a body.
_SPEAKING = (TollgateError, OSError, sqlite3.Error, RuntimeError, MemoryError)
_FIRST = ("time", "level", "event", "request_id")

Redact = Callable[[dict[str, Any]], dict[str, Any]]


class Logs:
    """The logs of a process. `close` takes them away again."""

    def __init__(self, stream: TextIO, redact: Redact, level: str = "info", root: str | None = None) -> None:
        """Write what is logged below `root` to a stream.

        Args:
            stream: Gets JSON, or text with colours where it is a terminal.
            redact: Returns an event without secrets; it sees each one last, before it is written.
            level: One of `LEVELS`.
            root: Name of a logger; by default the root of all.

        Raises:
            ConfigError: The level is not known.
        """
        self._logger = logging.getLogger(root)
        self._handler = logging.StreamHandler(stream)
        self._handler.setFormatter(_formatter(redact, people=stream.isatty()))
        self.level = level
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._logger.addHandler(self._handler)

    @property
    def level(self) -> str:
        """The lowest level that is written; it may be set at any time.

        Raises:
            ConfigError: When it is set: the level is not known.
        """
        return next(name for name, number in LEVELS.items() if number == self._logger.level)

    @level.setter
    def level(self, name: str) -> None:
        if name not in LEVELS:
            raise ConfigError("bad_level", f"expected a log level of {', '.join(LEVELS)}, but got {name!r}")
        self._logger.setLevel(LEVELS[name])

    def close(self) -> None:
        """Write nothing more."""
        self._logger.removeHandler(self._handler)
        self._handler.close()


def describe_error(error: BaseException) -> str:
    """Return what an operator needs of an error: types, places and messages that can hold nothing of a body."""
    lines: list[str] = []
    seen: BaseException | None = error
    for _ in range(1 + MAX_CAUSES):
        if seen is None:
            break
        lines.append(f"{'caused by ' if lines else ''}{type(seen).__qualname__}{_message(seen)}")
        frames = traceback.extract_tb(seen.__traceback__)[-MAX_FRAMES:]
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "\n".join(lines)


def _message(error: BaseException) -> str:
    inner = getattr(error, "orig", None)  # of SQLAlchemy, whose own message holds the statement and its values
    if isinstance(inner, BaseException):
        return f": {type(inner).__qualname__}{_message(inner)}"
    if isinstance(error, InputError):
        return f": {error.code}"
    return f": {str(error)[:MAX_MESSAGE]}" if isinstance(error, _SPEAKING) else ""


def _formatter(redact: Redact, *, people: bool) -> logging.Formatter:
    def redacted(_logger: Any, _method: str, event: EventDict) -> EventDict:
        return redact(dict(event))

    render: Processor = (
        structlog.dev.ConsoleRenderer(
            timestamp_key="time", exception_formatter=structlog.dev.plain_traceback, sort_keys=False
        )
        if people
        else structlog.processors.JSONRenderer(serializer=_encode)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ExtraAdder(),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
        ],
        processors=[_stamp, structlog.stdlib.ProcessorFormatter.remove_processors_meta, _failure, redacted, render],
    )


def _stamp(_logger: Any, _method: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    time = datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    stamped = {"time": time, **event}
    return {**{name: stamped[name] for name in _FIRST if name in stamped}, **stamped}


def _failure(_logger: Any, _method: str, event: EventDict) -> EventDict:
    info = event.pop("exc_info", None)
    if isinstance(info, tuple) and info[1] is not None:
        event["exception"] = describe_error(info[1])
    event.pop("stack_info", None)
    return event


def _encode(event: Any, **_options: Any) -> str:
    try:
        return msgspec.json.encode(event, enc_hook=repr).decode()
    except (TypeError, ValueError):  # a key that is no text, or half of a surrogate pair
        return json.dumps({str(key): value for key, value in event.items()}, default=repr)
