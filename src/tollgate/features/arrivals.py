"""Transactions in order of arrival, and each label of fraud once its time has come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tollgate.features.engine import FeatureEngine
from tollgate.transaction import Batch

Times = NDArray[np.int64]

NOT_FRAUD = np.iinfo(np.int64).max  # the time at which a label of fraud for a good transaction arrives


class Arrivals:
    """Feeds an engine.

    The clock is the newest effective time so far. A label that becomes known later waits, and moves no feature before.
    """

    def __init__(self, engine: FeatureEngine) -> None:
        self.engine = engine
        self._clock = np.iinfo(np.int64).min
        self._due = np.empty(0, dtype=np.int64)  # when each waiting label becomes known
        self._keys = np.empty((len(engine.plan.schema.entities), 0), dtype=np.uint64)

    @property
    def waiting(self) -> int:
        """How many labels are not known yet."""
        return len(self._due)

    def observe(self, batch: Batch, fraud_known_us: Times | None = None) -> NDArray[np.float64]:
        """Compute the features of N transactions, float64 (N, F), as `FeatureEngine.observe` does.

        Args:
            batch: The transactions.
            fraud_known_us: When each became or becomes known as fraud, int64 (N,); `NOT_FRAUD` for the others.

        Raises:
            CapacityError: The state is full.
        """
        if not self.engine.plan.learns or not len(batch):
            return self.engine.observe(batch)
        clock = np.maximum.accumulate(np.maximum(batch.time_us, self._clock))
        waiting = len(self._due)
        known = np.full(len(batch), NOT_FRAUD) if fraud_known_us is None else fraud_known_us
        frauds = np.flatnonzero(known != NOT_FRAUD)
        due = np.concatenate((self._due, known[frauds]))
        keys = np.concatenate((self._keys, batch.keys[:, frauds]), axis=1)
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
            self.engine.learn(np.ascontiguousarray(keys[:, labels]), due[labels])
        parts.append(self.engine.observe(batch.take(slice(start, len(batch))) if start else batch))
        rest = np.setdiff1d(np.arange(len(due)), order)
        self._due, self._keys, self._clock = due[rest], keys[:, rest], int(clock[-1])
        return np.concatenate(parts)
