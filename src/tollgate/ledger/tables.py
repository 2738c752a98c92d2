"""The ledger's tables. A row of `groups` is one group commit: written once, and deleted whole when it is archived.

Transactions are numbered in order of arrival, from 1: replaying them by it rebuilds the feature state bit for bit.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

METADATA = MetaData()
_SEQ = BigInteger().with_variant(Integer, "sqlite")  # SQLite's rowid is an INTEGER

# The order of columns matters: a database reads a row from its front, so a scan of hashes never touches a payload.
GROUPS = Table(
    "groups",
    METADATA,
    Column("first", _SEQ, primary_key=True, autoincrement=False),  # arrival number of its first transaction
    Column("count", Integer, nullable=False),  # of its transactions
    Column("observed_us", BigInteger, nullable=False),
    Column("least_us", BigInteger, nullable=False),  # of its effective times
    Column("most_us", BigInteger, nullable=False),
    Column("bundle", String),  # that decided; null for imported history
    Column("approve", Integer, nullable=False),  # of its decisions
    Column("review", Integer, nullable=False),
    Column("block", Integer, nullable=False),
    Column("degraded", Integer, nullable=False),  # of those, made without the model
    Column("id_hashes", LargeBinary, nullable=False),  # uint64, little-endian, under the key in `settings`
    Column("payload", LargeBinary, nullable=False),  # see `group`
    postgresql_partition_by="RANGE (first)",  # see `partitions`
)

LABELS = Table(
    "labels",
    METADATA,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),
    Column("transaction_id", String, nullable=False, index=True),
    Column("is_fraud", Boolean, nullable=False),
    Column("available_us", BigInteger, nullable=False),
    Column("source", String, nullable=False),
    Column("number", BigInteger),  # arrival number of its transaction; null for labels of before there was this column
    Column("recorded_after", BigInteger, nullable=False, server_default="0"),  # transactions that were there already
    Column("recorded_us", BigInteger),
    Column("recorded_by", String),
    UniqueConstraint("transaction_id", "source", "available_us"),
)

SETTINGS = Table(
    "settings",
    METADATA,
    Column("key", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
