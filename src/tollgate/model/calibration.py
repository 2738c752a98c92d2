"""From logits to probabilities that mean what they say.

Platt scaling, `p = sigmoid(slope * logit + intercept)`: monotone, so it changes no ranking, and two numbers are
hard to overfit with the few frauds that a validation part has.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

MIN_FRAUDS = 20  # fewer say too little to correct a model by

_PRIOR_PRECISION = 1.0  # of the slope, around 1: keeps it finite when the classes separate
_MAX_STEPS = 100
_TOLERANCE = 1e-10  # of the step, in units of the two numbers
_MAX_HALVINGS = 30


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line on the logit.

    Attributes:
        slope: Above 0.
        warnings: Why it is the identity, if it had to be.
    """

    slope: float = 1.0
    intercept: float = 0.0
    warnings: tuple[str, ...] = ()

    def apply(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities of fraud, float64 (N,), of logits (N,)."""
        return sigmoid(self.slope * logits + self.intercept)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `1 / (1 + exp(-logits))`, exact to the last digits even where it is tiny."""
    probabilities: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -logits))
    return probabilities


def fit_calibration(logits: NDArray[np.float64], is_fraud: NDArray[np.bool_]) -> Calibration:
    """Return the line that makes the labels most likely, found by Newton's method.

    Args:
        logits: float64 (N,).
        is_fraud: bool (N,).

    Returns:
        The identity, with a warning, where there are too few frauds or the logits do not rank them.
    """
    rarer = min(np.count_nonzero(is_fraud), np.count_nonzero(~is_fraud))
    if rarer < MIN_FRAUDS:
        warning = (
            f"scores are not calibrated: expected at least {MIN_FRAUDS} rows of each class to calibrate on, "
            f"but there are {rarer}"
        )
        return Calibration(warnings=(warning,))
    slope, intercept = _newton(logits, is_fraud)
    if not (np.isfinite(slope) and np.isfinite(intercept) and slope > 0):
        return Calibration(warnings=("scores are not calibrated: higher ones are not more often fraud",))
    return Calibration(slope, intercept)


def _newton(logits: NDArray[np.float64], is_fraud: NDArray[np.bool_]) -> tuple[float, float]:
    design = np.column_stack((logits, np.ones_like(logits)))  # (N, 2)
    prior = np.array([_PRIOR_PRECISION, 0.0])
    line = np.array([1.0, 0.0])
    for _ in range(_MAX_STEPS):
        p = sigmoid(design @ line)
        gradient = design.T @ (p - is_fraud) + prior * (line - [1.0, 0.0])
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.diag(prior)
        # The curvature vanishes where every p is 0 or 1; the tiny ridge lets the halving below find the way.
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
        loss = _loss(design, is_fraud, line)
        for _ in range(_MAX_HALVINGS):
            if _loss(design, is_fraud, line - step) <= loss:
                break
            step /= 2
        line = line - step
        if np.abs(step).max() < _TOLERANCE:
            break
    return float(line[0]), float(line[1])


def _loss(design: NDArray[np.float64], is_fraud: NDArray[np.bool_], line: NDArray[np.float64]) -> float:
    margin = design @ line * np.where(is_fraud, 1.0, -1.0)
    return float(np.logaddexp(0.0, -margin).sum() + 0.5 * _PRIOR_PRECISION * (line[0] - 1.0) ** 2)
