"""From score to outcome: thresholds, and what happens when there is no score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tollgate.config import PolicyConfig
from tollgate.decision import Outcome, Reason

_OUTCOMES = (Outcome.APPROVE, Outcome.REVIEW, Outcome.BLOCK)


class Policy:
    """The thresholds of one bundle."""

    def __init__(self, config: PolicyConfig) -> None:
        self.config = config
        self._thresholds = np.array([config.review, config.block])

    def outcomes(self, scores: NDArray[np.float64]) -> list[Outcome]:
        """Return the outcome of each calibrated score, float64 (N,): a score at a threshold is over it."""
        return [_OUTCOMES[level] for level in np.searchsorted(self._thresholds, scores, side="right")]

    def over_threshold(self, score: float, outcome: Outcome) -> Reason:
        """Return the reason that stands where no feature explains the score."""
        limit = self.config.block if outcome is Outcome.BLOCK else self.config.review
        return Reason(f"score_{outcome}", f"the score {score:.2f} is at or above {limit:.2f}")

    def degraded(self, why: str) -> tuple[Outcome, Reason]:
        """Return the outcome and the reason of a decision without a score."""
        return self.config.fallback, Reason("model_unavailable", f"decided without the model: {why}")
