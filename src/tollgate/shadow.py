"""A challenger that scores the same transactions as the champion; its scores are recorded and change nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tollgate.breaker import Breaker
from tollgate.errors import ModelError, TollgateError
from tollgate.features import Arrivals
from tollgate.ledger import Shadow as Scored
from tollgate.steps import Steps
from tollgate.transaction import Batch

LOG = logging.getLogger(__name__)

WITHIN_S = 0.02  # what the challenger may add to the time of a batch

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Shadow:
    """A challenger at work.

    Attributes:
        bundle: Its content id.
        score: Calibrated scores and confidences, float64 (N,) each, of its features, float64 (N, F).
        breaker: What its model runs behind; not the champion's.
        arrivals: The state of its features; None where they are the champion's.
    """

    bundle: str
    score: Callable[[Floats], tuple[Floats, Floats]]
    breaker: Breaker
    arrivals: Arrivals | None = None

    def scores(self, batch: Batch, features: Floats, lacking: tuple[str, ...] = ()) -> Steps[Scored]:
        """Return its id, and its scores, float64 (N,); NaN where it failed, was too slow or lacked features."""
        try:
            own = features if self.arrivals is None else self.arrivals.observe(batch)
            if lacking if self.arrivals is None else self.arrivals.engine.lacked():
                return Scored(self.bundle, np.full(len(batch), np.nan))
            found, _ = yield from self.breaker.call(lambda: self.score(own), WITHIN_S)
        except ModelError:
            found = np.full(len(batch), np.nan)
        except TollgateError as error:  # its state is full: the champion goes on
            LOG.warning("the challenger's features failed", extra={"code": error.code})
            found = np.full(len(batch), np.nan)
        return Scored(self.bundle, found)
