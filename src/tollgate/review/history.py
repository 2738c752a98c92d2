"""What the same card, device or address did around a case, and which lists it hits: read when somebody looks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from tollgate.control import ListEntry
from tollgate.decision import Decision
from tollgate.intake import TransactionReader
from tollgate.ledger.cases import Around, Cases, Payment
from tollgate.ledger.controls import Controls
from tollgate.ledger.labels import verdict_of
from tollgate.review.case import MERCHANT, Case, case_of, decision_of, fields_of, text_of
from tollgate.schema import Kind

LOOK = 50_000  # transactions before a case and after it that are looked through
MOST = 25  # of which about so many are shown, the nearest of either side
LIMIT_S = 1.0  # for looking: an analyst waits
_PAUSE_S = 0.0005  # after each group's worth of work others get the interpreter: decisions come first
_GROUPS_A_PAUSE = 32


class Neighbour(NamedTuple):
    """A transaction that shares something with a case.

    Attributes:
        decision: None of imported history.
        shared: The columns that both have the same value in.
        verdict: `fraud`, `genuine`, or nothing.
    """

    payment: Payment
    decision: Decision | None
    case: Case | None
    fields: dict[str, Any]
    shared: tuple[str, ...]
    verdict: str


def links(reader: TransactionReader) -> tuple[str, ...]:
    """Return the entity columns that tie transactions together: not the merchant, which ties too many."""
    return tuple(name for name in reader.schema.entities if name != MERCHANT)


def neighbours(cases: Cases, payment: Payment, reader: TransactionReader, now_us: int) -> tuple[list[Neighbour], int]:
    """Return what shares an entity with a transaction, the newest first, and how many were looked through."""
    fields = fields_of(payment)
    mine = {name: text for name in links(reader) if (text := text_of(reader, name, fields))}
    found = _around(cases, payment, mine, reader)
    said = cases.said([one.transaction_id for one in found.payments], now_us)
    result = []
    for one in found.payments:
        theirs = fields_of(one)
        shared = tuple(name for name, text in mine.items() if text_of(reader, name, theirs) == text)
        if one.number == payment.number or not shared:
            continue
        labels = said.get(one.transaction_id)
        verdict = "" if not labels else ("fraud" if verdict_of(labels).is_fraud else "genuine")
        decision = decision_of(one)
        case = None if decision is None else case_of(one, reader)
        result.append(Neighbour(one, decision, case, theirs, shared, verdict))
    return result, found.looked


def _around(cases: Cases, payment: Payment, mine: Mapping[str, str], reader: TransactionReader) -> Around:
    texts = [msgspec.json.encode({reader.schema.sources(name)[0]: text})[1:-1] for name, text in mine.items()]
    until = time.monotonic() + LIMIT_S
    groups = 0

    def go_on() -> bool:
        nonlocal groups
        groups += 1
        if groups % _GROUPS_A_PAUSE == 0:
            time.sleep(_PAUSE_S)
        return time.monotonic() < until

    return cases.around(payment.number, texts, LOOK, MOST + 1, go_on) if texts else Around([], 0)


def hits(controls: Controls, payment: Payment, reader: TransactionReader) -> list[ListEntry]:
    """Return the entries of lists for the values of a transaction, those that have expired too."""
    fields = fields_of(payment)
    columns = [name for name, one in reader.schema.columns.items() if one.kind in (Kind.ENTITY, Kind.CATEGORY)]
    return controls.entries_of([(name, text) for name in columns if (text := text_of(reader, name, fields))])
