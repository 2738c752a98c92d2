"""One batch after the other: polled, decided and in the ledger, then produced and committed in one transaction.

What was decided and not committed comes again. The ledger knows its ids, so it gets the answers of before and counts
nothing; the transaction sees to it that a reader of committed records gets each answer once.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from tollgate.config import TopicsConfig
from tollgate.decision import approves
from tollgate.errors import StreamError, TollgateError
from tollgate.intake import TransactionReader
from tollgate.label import Label, LabelResult
from tollgate.labelling import refusal_of
from tollgate.ledger import Ledger
from tollgate.scorer import Decided, Scorer
from tollgate.serve.batcher import Job
from tollgate.steps import run
from tollgate.stream.letters import alert, dead_letter
from tollgate.stream.measures import Measures
from tollgate.stream.outbox import Outbox
from tollgate.stream.record import Outgoing, Record, next_offsets
from tollgate.stream.sorting import Sorted, Sorting
from tollgate.stream.subscription import Subscription

LOG = logging.getLogger(__name__)

RETRY_S = 1.0  # between attempts: a broker or a disk may come back
LAG_EVERY_S = 1.0


class Parts(msgspec.Struct, frozen=True):
    """What a worker works with.

    Attributes:
        reader: Writes transactions back for alerts.
        scorer: Decides.
        ledger: Its own.
        subscription: Where records come from.
        outbox: Where they go.
        sorting: Tells them apart.
        topics: Their names.
        hides_card_numbers: Whether dead letters are to hold no raw card numbers.
    """

    reader: TransactionReader
    scorer: Scorer
    ledger: Ledger
    subscription: Subscription
    outbox: Outbox
    sorting: Sorting
    topics: TopicsConfig
    hides_card_numbers: bool


class StreamWorker:
    """A thread that decides what comes, until it is told to stop or cannot go on."""

    def __init__(
        self,
        parts: Parts,
        measures: Measures,
        stopping: threading.Event,
        on_decided: Callable[[Decided], None],
        on_labelled: Callable[[Sequence[Label], Sequence[LabelResult]], None],
        on_failed: Callable[[], None],
        clock_s: Callable[[], float],
        clock_us: Callable[[], int],
    ) -> None:
        """Make a worker that does not run yet.

        Args:
            parts: What it works with; from `start` on, in its thread alone.
            measures: What it counts in.
            stopping: Set to stop it.
            on_decided: Told of each batch, in its thread.
            on_labelled: Told of labels and what became of them, in its thread.
            on_failed: Called, in its thread, when it cannot go on; `failure` says why.
            clock_s: A clock that runs on: `time.monotonic`.
            clock_us: Microseconds since 1970-01-01 UTC.
        """
        self._parts = parts
        self._measures = measures
        self._stopping = stopping
        self._on_decided = on_decided
        self._on_labelled = on_labelled
        self._on_failed = on_failed
        self._clock_s = clock_s
        self._clock_us = clock_us
        self._jobs: deque[Job] = deque()
        self._lag_due_s = 0.0
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self.waiting = 0
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Start to recover the feature state, and then to decide."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch at hand, commit it, leave the group and save the feature state."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def between(self, job: Job) -> None:
        """Do a job between two batches; from any thread."""
        self._jobs.append(job)

    def _run(self) -> None:
        parts = self._parts
        try:
            while not (self._attempt(self._recover) and self._attempt(parts.outbox.open)):
                pass
            while not self._attempt(parts.subscription.open):
                pass
            while not self._stopping.is_set():
                self._attempt(self._turn)
        except _Stopped:
            LOG.info("stopped while it could not go on")
        except BaseException as error:  # noqa: BLE001  # it ends the process, which tells it
            self.failure = error
        finally:
            parts.subscription.close()
            if self.failure is None:
                parts.scorer.close()
            elif not self._stopping.is_set():
                self._on_failed()

    def _attempt(self, step: Callable[[], None]) -> bool:
        """Return whether a step went well; wait a little where it did not.

        Raises:
            StreamError: It never will in this process.
            _Stopped: The worker was told to stop, and the step is not done.
        """
        try:
            step()
        except StreamError as error:
            if error.fatal:
                raise
            LOG.error("%s: %s", error.code, error.message)  # noqa: TRY400  # expected: the message says it all
        except TollgateError as error:
            LOG.error("%s: %s", error.code, error.message)  # noqa: TRY400
        except Exception:
            LOG.exception("the worker failed, and tries again")
        else:
            return True
        if self._stopping.wait(RETRY_S):
            raise _Stopped
        return False

    def _recover(self) -> None:
        if self._parts.scorer.ready:
            return
        self._parts.scorer.recover()
        LOG.info("ready: bundle %s", self._parts.scorer.bundle)

    def _turn(self) -> None:
        self._recover()
        self._do_jobs()
        records = self._parts.subscription.poll()
        if records:
            self.waiting = len(records)
            try:
                self._take(records)
            except BaseException:
                self._measures.failed()
                self._parts.subscription.rewind()
                raise
            finally:
                self.waiting = 0
        if self._clock_s() >= self._lag_due_s:
            self._measures.behind(self._parts.subscription.lag())
            self._lag_due_s = self._clock_s() + LAG_EVERY_S

    def _do_jobs(self) -> None:
        while self._jobs:
            try:
                run(self._jobs.popleft()(self._parts.scorer))
            except TollgateError as error:
                LOG.error("%s: %s", error.code, error.message)  # noqa: TRY400
            except Exception:
                LOG.exception("a job between two batches failed")

    def _take(self, records: list[Record]) -> None:
        parts = self._parts
        found = parts.sorting.sort(records)
        outgoing: list[Outgoing] = []
        refused = list(found.refused)
        answered = 0
        if found.rows:
            decided = parts.scorer.decide(found.submissions(self._clock_s()))
            self._on_decided(decided)
            answered = self._answer(found, decided, outgoing, refused)
        taken = self._label(found, refused) if found.labels else 0
        for record, error in refused:
            letter = dead_letter(record, error, hide=parts.hides_card_numbers)
            outgoing.append(Outgoing(parts.topics.dead_letters, record.key, letter))
        begun_s = self._clock_s()
        positions = next_offsets(records)
        parts.outbox.send(outgoing, positions, parts.subscription.group)
        self._measures.commit_took(self._clock_s() - begun_s)
        parts.subscription.advance(positions)
        made_ms = np.array([one.timestamp_ms for one in records])
        latencies_s = np.maximum(self._clock_us() / 1e6 - made_ms[made_ms != 0] / 1e3, 0.0)
        self._measures.committed(answered, taken, [error.code for _, error in refused], latencies_s)

    def _answer(
        self,
        found: Sorted,
        decided: Decided,
        outgoing: list[Outgoing],
        refused: list[tuple[Record, Any]],
    ) -> int:
        """Add each decision, and its alert where it holds or blocks, or why there is none; return how many."""
        decisions, alerts, before = self._parts.topics.decisions, self._parts.topics.alerts, len(refused)
        for place, (result, identifier) in enumerate(zip(decided.results, decided.ids, strict=True)):
            if isinstance(result, TollgateError):
                refused.append((found.transactions[place], result))
                continue
            decision, key = result[0], identifier.encode()
            outgoing.append(Outgoing(decisions, key, decision))
            if not approves(decision):
                outgoing.append(Outgoing(alerts, key, alert(self._parts.reader.body(found.rows[place]), decision)))
        return len(decided.results) - (len(refused) - before)

    def _label(self, found: Sorted, refused: list[tuple[Record, Any]]) -> int:
        """Record the labels, and add those that are not taken to `refused`; return how many are."""
        results = run(self._parts.scorer.label(found.labels, f"topic:{self._parts.topics.labels}"))
        self._on_labelled(found.labels, results)
        errors = [refusal_of(label, result) for label, result in zip(found.labels, results, strict=True)]
        refused += [pair for pair in zip(found.label_records, errors, strict=True) if pair[1] is not None]
        return errors.count(None)


class _Stopped(Exception):  # noqa: N818  # no error: it was told to
    pass
