"""Whether a challenger may take the champion's place: every check with what was found, what was allowed and a reason.

Being better by chance is not better. So a challenger must gain on the newest mature window, which neither model was
trained on, and the bootstrap interval of the difference may reach below zero by a margin only (a test of
non-inferiority: Wellek, *Testing Statistical Hypotheses of Equivalence and Noninferiority*, 2010, chapter 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate import metrics
from tollgate.bootstrap import Interval, Pair, difference_interval
from tollgate.config import EvaluateConfig, GateConfig
from tollgate.dataset import Dataset

GAINS = ("average_precision", "value_detection_rate")

Floats = NDArray[np.float64]
Groups = Mapping[str, NDArray[np.bool_]]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Attributes:
        name: Stable: what a program goes by.
        passed: Whether it lets the challenger through.
        found: The figure; null where there is none.
        limit: What was allowed.
        why: A sentence for people.
    """

    name: str
    passed: bool
    found: float | None
    limit: float
    why: str


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    """Two models on the same rows.

    Attributes:
        rows: N labelled payments that neither model was trained on.
        challenger: Its calibrated probabilities, float64 (N,).
        champion: Likewise.
        slices: By what divides the rows, groups of them by name, bool (N,) each.
        challenger_us: Median time of one decision of its model, microseconds.
        champion_us: Likewise.
    """

    rows: Dataset
    challenger: Floats
    champion: Floats
    slices: Mapping[str, Groups]
    challenger_us: float
    champion_us: float


def examine(contest: Contest, config: GateConfig, measured: EvaluateConfig) -> tuple[Check, ...]:
    """Return all checks; the challenger is let through if every one has passed.

    Args:
        contest: The two models.
        config: What is allowed.
        measured: The alert budget, and how often to resample.
    """
    return (
        *_gains(contest, config, measured),
        _calibration(contest, config),
        *_slices(contest, config, measured),
        _latency(contest, config),
    )


def enough_frauds(frauds: int, config: GateConfig) -> Check:
    """Return the check that a contest can tell anything."""
    return Check(
        name="enough_frauds", passed=frauds >= config.min_frauds, found=frauds, limit=config.min_frauds,
        why=f"{frauds} frauds are known in the contest; differences on fewer than {config.min_frauds} are chance",
    )  # fmt: skip


def passed(checks: Sequence[Check]) -> bool:
    """Return whether a challenger is let through."""
    return all(check.passed for check in checks)


def _gains(contest: Contest, config: GateConfig, measured: EvaluateConfig) -> list[Check]:
    """Return the checks of a gain and of its margin: AP must grow, and no measure may have lost too much."""
    checks = []
    for measure in GAINS:
        found = difference_interval(
            [Pair(contest.rows, contest.challenger, contest.champion)], measure, budget=measured.alerts_per_day,
            resamples=max(measured.resamples, config.min_resamples), seed=measured.seed, level=measured.level,
        )  # fmt: skip
        shown = measure.replace("_", " ")
        interval = f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        if measure == GAINS[0]:
            checks.append(
                Check(
                    name=f"{measure}_gain", passed=found.value > config.min_gain, found=_known(found.value),
                    limit=config.min_gain,
                    why=f"{shown}, challenger less champion: {interval}; more than {config.min_gain:g} is asked for",
                )
            )  # fmt: skip
        checks.append(_margin(measure, shown, interval, found, config.max_loss))
    return checks


def _margin(measure: str, shown: str, interval: str, found: Interval, max_loss: float) -> Check:
    return Check(
        name=f"{measure}_margin", passed=found.low >= -max_loss, found=_known(found.low), limit=-max_loss,
        why=f"{shown}, challenger less champion: {interval}; the interval may reach down to {-max_loss:g}",
    )  # fmt: skip


def _calibration(contest: Contest, config: GateConfig) -> Check:
    rows = contest.rows
    one, other = (
        metrics.expected_calibration_error(rows.is_fraud, scores) for scores in (contest.challenger, contest.champion)
    )
    limit = max(config.max_calibration_error, other)
    return Check(
        name="calibration", passed=one <= limit, found=_known(one), limit=limit,
        why=f"expected calibration error {one:.5f}, the champion's {other:.5f}; up to {limit:.5f} is allowed",
    )  # fmt: skip


def _slices(contest: Contest, config: GateConfig, measured: EvaluateConfig) -> list[Check]:
    """Return a check for each group with enough frauds: what all gain must not be paid for by a few."""
    rows, budget = contest.rows, measured.alerts_per_day
    seen = [metrics.alerts(one, rows.time_us, budget) for one in (contest.challenger, contest.champion)]
    checks = []
    for by, groups in contest.slices.items():
        for name, chosen in groups.items():
            if np.count_nonzero(rows.is_fraud & chosen) < config.min_frauds:
                continue
            one, other = (metrics.recall(rows.is_fraud[chosen], alerts[chosen]) for alerts in seen)
            checks.append(
                Check(
                    name=f"slice_{by}={name}", passed=one - other >= -config.max_slice_loss,
                    found=_known(one - other), limit=-config.max_slice_loss,
                    why=f"recall at the alert budget where {by} is {name}: {one:.3f}, the champion's {other:.3f}",
                )
            )  # fmt: skip
    return checks


def _latency(contest: Contest, config: GateConfig) -> Check:
    slower = contest.challenger_us / contest.champion_us
    return Check(
        name="latency", passed=slower <= config.max_slowdown, found=slower, limit=config.max_slowdown,
        why=f"{contest.challenger_us:.0f} us a decision, the champion's {contest.champion_us:.0f}; "
        f"{config.max_slowdown:g} times as long is allowed",
    )  # fmt: skip


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
