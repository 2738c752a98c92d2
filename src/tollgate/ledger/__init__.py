"""The durable record: transactions, decisions, labels. One truth for audit, idempotency, recovery and training."""

from tollgate.ledger.group import Counts, Group, Shadow
from tollgate.ledger.labels import Fraud, Frauds, Verdicts
from tollgate.ledger.ledger import KNOWN_TRANSACTION, History, Ledger, Recorded, Replayed

__all__ = [
    "KNOWN_TRANSACTION",
    "Counts",
    "Fraud",
    "Frauds",
    "Group",
    "History",
    "Ledger",
    "Recorded",
    "Replayed",
    "Shadow",
    "Verdicts",
]
