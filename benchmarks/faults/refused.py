"""A start that must be refused: one line for people, an exit code for machines."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.faults import interface
from benchmarks.faults.server import Server

_LIMIT_S = 90.0
_SHOWN = 110  # last characters of the line


class Refused(NamedTuple):
    """What came of a start."""

    seen: str
    held: bool


def refused_start(server: Server, names: str, before: Sequence[str] = ()) -> Refused:
    """Start a server that cannot start.

    Args:
        server: Not started.
        names: What the line must speak of.
        before: A command that runs the one after it.
    """
    process = server.spawn(before)
    try:
        code = process.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        server.stop()
        return Refused("it started all the same", held=False)
    lines = [line for line in server.log.splitlines() if interface.ERROR_LINE in line]
    trace = "Traceback" in server.log
    held = code == interface.REFUSED_EXIT and len(lines) == 1 and names in lines[0] and not trace
    line = lines[-1] if lines else (server.log.strip().splitlines() or ["nothing"])[-1]
    return Refused(f"exit code {code}, {'a traceback, ' if trace else ''}'{line[-_SHOWN:]}'", held)
