"""A year as one arm lives it: trained on its days, on what it knows by then, and told what its own alerts were."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.year.history import NEVER_US, History
from tollgate import metrics
from tollgate.config import Config
from tollgate.dataset import Split, Window
from tollgate.duration import DAY_US, parse_duration_us
from tollgate.train import Candidate, TreeSearch, fit_candidate

Bools = NDArray[np.bool_]
BASE, OTHER = "monthly", "daily"  # what is compared with what

IsDue = Callable[[dt.date, int], bool]

ARMS: Mapping[str, IsDue] = {
    "once": lambda _day, number: number == 0,
    BASE: lambda day, number: number == 0 or day.day == 1,
    "weekly": lambda _day, number: number % 7 == 0,
    OTHER: lambda _day, _number: True,
}


class Lived(NamedTuple):
    """What came of an arm.

    Attributes:
        alerted: bool (N,); none before the measured days.
        trainings: How many.
    """

    alerted: Bools
    trainings: int


def live(past: History, config: Config, trees: Mapping[str, int | float], is_due: IsDue) -> Lived:
    """Return what an arm alerts, day by day.

    Args:
        past: The payments.
        config: How it trains, and its alert budget.
        trees: LightGBM's parameters.
        is_due: Whether to train when a day begins, of the day and its number.
    """
    data = past.data
    alerted = np.zeros(len(data), dtype=np.bool_)
    analysed_us = np.full(len(data), NEVER_US)
    day_bounds = np.searchsorted(
        data.time_us, np.arange(past.start_us, int(data.time_us[-1]) + DAY_US + 1, DAY_US)
    ).tolist()
    candidate: Candidate | None = None
    trainings = 0
    for number, (first, last) in enumerate(itertools.pairwise(day_bounds)):
        now_us = past.start_us + number * DAY_US
        day = dt.date(1970, 1, 1) + dt.timedelta(days=now_us // DAY_US)
        if candidate is None or is_due(day, number):
            split = known(past, analysed_us, now_us, config)
            candidate = fit_candidate(split, config.train, trees=TreeSearch(parameters=trees))
            trainings += 1
        if first == last:
            continue
        rows = slice(first, last)
        scores = candidate.scores(data.features[rows])
        chosen = metrics.alerts(scores, data.time_us[rows], config.evaluate.alerts_per_day)
        alerted[rows] = chosen
        analysed_us[rows] = np.where(chosen, past.analysed_us[rows], NEVER_US)
    return Lived(alerted, trainings)


def known(past: History, analysed_us: NDArray[np.int64], now_us: int, config: Config) -> Split:
    """Return what an arm may learn from at a moment. Nothing in it depends on what comes to be known later.

    A payment is fraud once somebody has said so, good once an analyst has said so, and taken for good once it is
    `good_after` old and nobody has said anything, as a fraud whose chargeback is still to come.

    Args:
        past: The payments.
        analysed_us: When an analyst has said of each what it is, int64 (N,); `NEVER_US` where it was not alerted.
        now_us: The moment, microseconds since 1970-01-01 UTC.
        config: How long silence is waited for, how far back is looked, how many good payments are taken.
    """
    good_after_us, history = config.label.good_after_us, config.retrain.history
    assert good_after_us is not None
    assert history is not None
    data = past.data
    begin_us = now_us - parse_duration_us(history)
    window = slice(*np.searchsorted(data.time_us, (begin_us, now_us)).tolist())
    time_us, said_us = data.time_us[window], analysed_us[window]
    is_fraud = data.is_fraud[window] & (np.minimum(past.told_us[window], said_us) <= now_us)
    is_good = ~is_fraud & ((said_us <= now_us) | (time_us + good_after_us <= now_us))
    share = config.train.good_per_fraud * np.count_nonzero(is_fraud) / max(int(np.count_nonzero(is_good)), 1)
    taken = np.flatnonzero(is_fraud | (is_good & (past.drawn[window] < share)))
    fitted = dataclasses.replace(data.take(taken + window.start), is_fraud=is_fraud[taken])
    cut_us = float(np.quantile(fitted.time_us, 1 - config.split.validation))
    nothing = np.zeros(0, dtype=np.bool_)
    return Split(
        train=fitted.take(fitted.time_us < cut_us),
        validation=fitted.take(fitted.time_us >= cut_us),
        test=fitted.take(np.empty(0, dtype=np.int64)),
        test_known=nothing,
        test_new=nothing,
        training=Window(begin_us, now_us),
        testing=Window(now_us, now_us),
        immature=0,
    )
