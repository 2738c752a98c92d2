"""A case in the queue, and which of them somebody asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from tollgate.decision import Decision, Outcome
from tollgate.duration import HOUR_US
from tollgate.errors import InputError
from tollgate.intake import TransactionReader
from tollgate.ledger.cases import Payment

AMOUNT, MERCHANT = "amount", "merchant_id"
MAX_HOURS = 24 * 366
_DECISION = msgspec.json.Decoder(Decision)


class Order(StrEnum):
    """Which case comes first."""

    LOSS = "loss"  # the greatest expected loss
    AGE = "age"  # the oldest


class Case(NamedTuple):
    """A payment that was held or blocked.

    Attributes:
        score: None where it was decided without the model.
        amount_minor: In minor units of the base currency; NaN where it has none.
        observed_us: When it came, microseconds since 1970-01-01 UTC.
        merchant: Empty without one.
        reasons: Their codes.
    """

    number: int
    transaction_id: str
    outcome: Outcome
    score: float | None
    amount_minor: float
    observed_us: int
    merchant: str
    reasons: tuple[str, ...]

    @property
    def loss_minor(self) -> float:
        """What is expected to be lost if it is let through: score times amount, all of it without a score."""
        amount = 0.0 if math.isnan(self.amount_minor) else self.amount_minor
        return amount if self.score is None else amount * self.score


class Filter(NamedTuple):
    """Which cases are asked for; an empty text, or 0, is any.

    Attributes:
        reason: A reason's code: a feature, `rule_<name>`, `list_block`, `score_review`.
        hours: Not older than so many.
    """

    order: Order = Order.LOSS
    outcome: str = ""
    reason: str = ""
    merchant: str = ""
    hours: int = 0

    def takes(self, case: Case, now_us: int) -> bool:
        """Return whether a case is asked for."""
        return (
            (not self.outcome or case.outcome.value == self.outcome)
            and (not self.reason or self.reason in case.reasons)
            and (not self.merchant or case.merchant == self.merchant)
            and (not self.hours or case.observed_us >= now_us - self.hours * HOUR_US)
        )

    def rank(self, case: Case) -> tuple[float, int]:
        """Return what is the greater the earlier a case comes."""
        return (case.loss_minor if self.order is Order.LOSS else 0.0, -case.number)

    def query(self, **more: object) -> str:
        """Return it as the query of a URL, with what else is to be in there."""
        mine = {name: value for name, value in self._asdict().items() if value}
        return urlencode(mine | more)


def filter_of(fields: Mapping[str, str]) -> Filter:
    """Return the filter that a query holds; what makes no sense in it is passed over."""
    order, outcome, hours = fields.get("order", ""), fields.get("outcome", ""), fields.get("hours", "")
    return Filter(
        Order(order) if order in tuple(Order) else Order.LOSS,
        outcome if outcome in (Outcome.REVIEW, Outcome.BLOCK) else "",
        fields.get("reason", ""),
        fields.get("merchant", ""),
        min(int(hours), MAX_HOURS) if hours.isascii() and hours.isdigit() and len(hours) < 6 else 0,
    )


def fields_of(payment: Payment) -> dict[str, Any]:
    """Return the fields of a transaction that have a value, by their names in the input."""
    found: dict[str, Any] = msgspec.json.decode(payment.body)
    return {name: value for name, value in found.items() if value is not None and value != ""}


def decision_of(payment: Payment) -> Decision | None:
    """Return the decision on a transaction; None of imported history."""
    return None if payment.answer is None else _DECISION.decode(payment.answer)


def text_of(reader: TransactionReader, column: str, fields: Mapping[str, Any]) -> str:
    """Return the value of an entity or category column as text; empty where it has none."""
    if column not in reader.schema.columns:
        return ""
    value = fields.get(reader.schema.sources(column)[0])
    return "" if value is None else str(value)


def case_of(payment: Payment, reader: TransactionReader) -> Case:
    """Return the case of a payment that was held or blocked."""
    decision = decision_of(payment)
    assert decision is not None
    fields = fields_of(payment)
    return Case(
        payment.number,
        payment.transaction_id,
        decision.outcome,
        decision.score,
        _amount_minor(payment, fields, reader),
        payment.observed_us,
        text_of(reader, MERCHANT, fields),
        tuple(one.code for one in decision.reasons),
    )


def _amount_minor(payment: Payment, fields: Mapping[str, Any], reader: TransactionReader) -> float:
    column = reader.money_columns.get(AMOUNT)
    if column is None:
        return math.nan
    schema = reader.schema
    currency = None if column.currency_column is None else fields.get(schema.sources(column.currency_column)[0])
    try:
        return reader.read_money(AMOUNT, fields.get(schema.sources(AMOUNT)[0]), currency, payment.effective_us)
    except InputError:
        return math.nan  # recorded under other rates or another schema: it goes to the end of the queue
