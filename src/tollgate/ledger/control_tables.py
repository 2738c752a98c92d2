"""The ledger's tables of what people set: keys, lists, rule sets, and the audit trail."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, String, Table

from tollgate.ledger.tables import METADATA

_SEQ = BigInteger().with_variant(Integer, "sqlite")  # SQLite's rowid is an INTEGER

AUDIT = Table(
    "audit",
    METADATA,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),  # rows are only ever added: the newest is the version
    Column("at_us", BigInteger, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("detail", LargeBinary, nullable=False),  # JSON
)

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", String, nullable=False),  # joined by spaces
    Column("rate_per_s", Float, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
)

LIST_ENTRIES = Table(
    "list_entries",
    METADATA,
    Column("list", String, primary_key=True),
    Column("column", String, primary_key=True),
    Column("value", String, primary_key=True),
    Column("reason", String, nullable=False),
    Column("added_by", String, nullable=False),
    Column("added_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
)

RULE_SETS = Table(
    "rule_sets",
    METADATA,
    Column("version", _SEQ, primary_key=True, autoincrement=True),
    Column("document", LargeBinary, nullable=False),  # JSON
    Column("published_by", String, nullable=False),
    Column("published_us", BigInteger, nullable=False),
)
