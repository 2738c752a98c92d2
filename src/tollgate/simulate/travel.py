"""Trips: honest customers who pay far from home."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import DAY_US, HOUR_US, SECOND_US
from tollgate.simulate.places import CITY_COUNT, CITY_LAT, CITY_LON, CITY_OFFSET_H, VISITOR_SHARE, distance_km

_TRIPS_PER_DAY = 6 / 365
_MEDIAN_DAYS = 4.0
_SIGMA_DAYS = 0.7
_MIN_DAYS, _MAX_DAYS = 1.0, 28.0  # at least longer than the longest way
_REST_DAYS = 2.0  # at home between two trips
_MAX_AWAY_DAYS = 40.0  # more than the longest trip with its ways and the rest after it
_SPEED_KMH = 700.0  # of an airliner, gate to gate
_TERMINAL_HOURS = 3.0


@dataclass(frozen=True, slots=True)
class Trips:
    """T trips, sorted by customer and departure.

    Attributes:
        key: Customer times `span_s` plus the departure, in seconds, int64 (T,).
        customer: int64 (T,).
        city: Row of `CITIES`, int64 (T,).
        depart_us: int64 (T,), microseconds since the scenario began, as are the others.
        arrive_us: int64 (T,).
        leave_us: When the way back begins, int64 (T,).
    """

    span_s: int
    key: NDArray[np.int64]
    customer: NDArray[np.int64]
    city: NDArray[np.int64]
    depart_us: NDArray[np.int64]
    arrive_us: NDArray[np.int64]
    leave_us: NDArray[np.int64]

    def place(
        self, customer: NDArray[np.int64], home: NDArray[np.int64], time_us: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the city where each customer is, int64 (N,), and when they can pay there, int64 (N,).

        Nobody pays on the way: such a payment moves to before they set out. Abroad, people keep the hours of
        the place.
        """
        city, moved = home.copy(), time_us.copy()
        if not len(self.key):
            return city, moved
        trip = np.searchsorted(self.key, customer * self.span_s + time_us // SECOND_US, side="right") - 1
        trip = np.maximum(trip, 0)
        mine = (self.customer[trip] == customer) & (self.depart_us[trip] <= time_us)
        depart, arrive, leave = self.depart_us[trip], self.arrive_us[trip], self.leave_us[trip]
        way = arrive - depart
        outbound = mine & (time_us < arrive)
        homebound = mine & (time_us >= leave) & (time_us < leave + way)
        abroad = mine & ~outbound & (time_us < leave + way)
        moved -= np.where(outbound | homebound, way, 0)
        city[abroad] = self.city[trip[abroad]]
        shifted = moved + (CITY_OFFSET_H[home] - CITY_OFFSET_H[city]) * HOUR_US
        fits = abroad & (shifted >= arrive) & (shifted < leave)
        return city, np.where(fits, shifted, moved)


def make_trips(rng: np.random.Generator, home: NDArray[np.int64], days: int) -> Trips:
    """Return the trips that customers from the cities `home`, int64 (C,), make in so many days."""
    customer = np.repeat(np.arange(len(home)), rng.poisson(_TRIPS_PER_DAY * days, len(home)))
    count = len(customer)
    city = rng.choice(CITY_COUNT, size=count, p=VISITOR_SHARE)
    depart = rng.random(count) * days * DAY_US
    stay = np.clip(rng.lognormal(np.log(_MEDIAN_DAYS), _SIGMA_DAYS, count), _MIN_DAYS, _MAX_DAYS) * DAY_US
    start = home[customer]
    hours = _TERMINAL_HOURS + distance_km(CITY_LAT[start], CITY_LON[start], CITY_LAT[city], CITY_LON[city]) / _SPEED_KMH
    way = hours * HOUR_US

    order = np.lexsort((depart, customer))
    order = order[city[order] != start[order]]
    # Of trips that overlap only the first is made. Customers are laid one after the other on one line of time.
    begin = customer[order] * float(days + _MAX_AWAY_DAYS) + depart[order] / DAY_US
    end = begin + (stay + 2 * way)[order] / DAY_US + _REST_DAYS
    latest = np.concatenate([[-np.inf], np.maximum.accumulate(end)])[: len(end)]
    order = order[begin > latest]

    span_s = (days + 1) * (DAY_US // SECOND_US)
    depart_us = depart[order].astype(np.int64)
    arrive_us = depart_us + way[order].astype(np.int64)
    return Trips(
        span_s=span_s,
        key=customer[order] * span_s + depart_us // SECOND_US,
        customer=customer[order],
        city=city[order],
        depart_us=depart_us,
        arrive_us=arrive_us,
        leave_us=arrive_us + stay[order].astype(np.int64),
    )
