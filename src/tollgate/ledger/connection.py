"""How a ledger's database is opened: short transactions, bounded waits, errors that say what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Insert, Select, Table, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from tollgate.errors import LedgerError
from tollgate.ledger import postgres, sqlite
from tollgate.ledger.durability import Durability

Columns = Sequence[tuple[object, ...]]


class Dialect(Protocol):
    """What differs from one database to the other; each is a module."""

    def connecting(self) -> dict[str, Any]:
        """Return what an engine is made with."""

    def set_up(self, connection: Any, durability: Durability) -> None:
        """Prepare a new connection of the driver."""

    def prepare(self, engine: Engine) -> None:
        """Make what must be there before the first connection.

        Raises:
            OSError: It could not be made.
        """

    def begin(self, connection: Connection) -> None:
        """Begin to write, after all others who write have ended."""

    def insert_new(self, table: Table) -> Insert:
        """Return an insert that leaves out the rows that are there."""

    def insert_all(self, connection: Connection, table: Table, rows: Columns) -> None:
        """Insert many rows: the table's columns in their order."""

    def explain(self, error: BaseException) -> tuple[str, str]:
        """Return what a driver's error says, and what helps."""


_DIALECTS: dict[str, Dialect] = {"sqlite": sqlite, "postgresql": postgres}
_SUCH_AS = "expected such as sqlite:///tollgate.db or postgresql+psycopg://user@host/database"


def dialect(engine: Engine) -> Dialect:
    """Return what is particular to an engine's database."""
    return _DIALECTS[engine.dialect.name]


def open_engine(url: str, durability: Durability = "fsync") -> Engine:
    """Return an engine on a ledger, to be used through `reading` and `writing`.

    Args:
        url: An SQLAlchemy URL: `sqlite:///path/to/tollgate.db`, `postgresql+psycopg://user@host/database`.
        durability: `fsync` survives a power cut, `os` only the death of the process.

    Raises:
        LedgerError: It is no such URL, or what it takes to open it is not installed.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except SQLAlchemyError as error:  # its message may hold the URL, and that a password
        raise LedgerError("ledger_failed", f"could not open the ledger: {_SUCH_AS}, but got another URL") from error
    shown = parsed.render_as_string()
    if backend not in _DIALECTS:
        raise LedgerError("ledger_failed", f"could not open the ledger {shown}: {_SUCH_AS}")
    own = _DIALECTS[backend]
    try:
        engine = create_engine(parsed, **own.connecting())
    except ModuleNotFoundError as error:
        raise LedgerError(
            "ledger_failed",
            f"could not open the ledger {shown}: {error}; run pip install 'tollgate[postgres]' and write "
            "postgresql+psycopg://",
        ) from error
    except SQLAlchemyError as error:
        raise LedgerError("ledger_failed", f"could not open the ledger {shown}: {error}; {_SUCH_AS}") from error

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        own.set_up(connection, durability)

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
    except errors(engine) as error:
        raise failure(doing, engine, error) from error


@contextmanager
def writing(engine: Engine, doing: str = "write") -> Iterator[Connection]:
    """Yield a connection whose changes are all made, durably, when the block ends well, and else none.

    All who write so do it one after the other: what is numbered is visible in the order of its numbers.

    Args:
        engine: Of `open_engine`.
        doing: What the error says could not be done.

    Raises:
        LedgerError: Nothing was changed.
    """
    try:
        with engine.connect() as connection, connection.begin():
            dialect(engine).begin(connection)
            yield connection
    except errors(engine) as error:
        raise failure(doing, engine, error) from error


def streamed(connection: Connection, query: Select[Any], ahead: int) -> AbstractContextManager[Any]:
    """Return the rows of a query, so many in memory at once; it is to be closed, as a context."""
    return connection.execution_options(yield_per=ahead).execute(query)


def errors(engine: Engine) -> tuple[type[Exception], ...]:
    """Return what using an engine, or its driver's connections, may raise."""
    driver = engine.dialect.dbapi
    return (SQLAlchemyError, sqlite3.Error if driver is None else driver.Error)


def migrate(engine: Engine) -> None:
    """Bring the ledger to the newest schema, in one transaction; a ledger that has it is only read.

    Raises:
        LedgerError: It could not be opened or written; it is as it was.
    """
    config = AlembicConfig()
    config.set_main_option("script_location", "tollgate.ledger:migrations")
    config.set_main_option("path_separator", "os")
    head = ScriptDirectory.from_config(config).get_current_head()
    try:
        dialect(engine).prepare(engine)
    except OSError as error:
        raise failure("open", engine, error) from error
    with reading(engine, "open") as connection:
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
    with writing(engine, "open") as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def failure(doing: str, engine: Engine, error: BaseException) -> LedgerError:
    """Return the error that says what could not be done, why, and what helps."""
    cause, advice = dialect(engine).explain(getattr(error, "orig", None) or error)
    return LedgerError("ledger_failed", f"could not {doing} the ledger {shown_url(engine)}: {cause}; {advice}")


def shown_url(engine: Engine) -> str:
    """Return the URL without its password."""
    return engine.url.render_as_string(hide_password=True)
