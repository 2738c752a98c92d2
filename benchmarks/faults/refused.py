"""A start that must be refused: one line for people, an exit code for machines."""

from __future__ import annotations

import subprocess
from typing import NamedTuple

from benchmarks.faults import interface
from benchmarks.faults.server import Server

_LIMIT_S = 90.0
_SHOWN = 110  # characters of the line


class Refused(NamedTuple):
    """What came of a start."""

    seen: str
    held: bool


def refused_start(server: Server, names: str, user: int | None = None) -> Refused:
    """Start a server that cannot start, as another user if one is given.

    Args:
        server: Not started.
        names: What the line must speak of.
        user: Its number.
    """
    process = server.spawn(user)
    try:
        code = process.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        server.stop()
        return Refused("it started all the same", held=False)
    lines = [line for line in server.log.splitlines() if interface.ERROR_LINE in line]
    trace = "Traceback" in server.log
    held = code == interface.REFUSED_EXIT and len(lines) == 1 and names in lines[0] and not trace
    line = lines[-1] if lines else (server.log.strip().splitlines() or ["nothing"])[-1]
    return Refused(f"exit code {code}, {'a traceback, ' if trace else ''}'{line[:_SHOWN]}'", held)
