"""What runs beside whoever decides: the canary, who follows champion and controls, and who saves the state."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

from tollgate.scorer import Scorer
from tollgate.serve.batcher import Job
from tollgate.serve.canary import Canary
from tollgate.serve.snapshots import Snapshots
from tollgate.serve.succession import Succession
from tollgate.steps import Steps

GC_THRESHOLDS = (20_000, 20, 50)  # new objects, and how many young collections until an older generation's turn


class Companions:
    """Started and stopped together."""

    def __init__(self, canary: Canary, succession: Succession, snapshots: Snapshots | None) -> None:
        """Put them together; `snapshots` may be None: then the state is saved at the end only."""
        self._canary = canary
        self._succession = succession
        self._snapshots = snapshots

    def start(self, between: Callable[[Job], None], hand_over: Callable[[Job], None]) -> None:
        """Start them, in the running loop, once whoever decides has begun to recover.

        Args:
            between: Has a job done between two batches; called in this thread.
            hand_over: Likewise; called in any.
        """
        between(_settle)
        self._canary.start()
        self._succession.start(hand_over)
        if self._snapshots is not None:
            self._snapshots.start()

    async def stop(self) -> None:
        """Stop them: whoever decides is left alone with what waits."""
        await asyncio.to_thread(self._succession.stop)
        self._canary.stop()
        if self._snapshots is not None:
            await self._snapshots.stop()


def _settle(_scorer: Scorer) -> Steps[None]:
    """Spare the collector what is there once all is loaded: looking through it again and again was half of the p99."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    yield from ()
