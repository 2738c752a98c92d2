"""Cases: decisions that held or blocked a payment, what people found of them, and what happened around them.

Read beside the writer, each part on its own; the row of a group says how many such decisions it has, so that the others
are passed over unopened. A case is open while it has neither a label of an analyst nor a disposition.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, func, insert, select

from tollgate.decision import Outcome, outcome_of
from tollgate.label import LabelSource
from tollgate.ledger.case_tables import DISPOSITIONS
from tollgate.ledger.connection import reading, streamed, writing
from tollgate.ledger.database import Database
from tollgate.ledger.group import Packed
from tollgate.ledger.labels import Said, labels_of
from tollgate.ledger.stretches import extent, opened
from tollgate.ledger.tables import GROUPS, LABELS

_GROUPS_AT_ONCE = 64  # read by one query
_IDS_AT_ONCE = 500  # in one query
_HELD = (Outcome.REVIEW, Outcome.BLOCK)


class Disposition(StrEnum):
    """What an analyst found."""

    CONFIRMED_FRAUD = "confirmed_fraud"
    FALSE_POSITIVE = "false_positive"
    INCONCLUSIVE = "inconclusive"  # looked at, and not known: no label


class Payment(NamedTuple):
    """A recorded transaction.

    Attributes:
        number: Its arrival number.
        effective_us: Its own time, microseconds since 1970-01-01 UTC.
        observed_us: Likewise, when it was observed.
        bundle: Content id of the bundle that decided; None of imported history.
        body: Its fields, JSON.
        answer: The decision, JSON; None of imported history.
        features: What was decided on, float64, little-endian; or None.
    """

    number: int
    transaction_id: str
    effective_us: int
    observed_us: int
    bundle: str | None
    body: bytes
    answer: bytes | None
    features: bytes | None


class Finding(NamedTuple):
    """What somebody said of a transaction: a label, or the disposition of a case.

    Attributes:
        kind: `is fraud` or `is no fraud` of a label; a disposition's name.
        source: Of the label; `case` of a disposition.
        note: What was noted with a disposition, or nothing.
        at_us: When it was recorded; of old labels when it became known. Microseconds since 1970-01-01 UTC.
        by: Who recorded it; empty where that is not known.
    """

    kind: str
    source: str
    note: str
    at_us: int
    by: str


class Findings(NamedTuple):
    """All that was said of a transaction, the oldest first, and a text that differs when there is more."""

    all: tuple[Finding, ...]
    revision: str


class Place(NamedTuple):
    """Sequence numbers of the newest label and the newest disposition that are known."""

    label: int = 0
    disposition: int = 0


class Around(NamedTuple):
    """Transactions that share something with another, the newest first, and how many were looked through."""

    payments: list[Payment]
    looked: int


class Cases(Database):
    """The cases of a ledger. Safe to use from several threads, and beside the process that writes."""

    def extent(self) -> tuple[int, int]:
        """Return the arrival numbers of the newest archived transaction and of the newest of all; 0 for none."""
        with reading(self._engine) as connection:
            mark, newest = extent(connection)
        return mark.last, newest

    def beginning(self, since_us: int, most: int) -> int:
        """Return the arrival number after which what was held or blocked since a time lies.

        Args:
            since_us: Observed time, microseconds since 1970-01-01 UTC.
            most: Not many more decisions than these should follow.
        """
        found = 0
        query = _SIZES.where(GROUPS.c.bundle.is_not(None)).order_by(GROUPS.c.first.desc())
        with reading(self._engine) as connection, streamed(connection, query, _GROUPS_AT_ONCE) as rows:
            for first, count, observed_us, held in rows:
                if observed_us < since_us or found >= most:
                    return int(first + count - 1)
                found += held
        return 0

    def held(self, after: int, last: int) -> Iterator[list[Payment]]:
        """Yield what was held or blocked after arrival number `after`, up to `last`, in order, in chunks.

        Raises:
            LedgerError: It could not be read.
        """
        query = _GROUPS.where(GROUPS.c.review + GROUPS.c.block > 0, GROUPS.c.first <= last).order_by(GROUPS.c.first)
        position = after
        while True:
            with reading(self._engine) as connection:
                rows = connection.execute(query.where(GROUPS.c.first > position).limit(_GROUPS_AT_ONCE)).all()
            if not rows:
                return
            position = rows[-1].first
            if chunk := [one for row in rows for one in self._held_in(row)]:
                yield chunk

    def payment(self, number: int) -> Payment | None:
        """Return a transaction by its arrival number; None where there is none, or it was archived."""
        query = _GROUPS.where(GROUPS.c.first <= number).order_by(GROUPS.c.first.desc()).limit(1)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None or number >= row.first + row.count:
            return None
        return _payment(row, opened(self._engine, row.first, row.payload), number - row.first)

    def around(self, number: int, texts: Collection[bytes], look: int, most: int, go_on: Callable[[], bool]) -> Around:
        """Return transactions near another one that hold one of some texts in their bodies, the newest first.

        Args:
            number: Arrival number in the middle.
            texts: As they stand in a body.
            look: Groups that begin at most so many transactions before it or after it are looked through.
            most: About so many are returned of what came before it, and of what came after it: the nearest.
            go_on: Whether to look at another group.

        Raises:
            LedgerError: They could not be read.
        """
        first = GROUPS.c.first
        before = _GROUPS.where(first <= number, first > number - look).order_by(first.desc())
        after = _GROUPS.where(first > number, first <= number + look).order_by(first)
        sides = [self._with(query, texts, most, go_on) for query in (before, after)]
        found = sorted((one for side in sides for one in side.payments), key=lambda one: -one.number)
        return Around(found, sum(side.looked for side in sides))

    def _with(self, query: Select[Any], texts: Collection[bytes], most: int, go_on: Callable[[], bool]) -> Around:
        found: list[Payment] = []
        looked = 0
        with reading(self._engine) as connection, streamed(connection, query, _GROUPS_AT_ONCE) as rows:
            for row in rows:
                packed = opened(self._engine, row.first, row.payload)
                looked += len(packed)
                found += [_payment(row, packed, place) for place in reversed(packed.rows_with(texts))]
                if len(found) >= most or not go_on():
                    break
        return Around(found, looked)

    def findings(self, transaction_id: str) -> Findings:
        """Return all labels and dispositions of a transaction."""
        labels = select(LABELS).where(LABELS.c.transaction_id == transaction_id).order_by(LABELS.c.seq)
        cases = select(DISPOSITIONS).where(DISPOSITIONS.c.transaction_id == transaction_id).order_by(DISPOSITIONS.c.seq)
        with reading(self._engine) as connection:
            said, disposed = connection.execute(labels).all(), connection.execute(cases).all()
        found = [*map(_of_label, said), *map(_of_disposition, disposed)]
        newest = (max((one.seq for one in rows), default=0) for rows in (said, disposed))
        return Findings(tuple(sorted(found, key=lambda one: one.at_us)), ".".join(map(str, newest)))

    def said(self, ids: Sequence[str], at_us: int) -> dict[str, list[Said]]:
        """Return the labels of some transactions that were known at a moment, the oldest first, by their ids."""
        return labels_of(self._engine, ids, at_us)

    def place(self) -> Place:
        """Return how far labels and dispositions go now."""
        with reading(self._engine) as connection:
            label = connection.scalar(select(func.max(LABELS.c.seq)))
            disposition = connection.scalar(select(func.max(DISPOSITIONS.c.seq)))
        return Place(int(label or 0), int(disposition or 0))

    def settled(self, ids: Sequence[str]) -> set[str]:
        """Return those of some transactions that have a label of an analyst or a disposition."""
        found: set[str] = set()
        with reading(self._engine) as connection:
            for start in range(0, len(ids), _IDS_AT_ONCE):
                part = ids[start : start + _IDS_AT_ONCE]
                found.update(connection.scalars(_ANALYSTS.where(LABELS.c.transaction_id.in_(part))))
                found.update(connection.scalars(_DISPOSED.where(DISPOSITIONS.c.transaction_id.in_(part))))
        return found

    def settled_since(self, place: Place, until: Place) -> set[str]:
        """Return the transactions that an analyst labelled or disposed of after one place, up to another."""
        label, disposed = LABELS.c.seq, DISPOSITIONS.c.seq
        with reading(self._engine) as connection:
            return {
                *connection.scalars(_ANALYSTS.where(label > place.label, label <= until.label)),
                *connection.scalars(_DISPOSED.where(disposed > place.disposition, disposed <= until.disposition)),
            }

    def dispose(self, transaction_id: str, disposition: Disposition, note: str, by: str, at_us: int) -> None:
        """Record what an analyst found of a case; one of before stays, and the newest counts.

        Raises:
            LedgerError: Nothing was recorded.
        """
        row = {
            "transaction_id": transaction_id, "disposition": disposition.value, "note": note, "recorded_us": at_us,
            "recorded_by": by,
        }  # fmt: skip
        with writing(self._engine) as connection:
            connection.execute(insert(DISPOSITIONS), row)

    def _held_in(self, row: Row[Any]) -> Iterator[Payment]:
        packed = opened(self._engine, row.first, row.payload)
        for place in range(len(packed)):
            answer = packed.answer(place)
            if answer is not None and outcome_of(answer) in _HELD:
                yield _payment(row, packed, place)


def _of_label(row: Row[Any]) -> Finding:
    at_us = row.available_us if row.recorded_us is None else row.recorded_us
    return Finding("is fraud" if row.is_fraud else "is no fraud", row.source, "", at_us, row.recorded_by or "")


def _of_disposition(row: Row[Any]) -> Finding:
    return Finding(row.disposition, "case", row.note, row.recorded_us, row.recorded_by)


def _payment(row: Row[Any], packed: Packed, place: int) -> Payment:
    return Payment(
        row.first + place,
        packed.id(place),
        int(packed.effective_us[place]),
        row.observed_us,
        packed.bundle(place, row.bundle),
        packed.body(place),
        packed.answer(place),
        packed.feature_bytes(place),
    )


_SIZES = select(GROUPS.c.first, GROUPS.c.count, GROUPS.c.observed_us, GROUPS.c.review + GROUPS.c.block)
_GROUPS: Select[Any] = select(GROUPS.c.first, GROUPS.c.count, GROUPS.c.observed_us, GROUPS.c.bundle, GROUPS.c.payload)
_ANALYSTS = select(LABELS.c.transaction_id).where(LABELS.c.source == LabelSource.ANALYST.value)
_DISPOSED = select(DISPOSITIONS.c.transaction_id)
