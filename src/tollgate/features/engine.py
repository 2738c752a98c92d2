"""The feature engine: the one place where a transaction meets history."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.errors import CapacityError
from tollgate.features import kernel
from tollgate.features.heap import COUNT, FREED, LATE, TOP, index_bytes, new_meta, reserve
from tollgate.features.layout import MAX_LAG
from tollgate.features.plan import FeaturePlan
from tollgate.transaction import Batch

DEFAULT_MAX_BYTES = 16 * 2**30  # reserved, not used: pages are backed when they are touched
_INDEX_SHARE = 4  # a quarter of the reserve is the index
_FEW, _MANY = 8, 248  # rows a pass: so few that their registers stay in the processor's caches


class StateArrays(NamedTuple):
    """The state itself, int64 each, see `heap`: views, not copies."""

    slots: NDArray[np.int64]
    heap: NDArray[np.int64]
    meta: NDArray[np.int64]


class FeatureEngine:
    """Holds the windows of every entity; `observe` reads them and then updates them.

    Not thread-safe: one thread observes. The features of a stream do not depend on how it is cut into batches.
    """

    def __init__(self, plan: FeaturePlan, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """Make an engine without history.

        Args:
            plan: What to compute.
            max_bytes: The most that the state may take. It is reserved as virtual memory; what is not used costs
                nothing.
        """
        self.plan = plan
        self._program = plan.program
        self._words = plan.program.pack()
        self._width = len(plan.program.results)
        index_words = 2 ** int(math.log2(max_bytes / 8 / _INDEX_SHARE))
        self._index = reserve(index_words)
        self._heap = reserve(max_bytes // 8 - index_words)
        self._meta = new_meta(len(plan.program.state.tables))
        self._few = self._scratch(_FEW)
        self._many = self._scratch(_MANY)
        self.observed = 0
        self.remote = False

    def _scratch(self, rows: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        registers = np.zeros((self._program.registers, rows))
        for register, value in self._program.constants:
            registers[register] = value
        sample_rows = -(-MAX_LAG // rows)
        return registers, np.zeros((kernel.SCRATCH_ROWS + sample_rows, rows), dtype=np.int64)

    @property
    def arrays(self) -> StateArrays:
        """The state, for a snapshot of it; nothing else may write to it."""
        return StateArrays(self._index, self._heap, self._meta)

    @property
    def late(self) -> int:
        """How often a transaction came to an entity after a newer one."""
        return int(self._meta[LATE])

    @property
    def entities(self) -> int:
        """How many entities, and values that are told apart, have state."""
        return int(self._meta[COUNT])

    @property
    def freed(self) -> int:
        """How many idle entities were freed so far."""
        return int(self._meta[FREED])

    @property
    def state_bytes(self) -> int:
        """How many bytes of records and events are in use, or were and wait to be used again."""
        return int(self._meta[TOP]) * 8

    @property
    def index_bytes(self) -> int:
        """How many bytes the index of entities takes at most."""
        return index_bytes(self._meta)

    def observe(self, batch: Batch) -> NDArray[np.float64]:
        """Compute the features of N transactions in arrival order, each before it is applied itself.

        Args:
            batch: Transactions that were not observed before; the caller keeps duplicates away.

        Returns:
            float64 (N, F); NaN is missing.

        Raises:
            CapacityError: The state is full; nothing was applied.
        """
        out = np.empty((len(batch.time_us), self._width))
        registers, scratch = self._few if len(out) <= _FEW else self._many
        status = kernel.observe(
            self._index, self._heap, self._meta, self._words, batch.time_us, batch.keys, batch.values, registers,
            scratch, out,
        )  # fmt: skip
        if status == kernel.FULL:
            raise self._full(len(batch))
        self.observed += len(batch)
        return out

    def lacked(self) -> tuple[str, ...]:
        """Return the features that could not be read: none, for what is in memory is there."""
        return ()

    def recorded(self, observed: int, number: int) -> None:
        """Do nothing: every transaction is recorded under the number that it is observed as."""

    def learn(
        self, keys: NDArray[np.uint64], available_us: NDArray[np.int64], ids: NDArray[np.uint64] | None = None
    ) -> None:
        """Apply labels of fraud, in order of arrival: from now on `fraud_count` and the like know of them.

        Args:
            keys: Of the transactions that they are about, uint64 (E, L), as in `Batch.keys`.
            available_us: When each became known, int64 (L,).
            ids: Of the same transactions, as `port.transaction_hashes` has them; here each comes once anyway.

        Raises:
            CapacityError: The state is full; nothing was applied.
        """
        _ = ids
        status = kernel.learn(self._index, self._heap, self._meta, self._words, available_us, keys, self._few[0])
        if status == kernel.FULL:
            raise self._full(len(available_us))

    def close(self) -> None:
        """Nothing is to be left: the state ends with the process."""

    def _full(self, more: int) -> CapacityError:
        return CapacityError(
            "state_full",
            f"the feature state holds {self.entities} entities in {self.state_bytes} bytes and has no room for "
            f"{more} more transactions; give the engine more memory or the features shorter windows",
        )
