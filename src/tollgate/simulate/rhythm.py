"""When people pay: by the hour of the day, the day of the week and the season, per channel."""

from __future__ import annotations

import datetime as dt

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import HOUR_US
from tollgate.simulate.drift import DAYS_A_YEAR
from tollgate.simulate.rows import Channel
from tollgate.simulate.scenario import Scenario

# Relative volume by local hour, midnight first, on a working day.
_HOURS = {
    Channel.POS: (1, 1, 0, 0, 0, 2, 8, 22, 34, 34, 40, 52, 70, 62, 44, 44, 54, 74, 80, 58, 38, 24, 12, 5),
    Channel.ECOM: (14, 7, 4, 3, 3, 4, 10, 20, 30, 38, 42, 44, 48, 46, 42, 42, 44, 46, 50, 60, 74, 78, 60, 32),
    Channel.ATM: (6, 4, 3, 2, 2, 4, 10, 24, 36, 46, 54, 58, 60, 54, 48, 50, 56, 62, 58, 44, 34, 28, 20, 12),
    Channel.MOTO: (0, 0, 0, 0, 0, 0, 0, 4, 30, 60, 72, 66, 40, 52, 66, 62, 46, 20, 6, 2, 1, 0, 0, 0),
}
# Relative volume by day, Monday first.
_WEEKDAYS = {
    Channel.POS: (0.92, 0.93, 0.97, 1.02, 1.18, 1.24, 0.74),
    Channel.ECOM: (1.06, 1.02, 1.00, 0.98, 0.90, 0.92, 1.12),
    Channel.ATM: (0.95, 0.90, 0.95, 1.05, 1.30, 1.20, 0.65),
    Channel.MOTO: (1.20, 1.15, 1.10, 1.10, 1.05, 0.30, 0.10),
}
_WEEKEND_SHIFT_H = 1  # people get up later
_SATURDAY = 5
_GIFT_SEASON = ((11, 24), (12, 24))  # month and day, first and last
_GIFT_SEASON_FACTOR = 1.35
_PAYDAYS = frozenset({1, 2, 3, 28, 29, 30, 31})
_PAYDAY_FACTOR = 1.1


def _day_factor(day: dt.date) -> float:
    first, last = _GIFT_SEASON
    season = _GIFT_SEASON_FACTOR if first <= (day.month, day.day) <= last else 1.0
    return season * (_PAYDAY_FACTOR if day.day in _PAYDAYS else 1.0)


class Rhythm:
    """Draws local times within a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        days = [scenario.start + dt.timedelta(days=number) for number in range(scenario.days)]
        season = np.array([_day_factor(day) for day in days])
        weekday = np.array([day.weekday() for day in days])
        growth = (1 + scenario.drift.online_growth) ** (np.arange(scenario.days) / DAYS_A_YEAR)
        self._totals: dict[Channel, NDArray[np.float64]] = {}
        for channel in Channel:
            working = np.array(_HOURS[channel], dtype=np.float64)
            hours = np.where(  # (days, 24)
                (weekday >= _SATURDAY)[:, None], np.roll(working, _WEEKEND_SHIFT_H), working
            )
            trend = growth if channel is Channel.ECOM else np.ones_like(growth)
            slots = hours * (season * np.array(_WEEKDAYS[channel])[weekday] * trend)[:, None]
            self._totals[channel] = np.cumsum(slots.ravel())

    def draw(self, rng: np.random.Generator, channel: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a local time for each payment, microseconds since the local start, int64 (N,).

        Args:
            rng: Where the randomness comes from.
            channel: A `Channel` for each payment, int64 (N,).
        """
        within = (rng.random(len(channel)) * HOUR_US).astype(np.int64)
        point = rng.random(len(channel))
        hour = np.empty(len(channel), dtype=np.int64)
        for code, totals in self._totals.items():
            rows = np.flatnonzero(channel == code)
            hour[rows] = np.searchsorted(totals, point[rows] * totals[-1], side="right")
        return hour * HOUR_US + within
