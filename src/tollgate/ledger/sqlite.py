"""SQLite as a ledger's database: one file in WAL mode, written by one process at a time."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Table, insert

from tollgate.ledger.durability import Durability

BUSY_S = 5  # how long a transaction waits for another process's

_ADVICE = {
    sqlite3.SQLITE_BUSY: f"another process has held it for more than {BUSY_S} s; try again, or find that process",
    sqlite3.SQLITE_READONLY: "it is read-only; make its file and its folder writable for this user",
    sqlite3.SQLITE_CANTOPEN: "its folder must exist and be writable for this user",
    sqlite3.SQLITE_FULL: "its disk is full; make room",
    sqlite3.SQLITE_NOTADB: "this is no SQLite file; check the URL in [ledger]",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a copy",
}
_AS_SQLITE = {
    errno.EACCES: sqlite3.SQLITE_READONLY,
    errno.EPERM: sqlite3.SQLITE_READONLY,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.ENOTDIR: sqlite3.SQLITE_CANTOPEN,
}
_SYNCHRONOUS: dict[Durability, str] = {"fsync": "FULL", "os": "NORMAL"}  # in WAL mode NORMAL syncs at checkpoints only


def connecting() -> dict[str, Any]:
    """Return what an engine is made with."""
    return {"connect_args": {"timeout": BUSY_S}}


def set_up(connection: Any, durability: Durability) -> None:
    """Prepare a new connection of the driver."""
    connection.isolation_level = None  # the driver would begin late, and leave tables outside the transaction
    for pragma in ("journal_mode=WAL", f"synchronous={_SYNCHRONOUS[durability]}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def prepare(engine: Engine) -> None:
    """Make the folder of the file."""
    database = engine.url.database
    if database and not database.startswith("file:"):  # a URI with settings of its own
        Path(database).parent.mkdir(parents=True, exist_ok=True)


def begin(connection: Connection) -> None:
    """Begin to write, after all others who write have ended."""
    driver = connection.connection.driver_connection
    assert driver is not None
    # One that reads and then writes would fail at once, without a wait, where another has written in between.
    driver.execute("BEGIN IMMEDIATE").close()


def insert_new(table: Table) -> Insert:
    """Return an insert that leaves out the rows that are there."""
    return insert(table).prefix_with("OR IGNORE")


def insert_all(connection: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert many rows: the table's columns in their order."""
    names = table.columns.keys()
    connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])


def check_writable(engine: Engine) -> None:
    """Refuse a file that may be read and not written: SQLite would notice at the first decision.

    Raises:
        sqlite3.OperationalError: What it would say.
    """
    path = Path(engine.url.database or "")
    if path.is_file() and not os.access(path, os.W_OK):
        error = sqlite3.OperationalError("attempt to write a readonly database")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY
        raise error


def explain(error: BaseException) -> tuple[str, str]:
    """Return what a driver's error says, and what helps."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte: the rest tells kinds of it apart
    number = _AS_SQLITE.get(error.errno or 0, 0) if isinstance(error, OSError) else primary
    return str(error), _ADVICE.get(number, "check that its disk is there and has room")
