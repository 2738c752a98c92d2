"""What was decided and is not durable yet: in order, and never forgotten, for the features have counted it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tollgate.errors import LedgerError
from tollgate.features import Engine
from tollgate.ledger import Group, Ledger, Recorded

Hashes = NDArray[np.uint64]


@dataclass(slots=True)
class Commit:
    """A group on its way; `known` is what another process had recorded of it before, once it is durable.

    `counted` has the engines that have observed it, and how many transactions each had then.
    """

    group: Group
    hashes: Hashes
    counted: Sequence[tuple[Engine, int]]
    refused: bool = False
    known: dict[str, Recorded] = field(default_factory=dict)


class Commits:
    """Groups on their way into a ledger.

    One thread adds, one writes; they may be two. What the ledger refuses stays the first of all: it is written before
    what was decided after it, else a replay would count in another order.
    """

    def __init__(self, ledger: Ledger, on_recorded: Callable[[Group], None]) -> None:
        """Make an empty queue.

        Args:
            ledger: Where the groups go.
            on_recorded: Told of each group that is durable, in the thread that writes.
        """
        self._ledger = ledger
        self._on_recorded = on_recorded
        self._waiting: deque[Commit] = deque()
        self._ids: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def refused(self) -> bool:
        """Whether the ledger has refused what is to be written next."""
        waiting = self._waiting
        return bool(waiting) and waiting[0].refused

    def holds(self, ids: Iterable[str]) -> bool:
        """Whether one of these ids is on its way, so that the ledger does not know it yet."""
        return bool(self._ids) and not self._ids.isdisjoint(ids)

    def add(self, group: Group, hashes: Hashes, engines: Sequence[Engine] = ()) -> Commit:
        """Take a group, after those that wait, and return what becomes of it.

        Args:
            group: The transactions; none of them is known.
            hashes: Of their ids, as `Ledger.hashes` gives them.
            engines: Have observed them just now, and are told when they are recorded.
        """
        self._ids.update(group.ids)
        commit = Commit(group, hashes, [(one, one.observed) for one in engines])
        self._waiting.append(commit)
        return commit

    def clear(self) -> None:
        """Forget what waits: the features are rebuilt without it."""
        self._waiting.clear()
        self._ids.clear()

    def write(self) -> None:
        """Make all that waits durable, in order.

        Raises:
            LedgerError: The first that could not be written waits on, and all after it.
        """
        while self._waiting:
            first = self._waiting[0]
            try:
                # A ledger that failed to say that a group is durable may hold it all the same: then it is looked for.
                first.known = self._ledger.record(first.group, None if first.refused else first.hashes)
            except LedgerError:
                first.refused = True
                raise
            self._waiting.popleft()
            self._ids.difference_update(first.group.ids)
            for engine, observed in first.counted:
                engine.recorded(observed, self._ledger.newest_own)
            self._on_recorded(first.group)
