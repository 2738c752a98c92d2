"""What an engine has yet to apply, in order, and what it has applied so lately that a failover may have lost it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.transaction import Batch

RESENT_S = 5.0  # what was applied so shortly before a server was lost is sent again: its replica may not have it
RESENT_ROWS = 20_000  # transactions that are kept for that, at most

Times = NDArray[np.int64]
Keys = NDArray[np.uint64]


class Work(NamedTuple):
    """What is applied together: transactions, or labels where there is no batch.

    Attributes:
        batch: The transactions.
        keys: uint64 (E, n).
        time_us: int64 (n,).
        clocks: The newest time that was seen at each, int64 (n,).
        ids: What each is recognised by, uint64 (n,).
        again: Labels that may have been applied long ago.
        sent_s: When it was applied, where that may have been lost since.
    """

    batch: Batch | None
    keys: Keys
    time_us: Times
    clocks: Times
    ids: Keys
    again: bool = False
    sent_s: float | None = None

    @property
    def transactions(self) -> int:
        """How many transactions it is; labels are none."""
        return 0 if self.batch is None else len(self.batch)


class Backlog:
    """A queue, and the tail of what has left it.

    Attributes:
        behind: How many transactions and labels wait.
        settled: How many transactions are applied beyond doubt, all before them too.
    """

    def __init__(self, repeat_us: int) -> None:
        """Begin with nothing; `repeat_us` is how long the servers recognise what comes again."""
        self._repeat_us = repeat_us
        self._waiting: deque[Work] = deque()
        self._recent: deque[Work] = deque()
        self._recent_rows = 0
        self.behind = 0
        self.settled = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first(self) -> Work:
        """What comes next."""
        return self._waiting[0]

    def rewind(self, position: int) -> None:
        """Go on from a position; nothing before it is sent again."""
        self.settled = position
        self._recent.clear()
        self._recent_rows = 0

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self.behind = 0

    def add(self, works: Sequence[Work]) -> None:
        """Let something wait."""
        self._waiting.extend(works)
        self.behind += sum(len(work.time_us) for work in works)

    def done(self, now_s: float, clock_us: int) -> None:
        """Take out what came next: it was applied now."""
        work = self._waiting.popleft()
        self.behind -= len(work.time_us)
        self._recent.append(work._replace(sent_s=now_s))
        self._recent_rows += len(work.time_us)
        while self._recent:
            oldest = self._recent[0]
            assert oldest.sent_s is not None
            is_recent = self._recent_rows <= RESENT_ROWS and now_s - oldest.sent_s < RESENT_S
            if is_recent and self._is_recognised(oldest, clock_us):
                return
            self._settle()

    def settle(self) -> None:
        """Take what was applied for certain: no server can lose it any more."""
        while self._recent:
            self._settle()

    def send_again(self, clock_us: int) -> None:
        """Put what a server may have lost before all that waits; what was not lost will be recognised."""
        while self._recent and not all(self._is_recognised(work, clock_us) for work in self._recent):
            self._settle()  # from the oldest on: a position has no holes
        self._waiting.extendleft(reversed(self._recent))
        self.behind += self._recent_rows
        self._recent.clear()
        self._recent_rows = 0

    def _settle(self) -> None:
        oldest = self._recent.popleft()
        self._recent_rows -= len(oldest.time_us)
        self.settled += oldest.transactions

    def _is_recognised(self, work: Work, clock_us: int) -> bool:
        return work.batch is None or int(work.time_us.min()) > clock_us - self._repeat_us
