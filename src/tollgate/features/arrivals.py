"""Transactions in order of arrival, and each label of fraud once its time has come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.features.port import Engine, Keys, transaction_hashes
from tollgate.transaction import Batch

Times = NDArray[np.int64]
Numbers = NDArray[np.int64]

NOT_FRAUD = np.iinfo(np.int64).max  # the time at which a label of fraud for a good transaction arrives


class Waiting(NamedTuple):
    """Labels of fraud that no feature knows yet, and what they wait for.

    Attributes:
        clock_us: The newest effective time so far.
        newest: Sequence number of the newest label that came, whether it waits or not; 0 for none.
        due_us: When each becomes known, int64 (L,).
        after: Number of the transaction after which each came: those up to it must not know of it, int64 (L,).
        keys: Of the transactions that they are about, uint64 (E, L).
        ids: Of the same, as `port.transaction_hashes` has them, uint64 (L,); None where the engine is in memory.
    """

    clock_us: int
    newest: int
    due_us: Times
    after: Numbers
    keys: Keys
    ids: Keys | None = None

    @classmethod
    def none(cls, entities: int, clock_us: int = np.iinfo(np.int64).min) -> Waiting:
        """Return what waits before any label has come: nothing."""
        nothing = np.empty(0, dtype=np.int64)
        return cls(clock_us, 0, nothing, nothing, np.empty((entities, 0), dtype=np.uint64))


class Arrivals:
    """Feeds an engine with transactions and labels in the order in which they came.

    The clock is the newest effective time so far. A label moves features from the first transaction on that comes after
    it and at whose clock it is known. So a replay that hands over each label together with its transaction gives the
    bits of the live run, where it came much later.
    """

    def __init__(self, engine: Engine, pending: Waiting | None = None) -> None:
        """Feed `engine`, which goes on from where `pending` was taken; without it no label waits."""
        self.engine = engine
        self.learns = engine.plan.learns
        self._clock, self.newest, self._due, self._after, self._keys, ids = pending or Waiting.none(
            len(engine.plan.schema.entities)
        )
        self._ids = np.zeros(len(self._due), dtype=np.uint64) if ids is None else ids
        self._next_us = int(self._due.min(initial=NOT_FRAUD))

    @property
    def pending(self) -> Waiting:
        """What a snapshot must hold beside the engine's state."""
        return Waiting(self._clock, self.newest, self._due, self._after, self._keys, self._ids)

    def learn(
        self, keys: Keys, due_us: Times, after: Numbers, newest: int | None = None, ids: Sequence[str] = ()
    ) -> None:
        """Take L labels of fraud; each moves features once its time has come.

        Args:
            keys: Of the transactions that they are about, uint64 (E, L), as in `Batch.keys`. They need not have been
                observed yet.
            due_us: When each becomes known, int64 (L,).
            after: The number of the transaction after which each came, or of its own if that is greater, int64 (L,);
                transactions are numbered from 1 as they are observed.
            newest: Sequence number of the newest label up to which all are here; None leaves it as it was.
            ids: Of the same transactions, L; a remote engine recognises by them what comes again.
        """
        if newest is not None:
            self.newest = newest
        if not self.learns or not len(due_us):
            return
        self._due = np.concatenate((self._due, due_us))
        self._after = np.concatenate((self._after, after))
        self._keys = np.concatenate((self._keys, keys), axis=1)
        hashes = transaction_hashes(ids) if self.engine.remote else np.zeros(len(due_us), dtype=np.uint64)
        self._ids = np.concatenate((self._ids, hashes))
        self._next_us = int(self._due.min())

    def take_known(self) -> Waiting:
        """Return the labels that are known at the clock, in order of time, and no longer wait for them."""
        known = np.flatnonzero(self._due <= self._clock)
        known = known[np.argsort(self._due[known], kind="stable")]
        taken = Waiting(
            self._clock, self.newest, self._due[known], self._after[known], np.ascontiguousarray(self._keys[:, known]),
            self._ids[known],
        )  # fmt: skip
        self._keep(self._due > self._clock)
        return taken

    def observe(self, batch: Batch, fraud_known_us: Times | None = None) -> NDArray[np.float64]:
        """Compute the features of N transactions, float64 (N, F), as `FeatureEngine.observe` does.

        Args:
            batch: The transactions.
            fraud_known_us: Of a file with labels: when each became or becomes known as fraud, int64 (N,); `NOT_FRAUD`
                for the others.

        Raises:
            CapacityError: The state is full.
        """
        if not self.learns or not len(batch):
            return self.engine.observe(batch)
        begin = self.engine.observed
        if fraud_known_us is not None:
            frauds = np.flatnonzero(fraud_known_us != NOT_FRAUD)
            ids = [batch.ids[row] for row in frauds.tolist()]
            self.learn(batch.keys[:, frauds], fraud_known_us[frauds], begin + frauds + 1, ids=ids)
        clock = np.maximum.accumulate(np.maximum(batch.time_us, self._clock))
        if clock[-1] < self._next_us:  # nothing that waits is known by the end of this batch
            self._clock = int(clock[-1])
            return self.engine.observe(batch)
        place = np.maximum(np.searchsorted(clock, self._due), self._after - begin)
        order = np.lexsort((self._due, place))
        order = order[place[order] < len(batch)]
        parts = []
        start = 0
        for at in np.unique(place[order]).tolist():
            labels = order[place[order] == at]
            if at > start:
                parts.append(self.engine.observe(batch.take(slice(start, at))))
                start = at
            self.engine.learn(np.ascontiguousarray(self._keys[:, labels]), self._due[labels], self._ids[labels])
        parts.append(self.engine.observe(batch.take(slice(start, len(batch))) if start else batch))
        rest = place >= len(batch)
        self._keep(rest)
        self._clock = int(clock[-1])
        return np.concatenate(parts)

    def _keep(self, rows: NDArray[np.bool_]) -> None:
        """Let only those of the L waiting labels wait on."""
        self._due, self._after, self._keys = self._due[rows], self._after[rows], self._keys[:, rows]
        self._ids = self._ids[rows]
        self._next_us = int(self._due.min(initial=NOT_FRAUD))
