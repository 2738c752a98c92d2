"""What goes into a ledger beside decisions, and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tollgate.ledger.group import Group


class History(NamedTuple):
    """A transaction that was not decided here: its id, its times, and its body as JSON with sorted keys."""

    transaction_id: str
    effective_us: int
    observed_us: int
    body: bytes


class Replayed(NamedTuple):
    """A recorded transaction: its id, its body, and its decision, JSON; imported history has no decision."""

    transaction_id: str
    body: bytes
    answer: bytes | None


class Recorded(NamedTuple):
    """What the ledger holds of a transaction: body and answer, JSON; one of imported history has no answer."""

    body: bytes
    answer: bytes | None


def past(history: Sequence[History]) -> Group:
    """Return past transactions as a group without decisions."""
    effective_us = np.array([one.effective_us for one in history], dtype=np.int64)
    observed_us = max(one.observed_us for one in history)
    ids, bodies = [one.transaction_id for one in history], [one.body for one in history]
    return Group(ids, effective_us, bodies, [], None, observed_us, None)
