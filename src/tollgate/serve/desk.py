"""Labels that come while payments are decided: recorded and learned between two batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from tollgate.errors import CapacityError
from tollgate.label import Label, LabelResult
from tollgate.scorer import Scorer
from tollgate.serve.batcher import Job
from tollgate.steps import Steps

MAX_WAITING = 20_000  # labels that came and are not recorded yet; more are shed
AT_ONCE = 16  # labels recorded together: decisions wait for so many, each of which may open a group of the ledger
WAIT_LIMIT_S = 30.0  # for whoever decides


class LabelDesk:
    """Takes labels in an event loop, for whoever decides in this or another thread."""

    def __init__(
        self,
        between: Callable[[Job], None],
        ready: Callable[[], bool],
        on_labelled: Callable[[Sequence[Label], Sequence[LabelResult]], None],
    ) -> None:
        """Make a desk.

        Args:
            between: Has a job done between two batches.
            ready: Whether the feature state has caught up with the ledger.
            on_labelled: Told of labels and what became of them, in the loop's thread.
        """
        self._between = between
        self._ready = ready
        self._on_labelled = on_labelled
        self._waiting = 0

    async def take(self, labels: Sequence[Label], by: str) -> list[LabelResult]:
        """Record labels, a few at a time, each few all or none; return what became of each once they are durable.

        Raises:
            CapacityError: Too many are waiting, or nobody decides now; what was recorded is known when they come again.
            LedgerError: The ledger could not be used, likewise.
        """
        if self._waiting + len(labels) > MAX_WAITING:
            raise CapacityError(
                "overloaded", f"{self._waiting} labels are waiting, {MAX_WAITING} may; try again shortly"
            )
        self._waiting += len(labels)
        try:
            results: list[LabelResult] = []
            for start in range(0, len(labels), AT_ONCE):
                part = labels[start : start + AT_ONCE]
                results += await self._take_part(part, by)
                self._on_labelled(part, results[start:])
            return results
        finally:
            self._waiting -= len(labels)

    async def _take_part(self, labels: Sequence[Label], by: str) -> list[LabelResult]:
        if not self._ready():
            raise _not_ready()
        done: Future[list[LabelResult]] = Future()

        def job(scorer: Scorer) -> Steps[None]:
            if not done.set_running_or_notify_cancel():
                return  # whoever sent them has been told to come again
            try:
                done.set_result((yield from scorer.label(labels, by)))
            except Exception as error:  # noqa: BLE001  # it belongs to whoever sent them
                done.set_exception(error)

        self._between(job)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(done), WAIT_LIMIT_S)
        except TimeoutError:
            raise _not_ready() from None


def _not_ready() -> CapacityError:
    return CapacityError("not_ready", "labels cannot be recorded now: nobody decides; try again shortly")
