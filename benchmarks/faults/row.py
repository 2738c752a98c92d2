"""A line of the fault table: what was broken, what must come of it, and what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """What came of one fault.

    Attributes:
        fault: What breaks.
        done: How it was made to break.
        outcome: What must come of it.
        seen: What came of it.
        held: Whether that is the outcome; None where the fault could not be made here, and `seen` says why.
        figures: What is counted into the last line.
    """

    fault: str
    done: str
    outcome: str
    seen: str
    held: bool | None
    figures: Mapping[str, float] = {}


class Sizes(NamedTuple):
    """How much of everything.

    Attributes:
        transactions: Of the simulated payments.
        rounds: Of kill -9.
        locked_s: How long another process holds the ledger; more than a write waits.
        saturation_s: How long the rate that the server can do is measured.
        overload_s: How long twice that rate is sent.
        bodies: Malformed bodies, made here.
        generated: Malformed bodies that schemathesis makes from the OpenAPI document.
        slow_connections: That send a byte a second.
        slow_s: Until when these must be closed.
        unread_s: How long answers are left unread.
    """

    transactions: int
    rounds: int
    locked_s: float
    saturation_s: float
    overload_s: float
    bodies: int
    generated: int
    slow_connections: int
    slow_s: float
    unread_s: float


FULL = Sizes(100_000, 100, 8.0, 10.0, 60.0, 9_000, 1_000, 500, 25.0, 45.0)
QUICK = Sizes(20_000, 3, 8.0, 4.0, 10.0, 800, 60, 100, 20.0, 5.0)
