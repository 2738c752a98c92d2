"""A connection to PostgreSQL of one's own: each statement is a transaction, and one round trip."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Engine

from tollgate.errors import LedgerError
from tollgate.ledger.connection import errors, failure, shown_url
from tollgate.ledger.postgres import SCHEMA, STANDBY

_TRIES, _PAUSE_S = 20, 0.1  # to take back a lock


class Session:
    """It goes past SQLAlchemy's connection, serves any thread, and is opened anew at the next use when it was lost.

    It may hold a lock, which the server keeps for as long as the connection lives: whoever has lost the one has lost
    the other, and can do nothing before it has both again.
    """

    def __init__(self, engine: Engine, lock: int | None = None, doing: str = "", *, shared: bool = False) -> None:
        """Open it.

        Args:
            engine: The ledger's.
            lock: For what; of `postgres`.
            doing: What its holder does, as the error says it.
            shared: The lock is held together with others who share it.

        Raises:
            LedgerError: The server cannot be reached, or another process holds the lock.
        """
        self._engine = engine
        self._lock, self._doing, self._shared = lock, doing, shared
        self._driver: Any = None
        self._held = False  # ever
        self._using = threading.RLock()
        self.open()

    def open(self) -> None:
        """Open it and take the lock, if it was lost; and look whether it was.

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
            held = self._lock is None or self._locked()
        except errors(self._engine) as error:
            self._drop()
            raise failure("open", self._engine, error) from error
        if not held:
            self.close()
            raise LedgerError(
                "ledger_in_use",
                f"another process {self._doing} the ledger {shown_url(self._engine)}; stop it first, or use another "
                "ledger",
            )

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
        """Give up the lock, and close it."""
        if self._driver is not None and self._lock is not None:
            with suppress(*errors(self._engine)):  # a closed connection keeps it until the server has noticed
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

    def _locked(self) -> bool:
        name = f"pg_try_advisory_lock{'_shared' if self._shared else ''}"
        query = f"SELECT {name}({self._lock}, {SCHEMA}), current_setting('transaction_read_only')"
        held, read_only = self._driver.execute(query).fetchone()
        # The server may not have noticed yet that the connection before is lost.
        for _ in range(_TRIES if self._held and not held else 0):
            time.sleep(_PAUSE_S)
            held, read_only = self._driver.execute(query).fetchone()
            if held:
                break
        if read_only == "on":
            self.close()
            raise LedgerError("ledger_failed", f"could not write the ledger {shown_url(self._engine)}: {STANDBY}")
        self._held = self._held or held
        return bool(held)
