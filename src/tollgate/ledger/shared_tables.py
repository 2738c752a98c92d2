"""Tables that a ledger on PostgreSQL has beside the others, for several writers."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, String, Table

SHARED = MetaData()

IDS = Table(
    "ids",
    SHARED,
    Column("key", LargeBinary, nullable=False),  # a keyed hash of 128 bits: with so many, no two ids share one
    Column("number", BigInteger, nullable=False),  # arrival number
    postgresql_partition_by="RANGE (number)",  # see `partitions`
)

ARRIVALS = Table("arrivals", SHARED, Column("last", BigInteger, nullable=False))  # one row: the newest number

WRITTEN = Table(  # which of several writers recorded a group: it is the one to apply it to their feature state
    "written",
    SHARED,
    Column("writer", String, primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
)
