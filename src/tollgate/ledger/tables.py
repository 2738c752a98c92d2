"""The ledger's tables. Rows are only ever added.

`seq` is the arrival order: replaying transactions by it rebuilds the feature state bit for bit.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

METADATA = MetaData()
_SEQ = BigInteger().with_variant(Integer, "sqlite")  # SQLite's rowid is an INTEGER

TRANSACTIONS = Table(
    "transactions",
    METADATA,
    Column("seq", _SEQ, primary_key=True, autoincrement=False),
    Column("transaction_id", String, nullable=False, unique=True),
    Column("effective_us", BigInteger, nullable=False),
    Column("observed_us", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),  # JSON with sorted keys: equal bodies are equal bytes
)

DECISIONS = Table(
    "decisions",
    METADATA,
    Column("seq", _SEQ, ForeignKey("transactions.seq"), primary_key=True, autoincrement=False),
    Column("bundle", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("mode", String, nullable=False),
    Column("score", Float),
    Column("document", LargeBinary, nullable=False),  # the decision as it was answered, JSON
    Column("features", LargeBinary, nullable=False),  # float64, little-endian, as the bundle's plan orders them
)

LABELS = Table(
    "labels",
    METADATA,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),
    Column("transaction_id", String, nullable=False, index=True),
    Column("is_fraud", Boolean, nullable=False),
    Column("available_us", BigInteger, nullable=False),
    Column("source", String, nullable=False),
    UniqueConstraint("transaction_id", "source", "available_us"),
)
