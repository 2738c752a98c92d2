"""Labels in the ledger: only ever added to, and in order with the transactions.

A label is recorded after so many transactions, and no feature of those may know of it. Within the table, sequence
numbers ascend with the transaction that a label must come after: what was recorded, or its own, whichever is later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Select, bindparam, case, exists, func, insert, or_, select

from tollgate.label import Label, LabelResult, LabelSource
from tollgate.ledger.connection import reading
from tollgate.ledger.tables import LABELS

_IDS_AT_ONCE = 500  # in one query
_ROWS_AT_ONCE = 16_384

_EARLIER = LABELS.alias("earlier")


class Fraud(NamedTuple):
    """How a transaction first became known as fraud.

    Attributes:
        number: Arrival number of the transaction.
        available_us: When it was known, in microseconds since 1970-01-01 UTC.
        after: Arrival number of the transaction after which features may know of it.
    """

    number: int
    available_us: int
    after: int


class Frauds(NamedTuple):
    """Transactions that first became known as fraud by some labels, and the sequence number of the last of those."""

    frauds: list[Fraud]
    newest: int


class Verdicts(NamedTuple):
    """What L transactions turned out to be: of each the label that counts, see `verdicts`.

    Attributes:
        number: Arrival numbers, ascending, int64 (L,).
        is_fraud: bool (L,).
        available_us: When it was known, int64 (L,).
        source: Place in `tuple(LabelSource)`, int64 (L,).
        old: The same for labels of before labels had numbers: verdict, time and source by transaction id.
    """

    number: NDArray[np.int64]
    is_fraud: NDArray[np.bool_]
    available_us: NDArray[np.int64]
    source: NDArray[np.int64]
    old: dict[str, tuple[bool, int, int]]


class Said(NamedTuple):
    """One label: its verdict, when it became known, and who says so."""

    is_fraud: bool
    available_us: int
    source: str


class Recording(NamedTuple):
    """Who records labels and when, in microseconds since 1970-01-01 UTC, after how many transactions."""

    by: str
    at_us: int
    after: int


def record(
    connection: Connection, labels: Sequence[Label], numbers: Mapping[str, int], recording: Recording
) -> list[LabelResult]:
    """Record labels; return what became of each.

    Args:
        connection: That writes.
        labels: In the order in which they came.
        numbers: Arrival numbers of the transactions that are known.
        recording: Who, when, and after how many transactions.
    """
    said = _Spoken(connection, {one.transaction_id for one in labels})
    rows: list[dict[str, object]] = []
    results = []
    for one in labels:
        number = numbers.get(one.transaction_id)
        available_us = recording.at_us if one.available_us is None else one.available_us
        result = LabelResult.UNKNOWN_TRANSACTION if number is None else said.take(one, available_us)
        results.append(result)
        if result is LabelResult.RECORDED:
            rows.append(
                {"transaction_id": one.transaction_id, "is_fraud": one.is_fraud, "available_us": available_us,
                 "source": one.source.value, "number": number, "recorded_after": recording.after,
                 "recorded_us": recording.at_us, "recorded_by": recording.by}
            )  # fmt: skip
    if rows:
        connection.execute(insert(LABELS), sorted(rows, key=lambda row: (row["number"], row["available_us"])))
    return results


class _Spoken:
    """What every source has said of some transactions so far."""

    def __init__(self, connection: Connection, ids: set[str]) -> None:
        self._at: dict[tuple[str, str, int], bool] = {}
        self._newest: dict[tuple[str, str], tuple[int, bool]] = {}
        for part in _parts(sorted(ids)):
            query = select(LABELS).where(LABELS.c.transaction_id.in_(part)).order_by(LABELS.c.seq)
            for row in connection.execute(query):
                self._add(row.transaction_id, row.source, row.available_us, row.is_fraud)

    def _add(self, transaction_id: str, source: str, available_us: int, is_fraud: bool) -> None:
        self._at[transaction_id, source, available_us] = is_fraud
        newest_us, _ = self._newest.get((transaction_id, source), (available_us, is_fraud))
        if available_us >= newest_us:
            self._newest[transaction_id, source] = (available_us, is_fraud)

    def take(self, label: Label, available_us: int) -> LabelResult:
        key = (label.transaction_id, label.source.value)
        if label.available_us is None and key in self._newest and self._newest[key][1] == label.is_fraud:
            return LabelResult.KNOWN
        there = self._at.get((*key, available_us))
        if there is not None:
            return LabelResult.KNOWN if there == label.is_fraud else LabelResult.CONFLICTING_LABEL
        self._add(*key, available_us, label.is_fraud)
        return LabelResult.RECORDED


def frauds(connection: Connection, after: int, last: int) -> Frauds:
    """Return the transactions that first became known as fraud by a label after sequence number `after`.

    Args:
        connection: That reads.
        after: Sequence number of the newest label that is known.
        last: Arrival number of the newest transaction that is known: labels that belong after a later one, and all
            labels after those, are left for the next time.
    """
    newest = int(connection.scalar(_NEWEST) or 0)
    later = or_(LABELS.c.recorded_after > last, LABELS.c.number > last)
    query = select(LABELS.c.seq).where(LABELS.c.seq > after, LABELS.c.seq <= newest, later)
    stop = connection.scalar(query.order_by(LABELS.c.seq).limit(1))
    newest = max(newest if stop is None else stop - 1, after)
    rows = connection.execute(_FIRST_FRAUDS.where(LABELS.c.seq > after, LABELS.c.seq <= newest))
    found = [Fraud(row.number, row.available_us, max(row.number, row.recorded_after)) for row in rows]
    return Frauds(found, newest)


def old_frauds(connection: Connection) -> dict[str, int]:
    """Return when transactions became known as fraud by labels of before there were numbers, by their ids."""
    return {row.transaction_id: row.known_us for row in connection.execute(_OLD_FRAUDS)}


def verdicts(connection: Connection, known_by_us: int) -> Verdicts:
    """Return of each labelled transaction the label that counts, of those that were known by `known_by_us`.

    It is the one that became known last; of several of one moment that of the strongest source.
    """
    rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(_COUNTING, {"known_by_us": known_by_us})
    parts = [np.empty((0, 4), dtype=np.int64)]
    old: dict[str, tuple[bool, int, int]] = {}
    for part in rows.partitions():
        old |= {
            row.transaction_id: (row.is_fraud, row.available_us, row.strength) for row in part if row.number is None
        }
        numbered = [
            (row.number, row.is_fraud, row.available_us, row.strength) for row in part if row.number is not None
        ]
        if numbered:
            parts.append(np.array(numbered, dtype=np.int64))
    number, is_fraud, available_us, source = np.concatenate(parts).T
    return Verdicts(number, is_fraud.astype(np.bool_), available_us, source, old)


def labels_of(engine: Engine, ids: Sequence[str], at_us: int) -> dict[str, list[Said]]:
    """Return the labels of some transactions that were known at a moment, the oldest first; of those that have any.

    Raises:
        LedgerError: They could not be read.
    """
    found: dict[str, list[Said]] = {}
    columns = (LABELS.c.transaction_id, LABELS.c.is_fraud, LABELS.c.available_us, LABELS.c.source)
    query = select(*columns).where(LABELS.c.available_us <= at_us).order_by(LABELS.c.available_us, LABELS.c.seq)
    with reading(engine) as connection:
        for part in _parts(ids):
            rows = connection.execute(query.where(LABELS.c.transaction_id.in_(part)))
            for identifier, is_fraud, available_us, source in rows:
                found.setdefault(identifier, []).append(Said(bool(is_fraud), available_us, source))
    return found


def verdict_of(said: Sequence[Said]) -> Said:
    """Return the label that counts of those of one transaction: the newest, of one moment the strongest source's."""
    return max(said, key=lambda one: (one.available_us, _RANKS.get(one.source, -1)))


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]


