"""A connection to PostgreSQL of one's own: each statement is a transaction, and one round trip."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

from sqlalchemy import Engine

from tollgate.errors import LedgerError
from tollgate.ledger.connection import errors, failure, shown_url
from tollgate.ledger.lock import ADVICE, refusal
from tollgate.ledger.postgres import SCHEMA, STANDBY

_TRIES, _PAUSE_S = 20, 0.1  # to take back a lock


class Lock(NamedTuple):
    """A lock in a ledger.

    Attributes:
        purpose: What for; of `postgres`.
        doing: What its holder does, as the error says it.
        advice: What then helps.
        shared: It is held together with others who share it.
        name: Of whom or what, where the ledger has a lock for each.
        patient: Whether another holder is waited for, up to two seconds.
    """

    purpose: int
    doing: str
    advice: str = ADVICE
    shared: bool = False
    name: str = ""
    patient: bool = False


class Session:
    """It goes past SQLAlchemy's connection, serves any thread, and is opened anew at the next use when it was lost.

    It may hold locks, which the server keeps for as long as the connection lives: whoever has lost the one has lost
    the others, and can do nothing before it has all again.
    """

    def __init__(self, engine: Engine, *locks: Lock) -> None:
        """Open it.

        Args:
            engine: The ledger's.
            locks: Taken in this order.

        Raises:
            LedgerError: The server cannot be reached, or another process holds a lock.
        """
        self._engine = engine
        self._locks = locks
        self._driver: Any = None
        self._held = False  # ever
        self._using = threading.RLock()
        self.open()

    def open(self) -> None:
        """Open it and take the locks, if it was lost; and look whether it was.

        Raises:
            LedgerError: As for a new one.
        """
        with self._using:
            self._open()

    def _open(self) -> None:
        if self._driver is not None:
            try:
                self._driver.execute("SELECT 1")
            except errors(self._engine):
                self._drop()
            else:
                return
        try:
            pooled = self._engine.raw_connection()
            self._driver = pooled.driver_connection
            pooled.detach()
            self._driver.autocommit = True
            # A plan that was made while a table was empty would read all of it when it is not.
            self._driver.execute("SET enable_seqscan = off; SET jit = off")
            refused = next((lock for lock in self._locks if not self._took(lock)), None)
        except errors(self._engine) as error:
            self._drop()
            raise failure("open", self._engine, error) from error
        if refused is not None:
            self.close()
            raise refusal(self._engine, refused.doing, refused.advice)
        self._held = True

    def run(self, sql: str, parameters: Sequence[object] = (), doing: str = "read") -> list[tuple[Any, ...]]:
        """Return the rows of one statement, durable when it returns.

        Args:
            sql: With `%s` for each parameter.
            parameters: Theirs.
            doing: What the error says could not be done.

        Raises:
            LedgerError: It failed; where the connection was lost, it may have been done all the same.
        """
        with self._using:
            if self._driver is None:
                self._open()
            driver = self._driver
            try:
                with driver.cursor(binary=True) as cursor:
                    cursor.execute(sql, parameters, prepare=True)
                    return list(cursor) if cursor.description else []
            except errors(self._engine) as error:
                if driver.closed:
                    self._drop()
                raise failure(doing, self._engine, error) from error

    def close(self) -> None:
        """Give up the locks, and close it."""
        if self._driver is not None and self._locks:
            with suppress(*errors(self._engine)):  # a closed connection keeps them until the server has noticed
                self._driver.execute("SELECT pg_advisory_unlock_all()")
        self._drop()

    def _drop(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self.close()

    def _took(self, lock: Lock) -> bool:
        name = f"pg_try_advisory_lock{'_shared' if lock.shared else ''}"
        what = f"hashtext(coalesce(current_schema(), '') || {_SEPARATOR} || %s)" if lock.name else SCHEMA
        query = f"SELECT {name}({lock.purpose}, {what}), current_setting('transaction_read_only')"
        parameters = (lock.name,) if lock.name else ()
        held, read_only = self._driver.execute(query, parameters).fetchone()
        # The server may not have noticed yet that the connection before is lost.
        for _ in range(_TRIES if (self._held or lock.patient) and not held else 0):
            time.sleep(_PAUSE_S)
            held, read_only = self._driver.execute(query, parameters).fetchone()
            if held:
                break
        if read_only == "on":
            self.close()
            raise LedgerError("ledger_failed", f"could not write the ledger {shown_url(self._engine)}: {STANDBY}")
        return bool(held)


_SEPARATOR = "chr(31)"  # between a schema and a name
