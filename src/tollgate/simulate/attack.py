"""What attacks have in common: who is attacked, how they unfold in time, and where the budget ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import DAY_US
from tollgate.simulate.market import ONLINE_GROUP, RESALEABLE, Market
from tollgate.simulate.places import CITY_COUNT, CITY_LAT, CITY_LON, VISITOR_SHARE
from tollgate.simulate.population import MOBILE_IPS, Population
from tollgate.simulate.rows import ABSENT, Channel, Rows

# Attacks are drawn in excess: some run past the end of the scenario and are cut there.
EXCESS = 1.5
LOCAL_SHARE = 0.4  # of the attacks come through addresses in the victim's own city
_FULL_PACE_US = 30 * DAY_US  # in a shorter scenario, what takes days takes fewer


class Numbers:
    """Numbers of devices or addresses that nobody has had yet."""

    def __init__(self, first: int) -> None:
        self._next = first

    def take(self, count: int) -> NDArray[np.int64]:
        """Return `count` fresh numbers, int64 (count,)."""
        fresh = np.arange(self._next, self._next + count)
        self._next += count
        return fresh


@dataclass(frozen=True, slots=True)
class World:
    """What an attacker finds."""

    people: Population
    market: Market
    genuine: Rows
    horizon_us: int
    devices: Numbers
    ips: Numbers

    @property
    def pace(self) -> float:
        """By how much days shrink so that an attack fits into a short scenario, in (0, 1]."""
        return min(1.0, self.horizon_us / _FULL_PACE_US)


@dataclass(frozen=True, slots=True)
class Course:
    """A attacks with N steps in all, attack by attack.

    Attributes:
        attack: Which attack each step belongs to, int64 (N,).
        step: Its place in the attack, from 0, int64 (N,).
    """

    attack: NDArray[np.int64]
    step: NDArray[np.int64]

    def elapsed(self, gap_us: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the time since each attack's first step, int64 (N,); `gap_us` (N,) is the pause before each step."""
        total = np.cumsum(gap_us)
        first = np.arange(len(total)) - self.step
        elapsed: NDArray[np.int64] = (total - total[first]).astype(np.int64)
        return elapsed


def course(sizes: NDArray[np.int64]) -> Course:
    """Return the course of attacks with so many steps each, int64 (A,)."""
    ends = np.cumsum(sizes)
    step = np.arange(int(sizes.sum())) - np.repeat(ends - sizes, sizes)
    return Course(attack=np.repeat(np.arange(len(sizes)), sizes), step=step)


def attack_count(budget: int, mean_size: float) -> int:
    """Return how many attacks surely hold `budget` payments, when one has `mean_size` of them."""
    return 2 + int(EXCESS * budget / mean_size)


def cut(rows: Rows, attack: NDArray[np.int64], horizon_us: int, budget: int) -> Rows:
    """Return `budget` rows or fewer, attack by attack, of those that happen within the scenario."""
    order = np.argsort(attack, kind="stable")
    inside = order[rows.time_us[order] < horizon_us]
    return rows.take(inside[:budget])


def lognormal(rng: np.random.Generator, median: float, sigma: float, count: int) -> NDArray[np.float64]:
    """Return log-normal numbers around `median`, float64 (count,)."""
    return median * np.exp(sigma * rng.standard_normal(count))


def draw_cities(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Return cities that attackers appear to be in, int64 (count,)."""
    return rng.choice(CITY_COUNT, size=count, p=VISITOR_SHARE)


def mobile_ip(rng: np.random.Generator, world: World, city: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return an address of each city's mobile network, which honest customers share, int64 (N,)."""
    return world.people.first_mobile_ip + city * MOBILE_IPS + rng.integers(MOBILE_IPS, size=len(city))


def draw_loot(rng: np.random.Generator, world: World, resaleable: float, count: int) -> NDArray[np.int64]:
    """Return online merchants, int64 (count,), a share `resaleable` of which sells what can be sold on."""
    anything = world.market.draw(rng, np.full(count, ONLINE_GROUP))
    return np.where(rng.random(count) < resaleable, world.market.draw_online(rng, RESALEABLE, count), anything)


@dataclass(frozen=True, slots=True)
class Payments:
    """N fraudulent payments of one typology, `code`; other fields as in `Rows`."""

    code: int
    time_us: NDArray[np.int64]
    card: NDArray[np.int64]
    merchant: NDArray[np.int64]
    amount: NDArray[np.float64]
    city: NDArray[np.int64]

    def online(self, device: NDArray[np.int64], ip: NDArray[np.int64]) -> Rows:
        """Return them as made online, from addresses that are placed in the middle of their city."""
        channel = np.full(len(self.time_us), Channel.ECOM, dtype=np.int64)
        return self._rows(channel, device, ip, CITY_LAT[self.city], CITY_LON[self.city])

    def in_person(self, market: Market, channel: NDArray[np.int64]) -> Rows:
        """Return them as made at the merchants' own place."""
        absent = np.full(len(self.time_us), ABSENT, dtype=np.int64)
        return self._rows(channel, absent, absent, market.lat[self.merchant], market.lon[self.merchant])

    def _rows(
        self,
        channel: NDArray[np.int64],
        device: NDArray[np.int64],
        ip: NDArray[np.int64],
        lat: NDArray[np.float64],
        lon: NDArray[np.float64],
    ) -> Rows:
        return Rows(
            time_us=self.time_us,
            card=self.card,
            merchant=self.merchant,
            amount=self.amount,
            channel=channel,
            device=device,
            ip=ip,
            city=self.city,
            lat=lat,
            lon=lon,
            typology=np.full(len(self.time_us), self.code, dtype=np.int64),
        )
