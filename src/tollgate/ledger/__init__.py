"""The durable record: transactions, decisions, labels. One truth for audit, idempotency, recovery and training."""

from tollgate.ledger.group import Counts, Group, Shadow, Tried
from tollgate.ledger.labels import Fraud, Frauds, Verdicts
from tollgate.ledger.ledger import KNOWN_TRANSACTION, LEDGER_MOVED, Ledger
from tollgate.ledger.lock import IN_USE
from tollgate.ledger.records import History, Recorded, Replayed
from tollgate.ledger.shared import ALONE, SharedLedger

__all__ = [
    "ALONE",
    "IN_USE",
    "KNOWN_TRANSACTION",
    "LEDGER_MOVED",
    "Counts",
    "Fraud",
    "Frauds",
    "Group",
    "History",
    "Ledger",
    "Recorded",
    "Replayed",
    "Shadow",
    "SharedLedger",
    "Tried",
    "Verdicts",
]
