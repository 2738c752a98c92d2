"""The canary: a transaction that nobody sent, scored once a second, which proves that scoring is alive and right."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from tollgate.errors import ModelError
from tollgate.scorer import Scorer
from tollgate.serve.batcher import Job
from tollgate.steps import Steps

LOG = logging.getLogger(__name__)

EVERY_S = 1.0
MAX_AGE_S = 5.0  # since it was last scored as it should be; after that the server is not ready


class Between(Protocol):
    """Whoever takes batches through a scorer."""

    def between(self, job: Job) -> None:
        """Do a job between two batches."""


class Canary:
    """Scores the canary through the same thread and the same model as what comes in. It moves no counter."""

    def __init__(
        self, decider: Between, clock_s: Callable[[], float], within_s: float, every_s: float = EVERY_S
    ) -> None:
        """Make a canary that is not flying yet.

        Args:
            decider: Runs it between two batches.
            clock_s: A clock that runs on: `time.monotonic`.
            within_s: What the model may take for it: the deadline of a transaction.
            every_s: How often.
        """
        self._decider = decider
        self._clock_s = clock_s
        self._within_s = within_s
        self._every_s = every_s
        self._last_s: float | None = None
        self._under_way = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def age_s(self) -> float | None:
        """Seconds since it was last scored as it should be; None before the first time."""
        return None if self._last_s is None else round(self._clock_s() - self._last_s, 3)

    @property
    def alive(self) -> bool:
        """Whether that was not long ago."""
        age_s = self.age_s
        return age_s is not None and age_s <= MAX_AGE_S

    def start(self) -> None:
        """Fly, in the running loop."""
        loop = asyncio.get_running_loop()

        def tick() -> None:
            if not self._under_way:
                self._under_way = True
                self._decider.between(self._check)
            self._timer = loop.call_later(self._every_s, tick)

        tick()

    def stop(self) -> None:
        """Fly no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self, scorer: Scorer) -> Steps[None]:
        try:
            if scorer.ready:
                yield from scorer.judge.check(self._within_s)
                self._last_s = self._clock_s()
        except ModelError as error:
            LOG.warning("the canary failed", extra={"code": error.code, "reason": error.message})
        finally:
            self._under_way = False
