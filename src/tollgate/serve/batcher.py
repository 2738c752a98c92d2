"""Micro-batches: while one batch is decided and made durable, what arrives waits for the next one.

There is no timer: an idle server decides at once, and under load the batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from tollgate.admission import Submission
from tollgate.errors import CapacityError, LedgerError, TollgateError
from tollgate.scorer import Decided, Scorer
from tollgate.steps import Call, Steps, Worker

LOG = logging.getLogger(__name__)

MAX_BATCH = 1024  # transactions decided together: bounds how long one of them can wait for the others
LARGE_BATCH = 256  # beyond, it is decided in another thread: the loop must not be away for longer than that takes
MAX_FLYING = 2  # batches: while one becomes durable, the next is computed
OVERLAP_AT = 16  # submissions that wait: for fewer, computing early saves less than it costs
RETRY_S = 1.0  # between attempts to recover: the disk may come back
_LOG_EVERY = 200_000

Result = list[bytes] | TollgateError
Job = Callable[[Scorer], Steps[None]]
Ended = Callable[[Any, BaseException | None], None]


class _Waiting(NamedTuple):
    submission: Submission
    answer: Callable[[Result], None]


@dataclass(slots=True)
class _Flight:
    """A computation under way; `computes` until all that is left is to wait for the ledger."""

    steps: Steps[Any]
    ended: Ended
    computes: bool = True


class Batcher:
    """Takes one batch after the other through the scorer. All of it is used in the thread of the loop."""

    def __init__(
        self, scorer: Scorer, max_waiting: int, on_decided: Callable[[Decided], None] = lambda _decided: None
    ) -> None:
        """Make a batcher that is not running yet.

        Args:
            scorer: Decides; recovered here when it starts and whenever it lost its state.
            max_waiting: Transactions admitted and not answered yet; more are shed.
            on_decided: Told of each batch.
        """
        self._scorer = scorer
        self._max_waiting = max_waiting
        self._on_decided = on_decided
        self._queue: deque[_Waiting] = deque()
        self._jobs: deque[Job] = deque()
        self._stopping = False
        self._woken = False
        self._computing = False
        self._flying = 0  # computations that have begun and not ended
        self._worker = Worker("ledger")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle = asyncio.Event()
        self.waiting = 0

    def start(self) -> None:
        """Start to recover the feature state and then to decide, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self.between(_recover)

    async def stop(self) -> None:
        """Decide what is waiting, and save the feature state; what could not be recovered is left to the next start."""
        self._stopping = True
        while self._flying or self._queue or self._jobs:
            self._idle.clear()
            await self._idle.wait()
        await asyncio.to_thread(self._scorer.close)
        self._worker.close()

    def between(self, job: Job) -> None:
        """Do a job between two batches."""
        self._jobs.append(job)
        self._wake()

    def submit(self, submission: Submission, answer: Callable[[Result], None]) -> None:
        """Have a submission decided; `answer` gets the result once it is durable, or why there is none."""
        if not self._scorer.ready:
            answer(CapacityError("not_ready", "the feature state is being rebuilt from the ledger; try again shortly"))
            return
        size = len(submission.rows)
        if self.waiting + size > self._max_waiting:
            answer(
                CapacityError(
                    "overloaded",
                    f"{self.waiting} transactions are waiting, {self._max_waiting} may; try again shortly",
                )
            )
            return
        self.waiting += size
        self._queue.append(_Waiting(submission, answer))
        self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            assert self._loop is not None
            self._loop.call_soon(self._next)  # so that what else has come in this turn of the loop comes along

    def _next(self) -> None:
        """Begin what can begin: a job when nothing else is under way, a batch while at most one other is committed."""
        self._woken = False
        if self._computing or self._flying >= MAX_FLYING or (self._jobs and self._flying):
            return
        if self._flying and len(self._queue) < OVERLAP_AT:
            return  # they will wait for that commit in any case, and are cheaper together
        if self._jobs:
            self._begin(self._jobs.popleft()(self._scorer), self._after_job)
            return
        batch: list[_Waiting] = []
        size = 0
        queue = self._queue
        while queue and (not batch or size + len(queue[0].submission.rows) <= MAX_BATCH):
            batch.append(queue.popleft())
            size += len(batch[-1].submission.rows)
        if not batch:
            if not self._flying:
                self._idle.set()
            return
        submissions = [one.submission for one in batch]
        if size > LARGE_BATCH:
            steps = _elsewhere(partial(self._scorer.decide, submissions))
        else:
            steps = self._scorer.steps(submissions)
        self._begin(steps, partial(self._after_batch, batch))

    def _begin(self, steps: Steps[Any], ended: Ended) -> None:
        self._computing = True
        self._flying += 1
        self._drive(_Flight(steps, ended))

    def _drive(self, flight: _Flight, value: Any = None, error: BaseException | None = None) -> None:
        """Take a computation to its next call, or to its end."""
        try:
            call = flight.steps.send(value) if error is None else flight.steps.throw(error)
        except StopIteration as end:
            self._land(flight, end.value, None)
        except Exception as failure:  # noqa: BLE001  # whoever waits is told
            self._land(flight, None, failure)
        else:
            self._wait_for(call, flight)

    def _wait_for(self, call: Call, flight: _Flight) -> None:
        loop = self._loop
        assert loop is not None
        timer: asyncio.TimerHandle | None = None
        over = False

        def resume(value: Any, error: BaseException | None) -> None:
            nonlocal over
            if over:
                return  # it was given up
            over = True
            if timer is not None:
                timer.cancel()
            self._drive(flight, value, error)

        if call.within_s is not None:
            timer = loop.call_later(max(call.within_s, 0.0), resume, None, TimeoutError())
        (call.worker or self._worker).submit(
            call.work, lambda value, error: loop.call_soon_threadsafe(resume, value, error)
        )
        if call.overlaps:
            self._computing, flight.computes = False, False
            self._wake()

    def _land(self, flight: _Flight, value: Any, error: BaseException | None) -> None:
        self._flying -= 1
        if flight.computes:
            self._computing = False
        flight.ended(value, error)
        if not (self._scorer.ready or self._jobs or self._stopping):
            self._jobs.append(_recover)
        self._wake()  # after what was answered is written, and with what has come meanwhile

    def _after_batch(self, batch: Sequence[_Waiting], decided: Decided | None, error: BaseException | None) -> None:
        self.waiting -= sum([len(one.submission.rows) for one in batch])
        if decided is not None:
            for one, result in zip(batch, decided.results, strict=True):
                one.answer(result)
            self._on_decided(decided)
        else:
            refusal = _refusal(error)
            for one in batch:
                one.answer(refusal)

    def _after_job(self, _value: None, error: BaseException | None) -> None:
        if isinstance(error, TollgateError):
            LOG.error("%s: %s", error.code, error.message)
        elif error is not None:
            LOG.error("a job between two batches failed", exc_info=error)


def _elsewhere(work: Callable[[], Any]) -> Steps[Any]:
    return (yield Call(work))


def _refusal(error: BaseException | None) -> TollgateError:
    if isinstance(error, TollgateError):
        LOG.error("%s: %s", error.code, error.message)
        return error
    LOG.error("deciding failed", exc_info=error)
    return LedgerError("not_ready", "deciding failed, and the feature state is rebuilt; the log says why")


def _recover(scorer: Scorer) -> Steps[None]:
    def report(done: int, total: int) -> None:
        if done % _LOG_EVERY < MAX_BATCH:
            LOG.info("recovering: %d of %d transactions", done, total)

    try:
        yield Call(partial(scorer.recover, report))
        LOG.info("ready: bundle %s", scorer.bundle)
    except TollgateError as error:
        LOG.error("cannot recover: %s: %s", error.code, error.message)  # noqa: TRY400
        yield Call(partial(time.sleep, RETRY_S))
