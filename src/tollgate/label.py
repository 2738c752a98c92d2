"""What became of a transaction, and when that was known."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class LabelSource(StrEnum):
    """Who says so."""

    ANALYST = "analyst"
    CHARGEBACK = "chargeback"
    CUSTOMER = "customer"
    IMPORT = "import"


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fraud or not, for one transaction.

    Attributes:
        is_fraud: The verdict.
        available_us: When it became known, in microseconds since 1970-01-01 UTC. Nothing may look at it before.
    """

    transaction_id: str
    is_fraud: bool
    available_us: int
    source: LabelSource
