"""Labels in the ledger: only ever added to, and in order with the transactions.

A label is recorded after so many transactions, and no feature of those may know of it. Within the table, sequence
numbers ascend with the transaction that a label must come after: what was recorded, or its own, whichever is later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Select, bindparam, exists, func, insert, or_, select

from tollgate.label import Label, LabelResult, LabelSource
from tollgate.ledger.tables import LABELS

_IDS_AT_ONCE = 500  # in one query

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


class Verdict(NamedTuple):
    """What is known of a transaction.

    Attributes:
        number: Arrival number of the transaction; None for labels of before these were kept.
        available_us: When that became known, in microseconds since 1970-01-01 UTC.
        source: Who says so.
    """

    transaction_id: str
    number: int | None
    is_fraud: bool
    available_us: int
    source: LabelSource


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
    said = _Said(connection, {one.transaction_id for one in labels})
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


class _Said:
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


def verdicts(connection: Connection, as_of_us: int) -> list[Verdict]:
    """Return what was known of every labelled transaction at some time: of all labels so far the newest counts."""
    standing: dict[str, Verdict] = {}
    for row in connection.execute(_SPOKEN, {"as_of_us": as_of_us}):
        one = Verdict(row.transaction_id, row.number, row.is_fraud, row.available_us, LabelSource(row.source))
        before = standing.get(one.transaction_id)
        if before is None or (before.available_us, _STRENGTH[before.source]) <= (
            one.available_us,
            _STRENGTH[one.source],
        ):
            standing[one.transaction_id] = one
    return list(standing.values())


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]


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
_STRENGTH = {source: place for place, source in enumerate(LabelSource)}
_SPOKEN = select(LABELS).where(LABELS.c.available_us <= bindparam("as_of_us")).order_by(LABELS.c.seq)
