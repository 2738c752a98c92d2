"""How SQLite is opened: short transactions, a bounded wait for other processes, errors that say what to do."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Table, create_engine, event, insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from tollgate.errors import LedgerError

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

Durability = Literal["fsync", "os"]
_SYNCHRONOUS: dict[Durability, str] = {"fsync": "FULL", "os": "NORMAL"}  # in WAL mode NORMAL syncs at checkpoints only


def open_engine(url: str, durability: Durability = "fsync") -> Engine:
    """Return an engine on an SQLite ledger in WAL mode, to be used through `reading` and `writing`.

    Args:
        url: An SQLAlchemy URL: `sqlite:///path/to/tollgate.db`.
        durability: `fsync` survives a power cut, `os` only the death of the process.

    Raises:
        LedgerError: It is no such URL.
    """
    try:
        engine = create_engine(url, connect_args={"timeout": BUSY_S})
    except SQLAlchemyError as error:
        raise LedgerError(
            "ledger_failed", f"could not open the ledger {url}: {error}; expected such as sqlite:///tollgate.db"
        ) from error

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin late, and leave tables outside the transaction
        for pragma in ("journal_mode=WAL", f"synchronous={_SYNCHRONOUS[durability]}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    return engine


@contextmanager
def reading(engine: Engine, doing: str = "read") -> Iterator[Connection]:
    """Yield a connection of whose queries each sees one state of the ledger.

    Args:
        engine: Of `open_engine`.
        doing: What the error says could not be done.

    Raises:
        LedgerError: It could not be read.
    """
    try:
        with engine.connect() as connection:
            yield connection
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise failure(doing, engine, error) from error


@contextmanager
def writing(engine: Engine, doing: str = "write") -> Iterator[Connection]:
    """Yield a connection whose changes are all made, durably, when the block ends well, and else none.

    Args:
        engine: Of `open_engine`.
        doing: What the error says could not be done.

    Raises:
        LedgerError: Nothing was changed.
    """
    try:
        with engine.connect() as connection, connection.begin():
            driver = connection.connection.driver_connection
            assert driver is not None
            # One that reads and then writes would fail at once, without a wait, where another has written in between.
            driver.execute("BEGIN IMMEDIATE").close()
            yield connection
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise failure(doing, engine, error) from error


class Appender:
    """One insert on one connection that stays open, each call a durable transaction: what every decision waits for.

    It goes past SQLAlchemy's connection, whose work for one row is several times that of the database.
    """

    def __init__(self, engine: Engine, table: Table) -> None:
        """Make ready to insert rows of `table`.

        Raises:
            LedgerError: The ledger could not be opened.
        """
        self._engine = engine
        self._sql = str(insert(table).compile(dialect=engine.dialect))
        try:
            self._pooled = engine.raw_connection()
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise failure("open", engine, error) from error
        driver: Any = self._pooled.driver_connection
        self._connection = driver
        self._connection.execute("PRAGMA wal_autocheckpoint=0").close()  # see `checkpoint`

    def append(self, *row: object) -> None:
        """Insert one row: the table's columns in their order.

        Raises:
            LedgerError: It was not inserted.
        """
        try:
            self._connection.execute(self._sql, row).close()  # outside a transaction, a statement is one
        except sqlite3.Error as error:
            raise failure("write", self._engine, error) from error

    def close(self) -> None:
        """Give the connection back."""
        self._pooled.close()


def migrate(engine: Engine) -> None:
    """Bring the ledger to the newest schema, in one transaction; a ledger that has it is only read.

    Raises:
        LedgerError: It could not be opened or written; it is as it was.
    """
    config = AlembicConfig()
    config.set_main_option("script_location", "tollgate.ledger:migrations")
    config.set_main_option("path_separator", "os")
    head = ScriptDirectory.from_config(config).get_current_head()
    database = make_url(engine.url).database
    if database and not database.startswith("file:"):  # a URI with settings of its own
        try:
            Path(database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise failure("open", engine, error) from error
    with reading(engine, "open") as connection:
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
    with writing(engine, "open") as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_writable(engine: Engine) -> None:
    """Refuse a ledger that may be read and not written: SQLite would notice at the first decision.

    Raises:
        LedgerError: It is one.
    """
    path = Path(engine.url.database or "")
    if path.is_file() and not os.access(path, os.W_OK):
        raise LedgerError(
            "ledger_failed",
            f"could not open the ledger {engine.url}: {_ADVICE[sqlite3.SQLITE_READONLY]}",
            file=str(path),
        )


def failure(doing: str, engine: Engine, error: Exception) -> LedgerError:
    """Return the error that says what could not be done, why, and what helps."""
    cause = getattr(error, "orig", None) or error
    primary = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the low byte: the rest tells kinds of it apart
    number = _AS_SQLITE.get(cause.errno or 0, 0) if isinstance(cause, OSError) else primary
    advice = _ADVICE.get(number, "check that its disk is there and has room")
    url = engine.url.render_as_string(hide_password=True)
    return LedgerError("ledger_failed", f"could not {doing} the ledger {url}: {cause}; {advice}")
