"""Allow and block lists: single cards, devices, countries about which somebody has decided.

A value is known here as it is in a batch: an entity by its keyed hash, a category by its code. So looking a batch up
compares numbers, and no list holds a card number in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.control import ListEntry, ListKind
from tollgate.errors import InputError
from tollgate.hashing import category_code
from tollgate.schema import Kind, Schema
from tollgate.transaction import Batch

NOWHERE = -1  # in place of an entry
_NEVER = np.iinfo(np.int64).max
_LISTED = (Kind.ENTITY, Kind.CATEGORY)

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ListHits:
    """Which of N transactions are on a list.

    Attributes:
        block: The place of the entry in `Lists.entries`, int64 (N,), the first column's where there are several; or
            `NOWHERE`.
        allow: Likewise.
        counts: Transactions by list and column.
    """

    block: Places
    allow: Places
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)


class _Column(NamedTuple):
    """The values of one column that are on a list, K in all.

    Attributes:
        keys: Sorted: uint64 (K,) of an entity, float64 (K,) of a category.
        entries: Their places in `Lists.entries`, int64 (2, K), block before allow; or `NOWHERE`.
        expires_us: int64 (2, K).
    """

    name: str
    row: int
    is_entity: bool
    keys: NDArray[Any]
    entries: Places
    expires_us: Places


_KINDS = (ListKind.BLOCK, ListKind.ALLOW)


def check_column(name: str, schema: Schema) -> None:
    """Check that a column can have lists.

    Raises:
        InputError: The schema has no such column, or it is neither an entity nor a category.
    """
    fit = [one for one, column in schema.columns.items() if column.kind in _LISTED]
    if name not in fit:
        raise InputError(
            "bad_column", f"expected an entity or category column, but got {name!r}; there are: {', '.join(fit)}"
        )


@dataclass(frozen=True, slots=True)
class Lists:
    """All entries, ready to be looked up.

    Attributes:
        entries: Those that the schema has columns for.
        unused: The others: a champion of another schema must not fail for them.
    """

    entries: tuple[ListEntry, ...]
    unused: tuple[ListEntry, ...]
    _columns: tuple[_Column, ...]

    @staticmethod
    def of(entries: Sequence[ListEntry], schema: Schema, key_of: Callable[[str], int]) -> Lists:
        """Return the lists of some entries.

        Args:
            entries: As `Controls.entries` gives them; of two for the same value of a column and list the last counts.
            schema: Of the batches that will come.
            key_of: The key of an entity's id, as the reader of these batches makes it:
                `TransactionReader.read_entity`.
        """
        fit = {name for name, column in schema.columns.items() if column.kind in _LISTED}
        used = tuple(one for one in entries if one.column in fit)
        columns = []
        for name in schema.columns:
            mine = [(place, one) for place, one in enumerate(used) if one.column == name]
            if mine:
                columns.append(_column(name, mine, schema, key_of))
        return Lists(used, tuple(one for one in entries if one.column not in fit), tuple(columns))

    def hits(self, batch: Batch, now_us: int | NDArray[np.int64]) -> ListHits:
        """Return which of N transactions have an entry that counts.

        Args:
            batch: Of the schema that the lists were made for.
            now_us: The time, or that of every transaction, int64 (N,), microseconds since 1970-01-01 UTC: an entry
                counts before its `expires_us`.
        """
        count = len(batch.time_us)
        found = ListHits(np.full(count, NOWHERE), np.full(count, NOWHERE))
        for column in self._columns:
            values = batch.keys[column.row] if column.is_entity else batch.values[column.row]
            at = column.keys.searchsorted(values)
            rows = (column.keys.take(at, mode="clip") == values).nonzero()[0]
            if rows.size:
                _note(column, rows, at[rows], now_us if isinstance(now_us, int) else now_us[rows], found)
        return found


def _column(
    name: str, entries: Sequence[tuple[int, ListEntry]], schema: Schema, key_of: Callable[[str], int]
) -> _Column:
    is_entity = schema.columns[name].kind is Kind.ENTITY
    key: Callable[[str], float] = key_of if is_entity else category_code
    keys, inverse = np.unique(
        np.array([key(one.value) for _, one in entries], dtype=np.uint64 if is_entity else np.float64),
        return_inverse=True,
    )
    places, expires_us = np.full((2, keys.size), NOWHERE), np.zeros((2, keys.size), dtype=np.int64)
    for (place, one), at in zip(entries, inverse.tolist(), strict=True):
        kind = _KINDS.index(one.list)
        places[kind, at] = place
        expires_us[kind, at] = _NEVER if one.expires_us is None else one.expires_us
    row = (schema.entities if is_entity else schema.values).index(name)
    return _Column(name, row, is_entity, keys, places, expires_us)


def _note(column: _Column, rows: Places, at: Places, now_us: int | NDArray[np.int64], found: ListHits) -> None:
    """Note the entries of the rows whose value in a column is on a list."""
    for kind, hits in zip(range(2), (found.block, found.allow), strict=True):
        counts = column.expires_us[kind, at] > now_us
        active, places = rows[counts], column.entries[kind, at[counts]]
        if active.size:
            found.counts[(_KINDS[kind].value, column.name)] += int(active.size)
            first = hits[active] == NOWHERE
            hits[active[first]] = places[first]
