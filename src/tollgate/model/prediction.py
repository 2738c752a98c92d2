"""From the logits of an ensemble's members to one score and how sure it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tollgate.model.calibration import Calibration

Floats = NDArray[np.float64]


def pool(members: Floats) -> Floats:
    """Return the logit of the mean of the members' probabilities, float64 (N,), of their logits, float64 (N, K)."""
    if members.shape[1] == 1:
        return members[:, 0]
    fraud = -np.logaddexp(0.0, -members)  # (N, K): log of each member's probability of fraud
    good = -np.logaddexp(0.0, members)
    pooled: Floats = np.logaddexp.reduce(fraud, axis=1) - np.logaddexp.reduce(good, axis=1)
    return pooled


def judged(members: Floats, calibration: Calibration) -> tuple[Floats, Floats]:
    """Return calibrated scores and how sure each is, from 0 to 1, float64 (N,) each.

    Confidence is one minus twice the standard deviation of the members' calibrated probabilities: 1 where all agree, 0
    where half of them are sure of fraud and half of the opposite. A model of one member can only be as sure as its
    score is far from a half.

    Args:
        members: Logits, float64 (N, K).
        calibration: Of the pooled logits; applied to each member's.
    """
    scores = calibration.apply(pool(members))
    if members.shape[1] == 1:
        return scores, np.abs(2 * scores - 1)
    each = calibration.apply(members.ravel()).reshape(members.shape)
    spread: Floats = each.std(axis=1)
    return scores, 1 - 2 * spread
