"""Feeds the queue from the ledger, in a thread of its own: what is decided comes in, what is labelled goes out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tollgate.duration import DAY_US
from tollgate.errors import TollgateError
from tollgate.intake import TransactionReader
from tollgate.ledger.cases import Cases, Place
from tollgate.review.case import case_of
from tollgate.review.queue import MAX_OPEN, Queue

LOG = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
KEPT_US = 30 * DAY_US  # what was held longer ago is no case any more: its chargeback has come, or will not


class Follower:
    """Knows how far the queue has come."""

    def __init__(self, cases: Cases, queue: Queue, reader: TransactionReader, clock_us: Callable[[], int]) -> None:
        """Begin before the first look.

        Args:
            cases: Of the ledger.
            queue: To be fed.
            reader: Of the schema; used by nobody else.
            clock_us: Microseconds since 1970-01-01 UTC.
        """
        self._cases = cases
        self._queue = queue
        self._reader = reader
        self._clock_us = clock_us
        self._position: int | None = None
        self._place = Place()
        self._stop = threading.Event()

    def look(self) -> None:
        """Bring the queue to what the ledger holds now.

        Raises:
            LedgerError: It could not be read; the next look goes on from there.
        """
        archived, newest = self._cases.extent()
        if self._position is None:
            self._place = self._cases.place()  # first: a label that comes now is looked for with its case
            self._position = self._cases.beginning(self._clock_us() - KEPT_US, MAX_OPEN)
        for chunk in self._cases.held(self._position, newest):
            settled = self._cases.settled([one.transaction_id for one in chunk])
            self._queue.add(case_of(one, self._reader) for one in chunk if one.transaction_id not in settled)
            self._position = chunk[-1].number
            if self._stop.is_set():
                return
        self._position = max(self._position, newest)
        now = self._cases.place()
        if now != self._place:
            self._queue.close(self._cases.settled_since(self._place, now))
            self._place = now
        self._queue.close_before(archived)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look again and again in a thread until the block is left."""
        thread = threading.Thread(target=self._run, name="review", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except TollgateError as error:
                LOG.error("%s: %s", error.code, error.message)  # noqa: TRY400  # expected: the message says it all
            except Exception:
                LOG.exception("following the cases failed")
            self._stop.wait(LOOK_EVERY_S)
