"""A decision service: its parts, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tollgate import __version__
from tollgate.config import ServeConfig
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger
from tollgate.scorer import Decided, Scorer
from tollgate.serve.accounting import account
from tollgate.serve.app import PredictApp
from tollgate.serve.batcher import Batcher, Job
from tollgate.serve.canary import Canary
from tollgate.serve.companions import Companions
from tollgate.serve.desk import LabelDesk
from tollgate.serve.health import Health
from tollgate.serve.metrics import Metrics
from tollgate.serve.snapshots import Snapshots
from tollgate.serve.succession import Succession


class Service:
    """What runs behind the public port, in one event loop and the scorer's thread."""

    def __init__(
        self,
        reader: TransactionReader,
        scorer: Scorer,
        ledger: Ledger,
        succession: Succession,
        snapshots: Snapshots | None,
        limits: ServeConfig,
        clock_us: Callable[[], int],
        clock_s: Callable[[], float],
    ) -> None:
        """Put the parts together; nothing runs yet.

        Args:
            reader: Reads bodies.
            scorer: Decides.
            ledger: Its ledger.
            succession: Follows the champion and the controls.
            snapshots: Saves the feature state while the service runs; None saves it at the end only.
            limits: `[serve]`.
            clock_us: Microseconds since 1970-01-01 UTC.
            clock_s: A clock that runs on: `time.monotonic`.
        """
        self.batcher = Batcher(scorer, limits.max_waiting, self._count)
        canary = Canary(self.batcher, clock_s, limits.deadline_s)
        self._companions = Companions(canary, succession, snapshots)
        self.health = Health(scorer, ledger, canary, lambda: self.batcher.waiting, clock_us)
        self.metrics = Metrics(__version__, self.health.readings)
        self.app = PredictApp(
            reader, self.batcher, self.health, lambda: succession.keys, self.metrics, limits, clock_us, clock_s
        )

        self.desk = LabelDesk(self.batcher.between, lambda: scorer.ready, self.metrics.labelled)

    async def start(self) -> None:
        """Start to recover the feature state and then to decide, in the running loop."""
        loop = asyncio.get_running_loop()
        self.batcher.start()

        def hand_over(job: Job) -> None:
            loop.call_soon_threadsafe(self.batcher.between, job)

        self._companions.start(self.batcher.between, hand_over)

    async def stop(self) -> None:
        """Decide what is waiting, save the feature state, and stop."""
        await self._companions.stop()
        await self.batcher.stop()

    def _count(self, decided: Decided) -> None:
        account(self.metrics, decided)