_RANKS = {source.value: place for place, source in enumerate(LabelSource)}
_STRENGTH = case(_RANKS, value=LABELS.c.source)
_RANKED = (
    select(
        LABELS.c.transaction_id,
        LABELS.c.number,
        LABELS.c.is_fraud,
        LABELS.c.available_us,
        _STRENGTH.label("strength"),
        func.row_number()
        .over(
            partition_by=LABELS.c.transaction_id,
            order_by=(LABELS.c.available_us.desc(), _STRENGTH.desc(), LABELS.c.seq.desc()),
        )
        .label("place"),
    )
    .where(LABELS.c.available_us <= bindparam("known_by_us"))
    .subquery()
)
_COUNTING = select(_RANKED).where(_RANKED.c.place == 1).order_by(_RANKED.c.number)

_NEWEST = select(func.max(LABELS.c.seq))
_FIRST_FRAUDS: Select[tuple[int, int, int]] = (
    select(LABELS.c.number, LABELS.c.available_us, LABELS.c.recorded_after)
    .where(
        LABELS.c.is_fraud,
        LABELS.c.number.is_not(None),
        ~exists().where(
            _EARLIER.c.transaction_id == LABELS.c.transaction_id, _EARLIER.c.is_fraud, _EARLIER.c.seq < LABELS.c.seq
        ),
    )
    .order_by(LABELS.c.seq)
)
_OLD_FRAUDS: Select[tuple[str, int]] = (
    select(LABELS.c.transaction_id, func.min(LABELS.c.available_us).label("known_us"))
    .where(LABELS.c.is_fraud, LABELS.c.number.is_(None))
    .group_by(LABELS.c.transaction_id)
)
