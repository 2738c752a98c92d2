"""A retraining, as values: what is compared on which days, and what came of it."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate.bundle import Training
from tollgate.config import RetrainConfig
from tollgate.dataset import Window
from tollgate.duration import DAY_US, parse_duration_us
from tollgate.errors import InputError
from tollgate.gate import Check, passed

Times = NDArray[np.int64]

PROMOTED, REFUSED, WOULD_PROMOTE = "promoted", "refused", "would promote"


class Periods(msgspec.Struct, frozen=True):
    """When a challenger learns and when it is measured.

    Attributes:
        training: Before the contest.
        contest: The newest transactions of which it is known what became of them, in whole days (UTC).
    """

    training: Window
    contest: Window


class Retraining(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one retraining, for people and programs.

    Attributes:
        as_of_us: What became known later did not exist yet, microseconds since 1970-01-01 UTC.
        champion: Content id of the bundle that decided until then.
        challenger: Of what was trained; None where the labels were refused before that.
        outcome: `promoted`, `refused`, or `would promote` where it was only tried.
        reasons: Names of the checks that have not passed.
        contest: First time and end of the days on which both were compared; None where it did not come to that.
        rows: Transactions in the contest.
        frauds: Of these.
        checks: All that was looked at.
    """

    as_of_us: int
    champion: str
    challenger: str | None
    outcome: str
    reasons: tuple[str, ...]
    contest: tuple[int, int] | None
    rows: int
    frauds: int
    checks: tuple[Check, ...]


def periods(time_us: Times, waiting_us: Times, learned: Training, config: RetrainConfig) -> Periods:
    """Return when a challenger learns and is measured.

    The contest ends with the newest day of which almost everything is known. A day on which nobody knows yet what most
    payments are would be measured on its frauds, for these are reported first.

    Args:
        time_us: Effective times of the transactions of which it is known what they are, int64 (N,), N > 0.
        waiting_us: Of the others, int64 (M,).
        learned: What the champion was trained on: on those days it would flatter itself.
        config: Lengths, and how much must be known.

    Raises:
        InputError: The history is too short for it.
    """
    first_us = int(time_us.min())
    first_day = first_us // DAY_US
    known, waiting = (
        np.bincount(np.maximum(times // DAY_US - first_day, 0)) if len(times) else np.zeros(1, dtype=np.int64)
        for times in (time_us, waiting_us)
    )
    waiting = np.pad(waiting, (0, max(len(known) - len(waiting), 0)))[: len(known)]
    good = np.flatnonzero((known > 0) & (known >= config.known_share * (known + waiting)))
    # The newest day is not over, or who is to tell.
    last = good[good < len(known) - 1].max(initial=0)
    end_us = int(first_day + last + 1) * DAY_US
    earliest_us = -(-learned.end_us // DAY_US) * DAY_US
    start_us = max(end_us - parse_duration_us(config.window), earliest_us)
    begin_us = first_us if config.history is None else max(first_us, start_us - parse_duration_us(config.history))
    if start_us >= end_us or begin_us >= start_us:
        raise InputError(
            "too_short",
            "expected mature transactions to compare on that the champion was not trained on, and older ones to train "
            f"on, but the former would be {Window(start_us, max(start_us, end_us))}; wait for more, or set [label] "
            "good_after or [retrain] window shorter",
        )
    return Periods(Window(begin_us, start_us), Window(start_us, end_us))


def retraining(
    as_of_us: int,
    champion: str,
    challenger: str | None,
    checks: tuple[Check, ...],
    contest: Window | None = None,
    rows: int = 0,
    frauds: int = 0,
    *,
    only_tried: bool = False,
) -> Retraining:
    """Return what comes of some checks."""
    good = passed(checks)
    return Retraining(
        as_of_us=as_of_us,
        champion=champion,
        challenger=challenger,
        outcome=(WOULD_PROMOTE if only_tried else PROMOTED) if good else REFUSED,
        reasons=tuple(check.name for check in checks if not check.passed),
        contest=None if contest is None else (contest.start_us, contest.end_us),
        rows=rows,
        frauds=frauds,
        checks=checks,
    )
