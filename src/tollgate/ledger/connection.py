"""How SQLite is opened beside its one writer: short transactions, a bounded wait, errors that say what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from tollgate.errors import LedgerError

BUSY_S = 5  # how long a transaction waits for another process's
_WRITES = "tollgate_writes"

_ADVICE = {
    sqlite3.SQLITE_BUSY: f"another process has held it for more than {BUSY_S} s; try again, or find that process",
    sqlite3.SQLITE_READONLY: "it is read-only; make its file and its folder writable for this user",
    sqlite3.SQLITE_CANTOPEN: "its folder must exist and be writable for this user",
    sqlite3.SQLITE_FULL: "its disk is full; make room",
    sqlite3.SQLITE_NOTADB: "this is no SQLite file; check the URL in [ledger]",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a copy",
}


def open_engine(url: str) -> Engine:
    """Return an engine on an SQLite ledger: WAL, synced at every commit, to be used through `reading` and `writing`."""
    engine = create_engine(url, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin late, and leave tables outside the transaction
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # One that reads and then writes would fail at once, without a wait, where another has written in between.
        mode = "IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "DEFERRED"
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection that sees one state of the ledger.

    Raises:
        LedgerError: It could not be read.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise failure("read", engine, error) from error


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Yield a connection whose changes are all made, durably, when the block ends well, and else none.

    Raises:
        LedgerError: Nothing was changed.
    """
    try:
        with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            yield connection
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise failure("write", engine, error) from error


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
    with reading(engine) as connection:
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def failure(doing: str, engine: Engine, error: Exception) -> LedgerError:
    """Return the error that says what could not be done, why, and what helps."""
    cause = getattr(error, "orig", None) or error
    primary = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the low byte: the rest tells kinds of it apart
    advice = _ADVICE.get(primary, "check that its disk is there and has room")
    url = engine.url.render_as_string(hide_password=True)
    return LedgerError("ledger_failed", f"could not {doing} the ledger {url}: {cause}; {advice}")
