"""Transactions in order of arrival, and each label of fraud once its time has come."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.features.port import Engine, Keys, transaction_hashes
from tollgate.transaction import Batch

Times = NDArray[np.int64]

NOT_FRAUD = np.iinfo(np.int64).max  # the time at which a label of fraud for a good transaction arrives


class Waiting(NamedTuple):
    """Labels of fraud that are not known yet, and the clock that they wait for.

    Attributes:
        clock_us: The newest effective time so far.
        due_us: When each becomes known, int64 (L,).
        keys: Of the transactions that they are about, uint64 (E, L).
        ids: Of the same, as `port.transaction_hashes` has them, uint64 (L,); None where the engine is in memory.
    """

    clock_us: int
    due_us: Times
    keys: Keys
    ids: Keys | None = None


class Arrivals:
    """Feeds an engine.

    The clock is the newest effective time so far. A label that becomes known later waits, and moves no feature before.
    """

    def __init__(self, engine: Engine, pending: Waiting | None = None) -> None:
        """Feed `engine`, which goes on from where `pending` was taken; without it no label waits."""
        self.engine = engine
        self._learns = engine.plan.learns
        self._clock, self._due, self._keys, ids = pending or Waiting(
            clock_us=np.iinfo(np.int64).min,
            due_us=np.empty(0, dtype=np.int64),
            keys=np.empty((len(engine.plan.schema.entities), 0), dtype=np.uint64),
        )
        self._ids = np.zeros(len(self._due), dtype=np.uint64) if ids is None else ids

    @property
    def pending(self) -> Waiting:
        """What a snapshot must hold beside the engine's state."""
        return Waiting(self._clock, self._due, self._keys, self._ids)

    def observe(self, batch: Batch, fraud_known_us: Times | None = None) -> NDArray[np.float64]:
        """Compute the features of N transactions, float64 (N, F), as `FeatureEngine.observe` does.

        Args:
            batch: The transactions.
            fraud_known_us: When each became or becomes known as fraud, int64 (N,); `NOT_FRAUD` for the others.

        Raises:
            CapacityError: The state is full.
        """
        if not self._learns or not len(batch):
            return self.engine.observe(batch)
        clock = np.maximum.accumulate(np.maximum(batch.time_us, self._clock))
        waiting = len(self._due)
        known = np.full(len(batch), NOT_FRAUD) if fraud_known_us is None else fraud_known_us
        frauds = np.flatnonzero(known != NOT_FRAUD)
        due = np.concatenate((self._due, known[frauds]))
        keys = np.concatenate((self._keys, batch.keys[:, frauds]), axis=1)
        ids = np.concatenate((self._ids, self._hashes(batch, frauds)))
        # A label is applied before the first transaction at whose time it is known, and after its own.
        place = np.searchsorted(clock, due)
        place[waiting:] = np.maximum(place[waiting:], frauds + 1)
        order = np.lexsort((due, place))
        order = order[place[order] < len(batch)]
        parts = []
        start = 0
        for at in np.unique(place[order]).tolist():
            labels = order[place[order] == at]
            if at > start:
                parts.append(self.engine.observe(batch.take(slice(start, at))))
                start = at
            self.engine.learn(np.ascontiguousarray(keys[:, labels]), due[labels], ids[labels])
        parts.append(self.engine.observe(batch.take(slice(start, len(batch))) if start else batch))
        rest = np.setdiff1d(np.arange(len(due)), order)
        self._due, self._keys, self._ids, self._clock = due[rest], keys[:, rest], ids[rest], int(clock[-1])
        return np.concatenate(parts)

    def _hashes(self, batch: Batch, chosen: NDArray[np.intp]) -> Keys:
        """Return what labels are recognised by where they may come twice; in memory they do not."""
        if not self.engine.remote:
            return np.zeros(len(chosen), dtype=np.uint64)
        return transaction_hashes([batch.ids[row] for row in chosen.tolist()])
