"""What an arm's alerts were worth, in all and month by month."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.year.arm import Lived
from benchmarks.year.history import History

Bools = NDArray[np.bool_]


class Counts(NamedTuple):
    """Of the payments of some days, by what they turned out to be.

    Attributes:
        good: Good payments.
        false: Of them, alerted.
        frauds: All, and those of campaigns.
        caught: Of each.
        value: Of the frauds, in euros.
        caught_value: Of those alerted.
    """

    good: int
    false: int
    frauds: int
    caught: int
    new_frauds: int
    new_caught: int
    value: float
    caught_value: float

    @property
    def capture(self) -> float:
        """Share of the frauds that is alerted."""
        return self.caught / self.frauds

    @property
    def false_positive_rate(self) -> float:
        """Share of the good payments that is alerted."""
        return self.false / self.good

    @property
    def precision(self) -> float:
        """Share of the alerts that is fraud."""
        return self.caught / (self.caught + self.false)

    @property
    def new_capture(self) -> float:
        """Share of the frauds of campaigns that is alerted."""
        return self.new_caught / self.new_frauds

    @property
    def old_capture(self) -> float:
        """Share of the other frauds that is alerted."""
        return (self.caught - self.new_caught) / (self.frauds - self.new_frauds)

    @property
    def value_detection_rate(self) -> float:
        """Share of the defrauded money that is alerted."""
        return self.caught_value / self.value


class Outcome(NamedTuple):
    """One arm's year.

    Attributes:
        trainings: How many.
        months: First days, such as 2025-01.
        total: Of all measured days.
        by_month: Of each month.
    """

    trainings: int
    months: tuple[str, ...]
    total: Counts
    by_month: tuple[Counts, ...]


def outcome(past: History, lived: Lived) -> Outcome:
    """Return what came of a year, judged by the truth, also where nobody ever told of it in time."""
    measured = past.data.time_us >= past.start_us
    months = past.data.time_us.astype("datetime64[us]").astype("datetime64[M]")
    names = np.unique(months[measured])
    return Outcome(
        trainings=lived.trainings,
        months=tuple(str(name) for name in names),
        total=_count(past, lived.alerted, measured),
        by_month=tuple(_count(past, lived.alerted, measured & (months == name)) for name in names),
    )


def pooled(parts: list[Counts]) -> Counts:
    """Return the sum of some counts."""
    return Counts(*(sum(column) for column in zip(*parts, strict=True)))


def _count(past: History, alerted: Bools, rows: Bools) -> Counts:
    data = past.data
    fraud, seen = rows & data.is_fraud, rows & alerted
    return Counts(
        good=_sum(rows & ~data.is_fraud),
        false=_sum(seen & ~data.is_fraud),
        frauds=_sum(fraud),
        caught=_sum(fraud & alerted),
        new_frauds=_sum(fraud & past.is_new),
        new_caught=_sum(fraud & alerted & past.is_new),
        value=float(data.amount[fraud].sum()),
        caught_value=float(data.amount[fraud & alerted].sum()),
    )


def _sum(rows: Bools) -> int:
    return int(np.count_nonzero(rows))
