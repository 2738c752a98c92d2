"""The ledger's table of what analysts found of a case."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, String, Table

from tollgate.ledger.tables import METADATA

_SEQ = BigInteger().with_variant(Integer, "sqlite")  # SQLite's rowid is an INTEGER

DISPOSITIONS = Table(
    "dispositions",
    METADATA,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),  # rows are only ever added
    Column("transaction_id", String, nullable=False, index=True),
    Column("disposition", String, nullable=False),
    Column("note", String, nullable=False),  # empty without one
    Column("recorded_us", BigInteger, nullable=False),
    Column("recorded_by", String, nullable=False),
)
