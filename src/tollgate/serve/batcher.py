"""Micro-batches: while one batch is decided and made durable, what arrives waits for the next one.

There is no timer: an idle server decides at once, and under load the batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import NamedTuple

from tollgate.admission import Submission
from tollgate.errors import CapacityError, LedgerError, TollgateError
from tollgate.scorer import Decided, Scorer

LOG = logging.getLogger(__name__)

MAX_BATCH = 1024  # transactions decided together: bounds how long one of them can wait for the others
RETRY_S = 1.0  # between attempts to recover: the disk may come back
_LOG_EVERY = 200_000

Result = list[bytes] | TollgateError
Job = Callable[[Scorer], None]


class _Waiting(NamedTuple):
    submission: Submission
    answer: Callable[[Result], None]


class Batcher:
    """Hands submissions to the scorer, which runs in one thread of its own; answers come back in the loop's."""

    def __init__(
        self, scorer: Scorer, max_waiting: int, on_decided: Callable[[Decided], None] = lambda _decided: None
    ) -> None:
        """Make a batcher that is not running yet.

        Args:
            scorer: Decides; recovered here when it starts and whenever it lost its state.
            max_waiting: Transactions admitted and not answered yet; more are shed.
            on_decided: Told of each batch, in the loop's thread.
        """
        self._scorer = scorer
        self._max_waiting = max_waiting
        self._on_decided = on_decided
        self._queue: deque[_Waiting] = deque()
        self._jobs: deque[Job] = deque()
        self._busy = False
        self._stopping = False
        self._work: SimpleQueue[Sequence[_Waiting] | Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle = asyncio.Event()
        self.waiting = 0

    def start(self) -> None:
        """Start to recover the feature state and then to decide. The running loop is the one that answers come in."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self.between(_recover)

    async def stop(self) -> None:
        """Decide what is waiting, save the feature state and end the thread."""
        self._stopping = True
        while self._busy or self._queue or self._jobs:
            self._idle.clear()
            await self._idle.wait()
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)

    def between(self, job: Job) -> None:
        """Run a job in the scorer's thread, between two batches. In the loop's thread only."""
        self._jobs.append(job)
        self._wake()

    def submit(self, submission: Submission, answer: Callable[[Result], None]) -> None:
        """Have a submission decided; `answer` gets the result once it is durable, or why there is none.

        In the loop's thread only, as is the call of `answer`.
        """
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
        if not self._busy:
            self._busy = True
            assert self._loop is not None
            self._loop.call_soon(self._dispatch)  # so that what else has come in this turn of the loop comes along

    def _dispatch(self) -> None:
        if self._jobs:
            self._work.put(self._jobs.popleft())
            return
        batch: list[_Waiting] = []
        size = 0
        queue = self._queue
        while queue and (not batch or size + len(queue[0].submission.rows) <= MAX_BATCH):
            batch.append(queue.popleft())
            size += len(batch[-1].submission.rows)
        if batch:
            self._work.put(batch)
        else:
            self._busy = False
            self._idle.set()

    def _done(self, batch: Sequence[_Waiting], results: Sequence[Result], decided: Decided | None) -> None:
        self.waiting -= sum([len(one.submission.rows) for one in batch])
        for one, result in zip(batch, results, strict=True):
            one.answer(result)
        if decided is not None:
            self._on_decided(decided)
        if not self._scorer.ready and not self._jobs:
            self._jobs.append(_recover)
        self._dispatch()

    def _run(self) -> None:
        """Decide, in the scorer's thread."""
        loop, scorer = self._loop, self._scorer
        assert loop is not None
        while (work := self._work.get()) is not None:
            if not isinstance(work, list):
                self._do(work)  # type: ignore[arg-type]
                loop.call_soon_threadsafe(self._done, (), (), None)
                continue
            try:
                decided = scorer.decide([one.submission for one in work])
                loop.call_soon_threadsafe(self._done, work, decided.results, decided)
            except TollgateError as error:
                LOG.error("%s: %s", error.code, error.message)  # noqa: TRY400  # expected: the message says it all
                loop.call_soon_threadsafe(self._done, work, [error] * len(work), None)
            except Exception:
                LOG.exception("deciding failed")
                failed = LedgerError("not_ready", "deciding failed, and the feature state is rebuilt; the log says why")
                loop.call_soon_threadsafe(self._done, work, [failed] * len(work), None)
        scorer.close()

    def _do(self, job: Job) -> None:
        try:
            job(self._scorer)
        except TollgateError as error:
            LOG.error("%s: %s", error.code, error.message)  # noqa: TRY400
        except Exception:
            LOG.exception("a job between two batches failed")


def _recover(scorer: Scorer) -> None:
    def report(done: int, total: int) -> None:
        if done % _LOG_EVERY < MAX_BATCH:
            LOG.info("recovering: %d of %d transactions", done, total)

    try:
        scorer.recover(report)
        LOG.info("ready: bundle %s", scorer.bundle)
    except TollgateError as error:
        LOG.error("cannot recover: %s: %s", error.code, error.message)  # noqa: TRY400
        threading.Event().wait(RETRY_S)
