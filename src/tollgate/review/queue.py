"""The open cases, in memory: a view of the ledger, fed in the order of arrival, rebuilt at each start.

It holds what the queue's page shows, and nothing that the ledger does not have. Claims are the exception: they only
keep two people from opening the same case unknowingly, and to lose them loses nothing.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable
from typing import NamedTuple

from tollgate.decision import Outcome
from tollgate.duration import MINUTE_US
from tollgate.review.case import Case, Filter

MAX_OPEN = 50_000  # cases in memory; of more, the oldest are left out and counted
CLAIM_US = 10 * MINUTE_US  # how long a case is kept for whoever opened it


class Claim(NamedTuple):
    """Who opened a case, and when, in microseconds since 1970-01-01 UTC."""

    by: str
    at_us: int


class Numbers(NamedTuple):
    """How many cases are open, by outcome, since when the oldest is, and how many older ones were left out."""

    open: dict[Outcome, int]
    oldest_us: int | None
    left_out: int


class Queue:
    """Open cases by arrival number. Safe to use from several threads."""

    def __init__(self, most: int = MAX_OPEN) -> None:
        """Begin without any; `most` are held."""
        self._most = most
        self._lock = threading.Lock()
        self._open: dict[int, Case] = {}  # in the order of arrival
        self._by_id: dict[str, int] = {}
        self._claims: dict[int, Claim] = {}
        self._left_out = 0

    def add(self, cases: Iterable[Case]) -> None:
        """Take cases, in the order of arrival."""
        with self._lock:
            for one in cases:
                self._open[one.number] = one
                self._by_id[one.transaction_id] = one.number
                if len(self._open) > self._most:
                    self._drop(next(iter(self._open)))
                    self._left_out += 1

    def close(self, ids: Iterable[str]) -> None:
        """Take the cases of some transactions out; what is none is passed over."""
        with self._lock:
            for one in ids:
                number = self._by_id.get(one)
                if number is not None:
                    self._drop(number)

    def close_before(self, number: int) -> None:
        """Take out what came before an arrival number, that one too: it was archived."""
        with self._lock:
            for one in [one for one in self._open if one <= number]:
                self._drop(one)

    def first(self, wanted: Filter, now_us: int, most: int) -> list[Case]:
        """Return the first cases that are asked for, in their order."""
        return heapq.nlargest(most, (one for one in self._all() if wanted.takes(one, now_us)), key=wanted.rank)

    def some(self, numbers: Iterable[int]) -> list[Case]:
        """Return those of some cases that are open."""
        with self._lock:
            return [self._open[one] for one in numbers if one in self._open]

    def next(self, wanted: Filter, who: str, now_us: int) -> Case | None:
        """Return the first case that is asked for and that nobody else has opened; None without one."""
        taken = {number for number in list(self._claims) if self.claimed(number, who, now_us) is not None}
        free = (one for one in self._all() if one.number not in taken and wanted.takes(one, now_us))
        return max(free, key=wanted.rank, default=None)

    def claim(self, number: int, who: str, now_us: int) -> Claim | None:
        """Keep an open case for who opens it; return whose it is already, and then it stays theirs."""
        with self._lock:
            theirs = self.claimed(number, who, now_us)
            if theirs is None and number in self._open:
                self._claims[number] = Claim(who, now_us)
            return theirs

    def claimed(self, number: int, who: str, now_us: int) -> Claim | None:
        """Return who else has opened a case a short while ago."""
        claim = self._claims.get(number)
        return None if claim is None or claim.by == who or claim.at_us + CLAIM_US <= now_us else claim

    def numbers(self) -> Numbers:
        """Return how many there are."""
        cases = self._all()
        counts = dict.fromkeys((Outcome.REVIEW, Outcome.BLOCK), 0)
        for one in cases:
            counts[one.outcome] += 1
        return Numbers(counts, cases[0].observed_us if cases else None, self._left_out)

    def _all(self) -> list[Case]:
        with self._lock:
            return list(self._open.values())

    def _drop(self, number: int) -> None:
        case = self._open.pop(number)
        del self._by_id[case.transaction_id]
        self._claims.pop(number, None)
