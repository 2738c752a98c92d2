"""A Kafka worker and what runs beside it: champion and controls, canary, snapshots, metrics."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence

from tollgate import __version__
from tollgate.label import Label, LabelResult
from tollgate.scorer import Decided
from tollgate.serve.accounting import account
from tollgate.serve.canary import Canary
from tollgate.serve.companions import Companions
from tollgate.serve.desk import LabelDesk
from tollgate.serve.health import Health
from tollgate.serve.metrics import Metrics
from tollgate.serve.snapshots import Snapshots
from tollgate.serve.succession import Succession
from tollgate.stream.measures import Measures
from tollgate.stream.worker import Parts, StreamWorker


class StreamService:
    """What runs behind the internal port: an event loop for operators, and the worker's thread, which decides."""

    def __init__(
        self,
        parts: Parts,
        succession: Succession,
        snapshots: Snapshots | None,
        stopping: threading.Event,
        deadline_s: float,
        clock_us: Callable[[], int],
        clock_s: Callable[[], float],
    ) -> None:
        """Put the parts together; nothing runs yet.

        Args:
            parts: Of the worker.
            succession: Follows the champion and the controls.
            snapshots: Saves the feature state while the service runs; None saves it at the end only.
            stopping: Set when the worker is to stop.
            deadline_s: What the model may take.
            clock_us: Microseconds since 1970-01-01 UTC.
            clock_s: A clock that runs on: `time.monotonic`.
        """
        measures = Measures()
        self.worker = StreamWorker(
            parts, measures, stopping, self._count, self._count_labels, _end_process, clock_s, clock_us
        )
        canary = Canary(self.worker, clock_s, deadline_s)
        self._companions = Companions(canary, succession, snapshots)
        self.health = Health(parts.scorer, parts.ledger, canary, lambda: self.worker.waiting, clock_us)
        self.metrics = Metrics(__version__, self.health.readings)
        measures.register(self.metrics.registry)
        self.desk = LabelDesk(self.worker.between, lambda: parts.scorer.ready, self._count_labels)

    async def start(self) -> None:
        """Start to recover the feature state and then to decide."""
        self.worker.start()
        self._companions.start(self.worker.between, self.worker.between)

    async def stop(self) -> None:
        """Finish the batch at hand, commit it, save the feature state, and stop."""
        await self._companions.stop()
        await asyncio.to_thread(self.worker.stop)

    def _count(self, decided: Decided) -> None:
        account(self.metrics, decided)

    def _count_labels(self, labels: Sequence[Label], results: Sequence[LabelResult]) -> None:
        self.metrics.labelled(labels, results)


def _end_process() -> None:
    """Have the process stop in order, as if it had been told to."""
    os.kill(os.getpid(), signal.SIGTERM)
