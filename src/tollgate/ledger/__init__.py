"""The durable record: transactions, decisions, labels. One truth for audit, idempotency, recovery and training."""

from tollgate.ledger.group import Counts, Group, Shadow
from tollgate.ledger.ledger import KNOWN_TRANSACTION, History, Ledger, Recorded, Replayed

__all__ = ["KNOWN_TRANSACTION", "Counts", "Group", "History", "Ledger", "Recorded", "Replayed", "Shadow"]
