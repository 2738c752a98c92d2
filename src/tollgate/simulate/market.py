"""Merchants: their line of business, place, popularity and prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.simulate.places import CITY_COUNT, CITY_LAT, CITY_LON, RESIDENT_SHARE, VISITOR_SHARE, shares


class Business(NamedTuple):
    """A line of business, with its typical amount and its share of merchants (as weights)."""

    mcc: str  # ISO 18245
    median_eur: float
    sigma: float  # of the logarithm of the amount
    shops: float
    online: float


BUSINESSES = (
    Business("5411", 28.0, 0.80, 26, 3),  # groceries
    Business("5812", 32.0, 0.60, 14, 0),  # restaurants
    Business("5814", 11.0, 0.45, 13, 10),  # fast food
    Business("5541", 52.0, 0.35, 8, 0),  # fuel
    Business("4111", 3.2, 0.50, 6, 6),  # local transport
    Business("5912", 17.0, 0.60, 6, 2),  # pharmacies
    Business("5311", 45.0, 0.70, 5, 10),  # department stores
    Business("5651", 48.0, 0.60, 5, 16),  # clothing
    Business("5732", 140.0, 0.90, 3, 10),  # electronics
    Business("5999", 22.0, 0.80, 6, 14),  # miscellaneous retail
    Business("5944", 180.0, 0.80, 1, 2),  # jewellery
    Business("5993", 9.0, 0.50, 3, 0),  # tobacco
    Business("7011", 160.0, 0.60, 2, 4),  # hotels
    Business("4511", 230.0, 0.60, 0, 3),  # airlines
    Business("4722", 310.0, 0.70, 0.5, 2),  # travel agencies
    Business("5816", 7.0, 0.80, 0, 10),  # games
    Business("5968", 11.0, 0.40, 0, 8),  # subscriptions
    Business("4814", 18.0, 0.50, 0.5, 5),  # telecom
    Business("8398", 15.0, 0.80, 0.3, 2),  # charities
    Business("5947", 35.0, 0.60, 1, 3),  # gifts and gift cards
    Business("7995", 25.0, 0.90, 0, 3),  # betting
    Business("6011", 80.0, 0.60, 4, 0),  # cash machines
)
MCC = tuple(business.mcc for business in BUSINESSES)

TESTABLE = frozenset({"5816", "5968", "4814", "8398"})  # small amounts, instant, few checks
RESALEABLE = frozenset({"5732", "5944", "5947", "4511"})  # what a thief turns into money
GIFTS = frozenset({"5651", "5732", "5944", "5947", "5999"})
TRAVEL = frozenset({"4511", "4722", "7011"})

ATM_BUSINESS = MCC.index("6011")
_GROCERY = MCC.index("5411")
_ELECTRONICS = MCC.index("5732")
_ONLINE_SHARE = 0.35
_ZIPF_EXPONENT = 1.05
_CITY_SPREAD_DEG = 0.05  # about 5 km
_SCALE_SIGMA = 0.35  # a dear shop and a cheap one of the same business
_ATM_STEP_EUR = 10.0
_MIN_AMOUNT_EUR = 0.5

_MEDIAN_LOG = np.log([business.median_eur for business in BUSINESSES])
_SIGMA = np.array([business.sigma for business in BUSINESSES])
_SPENDING_POWER = 0.5  # who has twice the money pays 1.4 times as much for the same kind of thing

# Groups that a merchant is drawn from: the shops of each city, the cash machines of each city, all of online.
ONLINE_GROUP = 2 * CITY_COUNT


def shops_of(city: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the group of the shops in each city."""
    return city


