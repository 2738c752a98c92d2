"""From logits to probabilities that mean what they say.

Three curves, from stiff to supple: Platt's line on the logit (1999); the beta curve (Kull, Silva Filho & Flach 2017),
which has another slope for sure frauds than for sure good payments; and centred isotonic regression (Oron & Flournoy
2017), which follows the observed shares of fraud. All rise strictly, so none changes a ranking. The stiffest is taken
unless a suppler one is clearly better on rows that it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]

MIN_FRAUDS = 20  # fewer say too little to correct a model by
MIN_ISOTONIC_FRAUDS = 200  # fewer make steps out of chance
FOLDS = 5
MARGIN_ERRORS = 1.0  # standard errors of the difference by which a suppler curve must be better to be taken

_LOWEST, _HIGHEST = -700.0, 36.0  # log odds beyond which float64 would say 0 or 1
_MIN_SLOPE = 0.02  # of either end of the beta curve, and between the steps of the isotonic one: no ties
_PRIOR_PRECISION = 1.0  # of a slope, around 1: keeps it finite when the classes separate
_MAX_STEPS = 100
_TOLERANCE = 1e-10  # of the step, in units of what is fitted
_MAX_HALVINGS = 30


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """A strictly rising curve from the model's logit z to the log odds of fraud.

    `platt` is `slope z + intercept`. `beta` is `slope ln p - upper_slope ln(1 - p) + intercept` with `p = sigmoid(z)`.
    `isotonic` is linear between its knots and goes on beyond them with `slope`.

    Attributes:
        slope: Above 0.
        warnings: Why it is the identity, if it had to be.
        upper_slope: Above 0: how fast the beta curve rises where the model is sure of fraud.
        knots: Logits of the model, strictly rising.
        values: Log odds of fraud at the knots, strictly rising.
    """

    slope: float = 1.0
    intercept: float = 0.0
    warnings: tuple[str, ...] = ()
    method: Literal["platt", "beta", "isotonic"] = "platt"
    upper_slope: float = 1.0
    knots: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def apply(self, logits: Floats) -> Floats:
        """Return calibrated probabilities of fraud, float64 (N,) and never 0 or 1, of logits (N,)."""
        odds = np.exp(np.minimum(np.maximum(self.log_odds(logits), _LOWEST), _HIGHEST))
        probabilities: Floats = odds / (1.0 + odds)  # within the bounds as exact as `sigmoid`, and faster
        return probabilities

    def log_odds(self, logits: Floats) -> Floats:
        """Return calibrated log odds of fraud, float64 (N,), of logits (N,)."""
        if self.method == "platt":
            return self.slope * logits + self.intercept
        if self.method == "beta":
            return self.slope * _log_p(logits) - self.upper_slope * _log_p(-logits) + self.intercept
        knots, values = self._curve
        beyond = np.minimum(logits - knots[0], 0.0) + np.maximum(logits - knots[-1], 0.0)
        log_odds: Floats = np.interp(logits, knots, values) + self.slope * beyond
        return log_odds

    @cached_property
    def _curve(self) -> tuple[Floats, Floats]:
        return np.array(self.knots), np.array(self.values)


def sigmoid(logits: Floats) -> Floats:
    """Return `1 / (1 + exp(-logits))`, exact to the last digits even where it is tiny."""
    probabilities: Floats = np.exp(_log_p(logits))
    return probabilities


def _log_p(logits: Floats) -> Floats:
    log_p: Floats = -np.logaddexp(0.0, -logits)
    return log_p


def fit_calibration(logits: Floats, is_fraud: Labels) -> Calibration:
    """Return the curve that these rows ask for.

    Each curve is fitted on all folds but one and its log loss taken on that one. The rows of a fold are neighbours in
    the order given, so that a spree of one card does not speak for itself; every fold has its share of the frauds.

    Args:
        logits: float64 (N,), in order of time.
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
    line = fit_platt(logits, is_fraud)
    if not (np.isfinite(line.slope) and np.isfinite(line.intercept) and line.slope > 0):
        return Calibration(warnings=("scores are not calibrated: higher ones are not more often fraud",))
    best, best_losses = line, _losses(fit_platt, logits, is_fraud)
    for fit in (fit_beta, fit_isotonic) if rarer >= MIN_ISOTONIC_FRAUDS else (fit_beta,):
        losses = _losses(fit, logits, is_fraud)
        gain = best_losses - losses
        if gain.mean() > MARGIN_ERRORS * gain.std() / np.sqrt(gain.size):
            best, best_losses = fit(logits, is_fraud), losses
    return best


def _losses(fit: Callable[[Floats, Labels], Calibration], logits: Floats, is_fraud: Labels) -> Floats:
    """Return the log loss of each row under the curve that was fitted without its fold, float64 (N,)."""
    fold = np.empty(logits.size, dtype=np.int64)
    for rows in (np.flatnonzero(is_fraud), np.flatnonzero(~is_fraud)):
        fold[rows] = np.arange(rows.size) * FOLDS // rows.size
    losses = np.empty(logits.size)
    for out in (fold == k for k in range(FOLDS)):
        log_odds = fit(logits[~out], is_fraud[~out]).log_odds(logits[out])
        losses[out] = -_log_p(np.where(is_fraud[out], log_odds, -log_odds))
    return losses


def fit_platt(logits: Floats, is_fraud: Labels) -> Calibration:
    """Return the line under which the labels are most likely; its slope may be negative."""
    slope, intercept = _newton(np.column_stack((logits, np.ones_like(logits))), is_fraud)
    return Calibration(float(slope), float(intercept))


