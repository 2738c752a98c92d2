"""Transactions as columns: the unit of work everywhere is a batch, and a batch of one is a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tollgate.schema import Schema

Indices = slice | NDArray[np.int64] | NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Batch:
    """N transactions in arrival order.

    Attributes:
        ids: The N transaction ids.
        time_us: Effective times, int64 (N,), microseconds since 1970-01-01 UTC.
        keys: Keyed 64-bit hashes of entity ids, uint64 (E, N), rows as `schema.entities`; 0 is missing.
        values: All other columns, float64 (C, N), rows as `schema.values`; NaN is missing. Money is whole minor
            units of the base currency, a flag is 0 or 1, a timestamp is microseconds, a category is the 52-bit
            code of its text: all of them whole numbers that float64 holds exactly.
    """

    schema: Schema
    ids: Sequence[str]
    time_us: NDArray[np.int64]
    keys: NDArray[np.uint64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Indices) -> Batch:
        """Return the batch of the chosen rows, in their order."""
        ids = self.ids[rows] if isinstance(rows, slice) else np.asarray(self.ids, dtype=object)[rows].tolist()
        contiguous = np.ascontiguousarray  # a compiled kernel is made for one memory layout
        return Batch(
            self.schema,
            ids,
            contiguous(self.time_us[rows]),
            contiguous(self.keys[:, rows]),
            contiguous(self.values[:, rows]),
        )

    def key(self, entity: str) -> NDArray[np.uint64]:
        """Return the keys of one entity column, uint64 (N,)."""
        keys: NDArray[np.uint64] = self.keys[self.schema.entities.index(entity)]
        return keys

    def value(self, name: str) -> NDArray[np.float64]:
        """Return one value column, float64 (N,)."""
        values: NDArray[np.float64] = self.values[self.schema.values.index(name)]
        return values

    def missing(self) -> list[tuple[str, ...]]:
        """Return, for each of the N transactions, the names of the columns that it does not have."""
        absent = np.concatenate((self.keys == 0, np.isnan(self.values)))  # (E + C, N)
        names = (*self.schema.entities, *self.schema.values)
        packed = np.ascontiguousarray(np.packbits(absent, axis=0).T)  # (N, bytes)
        patterns = packed.view(f"V{packed.shape[1]}").ravel().tolist()
        rows = dict(zip(patterns, range(len(patterns)), strict=True))  # most transactions lack the same columns
        lacking = {
            pattern: tuple(names[place] for place in absent[:, row].nonzero()[0].tolist())
            for pattern, row in rows.items()
        }
        return [lacking[pattern] for pattern in patterns]


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Return one batch of all rows, in order. There must be at least one batch, all of one schema."""
    return Batch(
        batches[0].schema,
        [identifier for batch in batches for identifier in batch.ids],
        np.concatenate([batch.time_us for batch in batches]),
        np.concatenate([batch.keys for batch in batches], axis=1),
        np.concatenate([batch.values for batch in batches], axis=1),
    )
