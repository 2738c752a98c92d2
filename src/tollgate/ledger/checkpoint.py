"""SQLite's write-ahead log is moved into the database in the background, so that no decision waits for it."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Engine

from tollgate.errors import LedgerError
from tollgate.ledger.connection import reading

LOG = logging.getLogger(__name__)

EVERY_BYTES = 4 << 20  # of new rows: SQLite's own measure, a thousand pages
_MOST_PAGES = 16_384  # of the log, 64 MiB: then the writer waits for the rest of it, so that it begins anew
_PASSIVE = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpoints:
    """A thread that sleeps until enough was written."""

    def __init__(self, engine: Engine) -> None:
        """Start it for the ledger of `engine`."""
        self._engine = engine
        self._written = 0
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="ledger checkpoints", daemon=True)
        self._thread.start()

    def wrote(self, size: int) -> None:
        """Take note of so many new bytes."""
        self._written += size
        if self._written >= EVERY_BYTES:
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
            if pages > _MOST_PAGES:
                connection.exec_driver_sql(_PASSIVE).one()  # what came meanwhile: less is left to wait for
                connection.exec_driver_sql("PRAGMA wal_checkpoint(RESTART)").one()