def fit_beta(logits: Floats, is_fraud: Labels) -> Calibration:
    """Return the rising beta curve under which the labels are most likely.

    Where a slope would fall below the smallest allowed it is held there and the rest is fitted again, as Kull et al.
    do with negative ones.
    """
    design = np.column_stack((_log_p(logits), -_log_p(-logits), np.ones_like(logits)))  # (N, 3)
    curve = np.array([_MIN_SLOPE, _MIN_SLOPE, 0.0])
    free = np.ones(3, dtype=np.bool_)
    while True:
        curve[free] = _newton(design[:, free], is_fraud, design[:, ~free].sum(axis=1) * _MIN_SLOPE)
        low = free & (curve < _MIN_SLOPE) & [True, True, False]
        if not low.any():
            break
        curve[low] = _MIN_SLOPE
        free &= ~low
    return Calibration(float(curve[0]), float(curve[2]), method="beta", upper_slope=float(curve[1]))


def _newton(design: Floats, is_fraud: Labels, offset: Floats | float = 0.0) -> Floats:
    """Return the coefficients of a logistic regression, float64 (P,), of a design (N, P) whose last column is ones."""
    slopes = design.shape[1] - 1
    prior = np.append(np.full(slopes, _PRIOR_PRECISION), 0.0)
    start = np.append(np.full(slopes, 1.0), 0.0)
    line = start
    for _ in range(_MAX_STEPS):
        p = sigmoid(design @ line + offset)
        gradient = design.T @ (p - is_fraud) + prior * (line - start)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.diag(prior)
        # The curvature vanishes where every p is 0 or 1; the tiny ridge lets the halving below find the way.
        step = np.linalg.solve(curvature + 1e-12 * np.eye(slopes + 1), gradient)
        loss = _loss(design, is_fraud, line, offset)
        for _ in range(_MAX_HALVINGS):
            if _loss(design, is_fraud, line - step, offset) <= loss:
                break
            step /= 2
        line = line - step
        if np.abs(step).max() < _TOLERANCE:
            break
    return line


def _loss(design: Floats, is_fraud: Labels, line: Floats, offset: Floats | float = 0.0) -> float:
    margin = (design @ line + offset) * np.where(is_fraud, 1.0, -1.0)
    away = line[:-1] - 1.0
    return float(np.logaddexp(0.0, -margin).sum() + 0.5 * _PRIOR_PRECISION * (away @ away))


class _Blocks(NamedTuple):
    """Rows with neighbouring logits taken together: mean logit, frauds and rows of each, float64 (K,)."""

    centre: Floats
    frauds: Floats
    rows: Floats


def fit_isotonic(logits: Floats, is_fraud: Labels) -> Calibration:
    """Return the curve through the centres of the blocks of isotonic regression, or Platt's line if there is only one.

    A block without fraud, or of nothing else, counts half a row of what it lacks (Jeffreys' prior), for no payment is
    certain. At the end the curve is moved up or down until it expects as many frauds as there were.
    """
    line = fit_platt(logits, is_fraud)
    blocks = pool_violators(logits, is_fraud)
    least = np.where(blocks.frauds == 0, 0.5, 0.0)
    most = np.where(blocks.frauds == blocks.rows, 0.5, 0.0)
    # Half a row weighs more in a small block than in the next, large one: their order may need mending.
    centre, frauds, rows = _pool(_Blocks(blocks.centre, blocks.frauds + least, blocks.rows + least + most))
    if centre.size < 2 or line.slope <= 0:
        return line
    values = np.log(frauds) - np.log(rows - frauds)
    # Two blocks may differ by less than float64 can keep apart between them.
    values = np.maximum.accumulate(values - _MIN_SLOPE * centre) + _MIN_SLOPE * centre
    curve = Calibration(line.slope, method="isotonic", knots=tuple(centre.tolist()), values=tuple(values.tolist()))
    shift = _newton(np.ones((logits.size, 1)), is_fraud, curve.log_odds(logits))
    return msgspec.structs.replace(curve, values=tuple((values + shift).tolist()))


def pool_violators(logits: Floats, is_fraud: Labels) -> _Blocks:
    """Return the blocks of isotonic regression: neighbours are taken together until the share of fraud rises."""
    distinct, place = np.unique(logits, return_inverse=True)
    rows = np.bincount(place).astype(np.float64)
    frauds = np.bincount(place, weights=is_fraud)
    share = frauds / rows
    # A run of equal shares ends up in one block in any case; taken together first, the loop is as long as the frauds.
    starts = np.flatnonzero(np.append(True, share[1:] != share[:-1]))
    mass = np.add.reduceat(rows, starts)
    centre = np.add.reduceat(distinct * rows, starts) / mass
    return _pool(_Blocks(centre, np.add.reduceat(frauds, starts), mass))


def _pool(blocks: _Blocks) -> _Blocks:
    kept: list[tuple[float, float, float]] = []
    for block in zip(*(part.tolist() for part in blocks), strict=True):
        centre, frauds, rows = block
        while kept and kept[-1][1] * rows >= frauds * kept[-1][2]:
            before_centre, before_frauds, before_rows = kept.pop()
            centre = (centre * rows + before_centre * before_rows) / (rows + before_rows)
            frauds, rows = frauds + before_frauds, rows + before_rows
        kept.append((centre, frauds, rows))
    return _Blocks(*np.array(kept).T)
