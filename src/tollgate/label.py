"""What became of a transaction, and when that was known."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class LabelSource(StrEnum):
    """Who says so, from the weakest to the strongest: of two verdicts of one moment the stronger source's counts."""

    IMPORT = "import"
    CUSTOMER = "customer"
    ANALYST = "analyst"
    CHARGEBACK = "chargeback"


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fraud or not, for one transaction. A later label of the same source takes an earlier one back.

    Attributes:
        is_fraud: The verdict.
        available_us: When it became known, in microseconds since 1970-01-01 UTC; null is the moment at which it is
            recorded. Nothing may look at it before.
    """

    transaction_id: str
    is_fraud: bool
    source: LabelSource
    available_us: int | None = None


class LabelResult(StrEnum):
    """What became of a label."""

    RECORDED = "recorded"
    KNOWN = "known"  # it was there already: nothing changed
    UNKNOWN_TRANSACTION = "unknown_transaction"  # the ledger has no such transaction
    CONFLICTING_LABEL = "conflicting_label"  # its source has said the opposite for the same moment

    @property
    def accepted(self) -> bool:
        """Whether the ledger has the label now."""
        return self in (LabelResult.RECORDED, LabelResult.KNOWN)


class Labelled(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to one label.

    Attributes:
        message: Why it was not taken; null where it was.
    """

    transaction_id: str
    result: LabelResult
    message: str | None = None
