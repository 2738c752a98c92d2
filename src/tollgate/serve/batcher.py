"""Micro-batches: while one batch is decided and made durable, what arrives waits for the next one.

There is no timer: an idle server decides at once, and under load the batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tollgate.decision import Decision
from tollgate.errors import CapacityError, TollgateError
from tollgate.scorer import Scorer, Submission

LOG = logging.getLogger(__name__)

MAX_BATCH = 4096  # transactions decided together: bounds how long one of them can wait for the others
_LOG_EVERY = 200_000


class _Waiting(NamedTuple):
    submission: Submission
    answer: asyncio.Future[list[Decision]]


class Batcher:
    """Hands submissions to the scorer, which runs in one thread of its own."""

    def __init__(self, scorer: Scorer, max_waiting: int) -> None:
        """Make a batcher that is not running yet.

        Args:
            scorer: Decides; recovered here when it starts and whenever it lost its state.
            max_waiting: Transactions admitted and not answered yet; more are shed.
        """
        self._scorer = scorer
        self._max_waiting = max_waiting
        self._queue: deque[_Waiting] = deque()
        self._waiting = 0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scorer")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to recover the feature state and then to decide."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop; what is still waiting is refused."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._scorer.close)
        self._thread.shutdown(wait=True)
        for waiting in self._queue:
            waiting.answer.cancel()

    async def submit(self, submission: Submission) -> list[Decision]:
        """Return the decisions on a submission, once they are durable.

        Raises:
            CapacityError: Too much is waiting already; nothing was decided.
            LedgerError: The ledger or the feature state is not usable now; nothing was decided.
            ConflictError: An id of it is known under another body; nothing was decided.
        """
        if not self._scorer.ready:
            raise CapacityError("not_ready", "the feature state is being rebuilt from the ledger; try again shortly")
        size = len(submission.batch)
        if self._waiting + size > self._max_waiting:
            raise CapacityError(
                "overloaded",
                f"{self._waiting} transactions are waiting, {self._max_waiting} may; try again shortly",
            )
        answer: asyncio.Future[list[Decision]] = asyncio.get_running_loop().create_future()
        self._waiting += size
        self._queue.append(_Waiting(submission, answer))
        self._arrived.set()
        try:
            return await asyncio.shield(answer)
        finally:
            if not answer.done():  # the client left; it is decided all the same
                answer.add_done_callback(_retrieve)

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._queue and size < MAX_BATCH:
            batch.append(self._queue.popleft())
            size += len(batch[-1].submission.batch)
        return batch

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._scorer.ready:
                await self._recover(loop)
                continue
            if not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            batch = self._next()
            try:
                results = await loop.run_in_executor(
                    self._thread, self._scorer.decide, [waiting.submission for waiting in batch]
                )
            except TollgateError as error:
                LOG.error("%s: %s", error.code, error.message)  # noqa: TRY400  # expected: the message says it all
                self._answer(batch, [error] * len(batch))
            except Exception as error:
                LOG.exception("deciding failed")
                self._answer(batch, [error] * len(batch))
            else:
                self._answer(batch, results)

    async def _recover(self, loop: asyncio.AbstractEventLoop) -> None:
        def report(done: int, total: int) -> None:
            if done % _LOG_EVERY < MAX_BATCH:
                LOG.info("recovering: %d of %d transactions", done, total)

        try:
            await loop.run_in_executor(self._thread, self._scorer.recover, report)
            LOG.info("ready: bundle %s", self._scorer.bundle)
        except TollgateError as error:
            LOG.error("cannot recover: %s: %s", error.code, error.message)  # noqa: TRY400
            await asyncio.sleep(1.0)  # the disk may come back

    def _answer(self, batch: Sequence[_Waiting], results: Sequence[list[Decision] | Exception]) -> None:
        for (submission, answer), result in zip(batch, results, strict=True):
            self._waiting -= len(submission.batch)
            if answer.cancelled():
                continue
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)


def _retrieve(answer: asyncio.Future[list[Decision]]) -> None:
    """Take note of an answer that nobody waits for, so that it is not reported as lost."""
    if not answer.cancelled():
        answer.exception()