def atms_of(city: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the group of the cash machines in each city."""
    return city + CITY_COUNT


@dataclass(frozen=True, slots=True)
class Market:
    """M merchants, sorted by group.

    Attributes:
        business: Row of `BUSINESSES`, int64 (M,).
        lat: Degrees, float64 (M,); of no meaning online.
        lon: Degrees, float64 (M,).
        scale: How dear it is, factor on the amounts, float64 (M,).
        totals: Running sum of the popularity, from 0, float64 (M + 1,).
        bounds: Where each group begins, and the last one ends, int64 (groups + 1,).
    """

    business: NDArray[np.int64]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    scale: NDArray[np.float64]
    totals: NDArray[np.float64]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.business)

    def draw(self, rng: np.random.Generator, group: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a merchant of each group, by popularity, int64 (N,)."""
        first, last = self.bounds[group], self.bounds[group + 1] - 1
        low, high = self.totals[first], self.totals[last + 1]
        point = low + rng.random(len(group)) * (high - low)
        merchant: NDArray[np.int64] = np.clip(np.searchsorted(self.totals, point, side="right") - 1, first, last)
        return merchant

    def draw_online(self, rng: np.random.Generator, mcc: frozenset[str], count: int) -> NDArray[np.int64]:
        """Return `count` online merchants of the businesses `mcc`, by popularity, int64 (count,)."""
        first, last = self.bounds[ONLINE_GROUP : ONLINE_GROUP + 2].tolist()
        popularity = np.diff(self.totals)[first:last]
        popularity *= self.is_in(mcc, np.arange(first, last))
        return rng.choice(np.arange(first, last), size=count, p=popularity / popularity.sum())

    def is_in(self, mcc: frozenset[str], merchant: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each merchant's business is one of `mcc`, bool (N,)."""
        table = np.array([code in mcc for code in MCC])
        chosen: NDArray[np.bool_] = table[self.business[merchant]]
        return chosen

    def price(
        self,
        rng: np.random.Generator,
        merchant: NDArray[np.int64],
        spending: NDArray[np.float64] | float = 1.0,
        factor: NDArray[np.float64] | float = 1.0,
    ) -> NDArray[np.float64]:
        """Return what is paid at each merchant, in euros and whole cents, float64 (N,).

        Args:
            rng: Where the randomness comes from.
            merchant: Rows of merchants, int64 (N,).
            spending: The payer's spending level, 1 in the middle, float64 (N,).
            factor: How much more than usual is paid, float64 (N,).
        """
        business = self.business[merchant]
        centre = _MEDIAN_LOG[business] + _SPENDING_POWER * np.log(spending)
        level = factor * self.scale[merchant]
        amount = level * np.exp(centre + _SIGMA[business] * rng.standard_normal(len(merchant)))
        return np.where(business == ATM_BUSINESS, banknotes(amount), round_price(rng, amount))


def banknotes(amount: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest amounts that a cash machine hands out, float64 (N,)."""
    return np.maximum(np.round(amount / _ATM_STEP_EUR), 1.0) * _ATM_STEP_EUR


def round_price(rng: np.random.Generator, amount: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return amounts that end as prices do: often in .99, .00 or .50, whole cents, float64 (N,)."""
    kind = rng.random(len(amount))
    whole = np.floor(amount)
    ended = np.select([kind < 0.25, kind < 0.37, kind < 0.45], [whole + 0.99, whole, whole + 0.5], amount)
    return np.maximum(np.round(ended, 2), _MIN_AMOUNT_EUR)


def make_market(rng: np.random.Generator, count: int) -> Market:
    """Return `count` merchants; every city has a cash machine, a grocer and an electronics shop."""
    online_share = shares([business.online for business in BUSINESSES])
    shop_share = shares([business.shops for business in BUSINESSES])
    cities = np.arange(CITY_COUNT)
    must_online = np.flatnonzero(online_share)
    must_shops = np.repeat([ATM_BUSINESS, _GROCERY, _ELECTRONICS], CITY_COUNT)
    free = count - len(must_online) - len(must_shops)
    free_online = round(free * _ONLINE_SHARE)
    free_shops = free - free_online

    business = np.concatenate(
        [
            must_online,
            rng.choice(len(BUSINESSES), size=free_online, p=online_share),
            must_shops,
            rng.choice(len(BUSINESSES), size=free_shops, p=shop_share),
        ]
    )
    where = rng.choice(CITY_COUNT, size=free_shops, p=(RESIDENT_SHARE + VISITOR_SHARE) / 2)
    city = np.concatenate([np.zeros(len(must_online) + free_online, dtype=np.int64), np.tile(cities, 3), where])
    group = np.where(business == ATM_BUSINESS, atms_of(city), shops_of(city))
    group[: len(must_online) + free_online] = ONLINE_GROUP

    order = np.argsort(group, kind="stable")
    city, business, group = city[order], business[order], group[order]
    popularity = (1.0 + rng.permutation(count)) ** -_ZIPF_EXPONENT
    return Market(
        business=business,
        lat=np.round(CITY_LAT[city] + rng.normal(0, _CITY_SPREAD_DEG, count), 4),
        lon=np.round(CITY_LON[city] + rng.normal(0, _CITY_SPREAD_DEG, count), 4),
        scale=np.exp(rng.normal(0, _SCALE_SIGMA, count)),
        totals=np.concatenate([[0.0], np.cumsum(popularity)]),
        bounds=np.searchsorted(group, np.arange(ONLINE_GROUP + 2)),
    )
