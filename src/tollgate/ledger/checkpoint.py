"""SQLite's write-ahead log is moved into the database in the background, so that no decision waits for it."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Engine

from tollgate.errors import LedgerError
from tollgate.ledger.connection import reading

LOG = logging.getLogger(__name__)

EVERY_BYTES = 4 << 20  # of new rows: SQLite's own measure, a thousand pages
MOST_PAGES = 32_768  # of the log, 128 MiB: then the writer waits for the rest of it, so that it begins anew
_PASSIVE = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpoints:
    """A thread that sleeps until enough was written."""

    def __init__(self, engine: Engine, every_bytes: int = EVERY_BYTES, most_pages: int = MOST_PAGES) -> None:
        """Start it.

        Args:
            engine: The ledger's.
            every_bytes: Of new rows between two checkpoints.
            most_pages: Of the log: a writer that never pauses is made to wait at more.
        """
        self._engine = engine
        self._every_bytes = every_bytes
        self._most_pages = most_pages
        self._written = 0
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="ledger checkpoints", daemon=True)
        self._thread.start()

    def wrote(self, size: int) -> None:
        """Take note of so many new bytes."""
        self._written += size
        if self._written >= self._every_bytes:
            self._written = 0
            self._wake.set()

    def close(self) -> None:
        """End the thread, after the checkpoint that it is at."""
        self._stop = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stop:
                return
            try:
                self._checkpoint()
            except LedgerError as error:
                LOG.warning("%s: %s; the log grows until a checkpoint goes well", error.code, error.message)

    def _checkpoint(self) -> None:
        with reading(self._engine, "checkpoint") as connection:
            _, pages, _ = connection.exec_driver_sql(_PASSIVE).one()
            if pages > self._most_pages:
                connection.exec_driver_sql(_PASSIVE).one()  # what came meanwhile: less is left to wait for
                connection.exec_driver_sql("PRAGMA wal_checkpoint(RESTART)").one()
