"""Who may write a ledger: the right to, and the connection that every decision waits for.

It goes past SQLAlchemy's connection, whose work for one row is several times that of the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tollgate.ledger import partitions
from tollgate.ledger.checkpoint import Checkpoints
from tollgate.ledger.connection import failure
from tollgate.ledger.group import Group, pack
from tollgate.ledger.identities import Hashes
from tollgate.ledger.lock import lock
from tollgate.ledger.postgres import NAMES, WRITES
from tollgate.ledger.session import Lock, Session
from tollgate.ledger.sqlite import check_writable
from tollgate.ledger.tables import GROUPS

GroupRow = tuple[*tuple[object, ...], bytes]  # the columns of `groups` in their order: the payload is the last


def row_of(group: Group, first: int, hashes: Hashes) -> GroupRow:
    """Return a group as a row of the table.

    Args:
        group: The transactions.
        first: Arrival number of the first of them.
        hashes: Of their ids, uint64 (N,).
    """
    times = group.effective_us
    return (
        first, len(group), group.observed_us, int(times.min()), int(times.max()), group.bundle, *group.counts,
        hashes.astype("<u8", copy=False).tobytes(), pack(group),
    )  # fmt: skip


class Writer(Protocol):
    """The right to write a ledger; no other process has it until it is closed or its connection is lost."""

    def hold(self) -> None:
        """Look whether the right is still there, and take it again where it was lost.

        Raises:
            LedgerError: Another process has it, or the database cannot be reached.
        """

    def append(self, row: GroupRow) -> None:
        """Insert one row durably.

        Raises:
            LedgerError: It was not inserted; or it was, and the connection was lost before that could be said.
        """

    def make_room(self, last: int) -> None:
        """See that what comes after arrival number `last` has a place.

        Raises:
            LedgerError: It has none.
        """

    def close(self) -> None:
        """Give it up."""


def open_writer(engine: Engine) -> Writer:
    """Return the right to write, for one process.

    Raises:
        LedgerError: Another process has it, or the database cannot be opened or written.
    """
    return PostgresWriter(engine) if engine.dialect.name == "postgresql" else SqliteWriter(engine)


class SqliteWriter:
    """The right is a lock on a file beside the ledger's, which ends with the process."""

    def __init__(self, engine: Engine) -> None:
        """Take the lock and open the connection."""
        self._engine = engine
        self._lock = lock(engine, ".lock", "writes")
        try:
            check_writable(engine)
            self._pooled = engine.raw_connection()
            driver: Any = self._pooled.driver_connection
            self._connection = driver
            self._connection.execute("PRAGMA wal_autocheckpoint=0").close()  # see `checkpoint`
        except (SQLAlchemyError, sqlite3.Error) as error:
            self._lock.close()
            raise failure("open", engine, error) from error
        self.checkpoints = Checkpoints(engine)

    def hold(self) -> None:
        """Do nothing: the lock cannot be lost."""

    def append(self, row: GroupRow) -> None:
        """Insert one row durably."""
        try:
            self._connection.execute(_SQLITE_INSERT, row).close()  # outside a transaction, a statement is one
        except sqlite3.Error as error:
            raise failure("write", self._engine, error) from error
        self.checkpoints.wrote(len(row[-1]))

    def make_room(self, last: int) -> None:
        """Do nothing: a file grows."""

    def close(self) -> None:
        """Give it up."""
        self.checkpoints.close()
        self._pooled.close()
        self._engine.dispose()  # before others may write
        self._lock.close()


class PostgresWriter:
    """The right is a lock of the very connection that writes: who has lost it cannot write."""

    def __init__(self, engine: Engine, *locks: Lock) -> None:
        """Take the lock, or others, and open the connection."""
        self._engine = engine
        self._session = Session(engine, *(locks or (Lock(WRITES, "writes"),)))
        self._room = 0

    def hold(self) -> None:
        """Look whether the connection is there, and take the lock again where it was lost."""
        self._session.open()

    def append(self, row: GroupRow) -> None:
        """Insert one row durably."""
        self._session.run(_POSTGRES_INSERT, row, "write")

    def make_room(self, last: int) -> None:
        """Make the next partition ahead."""
        if last + partitions.ROWS // 2 > self._room:
            self._room = partitions.make_room(self._engine, last)

    def close(self) -> None:
        """Give it up."""
        self._session.close()


def name_lock(name: str) -> Lock:
    """Return the lock on the name of one of several writers."""
    return Lock(NAMES, f"named {name!r} writes", "give each a name of its own in TOLLGATE_WRITER", name=name)


class SharedWriter(PostgresWriter):
    """The right is shared with others who share it: the database puts their groups one after the other."""

    def __init__(self, engine: Engine, name: str) -> None:
        """Take the lock together with others, under a name that no other has; what is written is kept as its own."""
        super().__init__(engine, Lock(WRITES, "writes", shared=True), name_lock(name))
        self._name = name

    def append_new(self, keys: Sequence[bytes], row: GroupRow) -> int:
        """Insert one row durably, under the next arrival number, which is returned; 0 if one of its ids is known.

        Args:
            keys: What its N ids are known under.
            row: Its first arrival number is not looked at.

        Raises:
            LedgerError: As for `append`.
        """
        ((first,),) = self._session.run(_POSTGRES_APPEND, [self._name, list(keys), *list(row)[1:]], "write")
        return int(first)


_SQLITE_INSERT = f"INSERT INTO groups VALUES ({', '.join('?' for _ in GROUPS.columns)})"  # noqa: S608
_POSTGRES_INSERT = f"INSERT INTO groups VALUES ({', '.join('%s' for _ in GROUPS.columns)})"  # noqa: S608
# The writer's name and the keys stand for the first number.
_POSTGRES_APPEND = f"SELECT append_group(%s, {', '.join('%s' for _ in GROUPS.columns)})"
