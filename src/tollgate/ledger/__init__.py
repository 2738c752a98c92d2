"""The durable record: transactions, decisions, labels. One truth for audit, idempotency, recovery and training."""

from tollgate.ledger.ledger import Entry, History, Ledger, Recorded, Replayed

__all__ = ["Entry", "History", "Ledger", "Recorded", "Replayed"]
