"""Customers in households, with their cards, habits, trips, devices and IP addresses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import DAY_US
from tollgate.simulate.market import ONLINE_GROUP, Market, shops_of
from tollgate.simulate.places import CITY_COUNT, CITY_LAT, CITY_LON, RESIDENT_SHARE
from tollgate.simulate.scenario import Scenario
from tollgate.simulate.travel import Trips, make_trips

_CARDS_PER_CUSTOMER = 1.35
_HOUSEHOLD_SHARE = (0.42, 0.33, 0.13, 0.12)  # of one, two, three and four customers
_HOME_SPREAD_DEG = 0.06  # about 6 km
_SPENDING_SIGMA = 0.6
_ACTIVITY_SIGMA = 1.1
_SECOND_CARD_SIGMA = 0.8
_ONLINE_BETA = (2.0, 4.0)  # a third of the payments are online, for some nearly none, for some nearly all
_PHONE_LIFE_DAYS = 900.0
FAVOURITES = 6  # shops, and as many online merchants, that a card returns to

# Numbers of devices: phone, next phone and laptop of each customer, then the household's tablet, then agents'.
PHONE, NEXT_PHONE, LAPTOP = 0, 1, 2
OWN_DEVICES = 3
_CUSTOMERS_PER_AGENT = 2_000

# Numbers of IP addresses: the household's, each city's mobile networks', hotels', VPN exits', agents'.
HOME_LEASES = 4  # addresses that a household's line changes between
MOBILE_IPS = 64  # a city; many phones share each
HOTEL_IPS = 128  # a city
VPN_IPS = 64


@dataclass(frozen=True, slots=True)
class Population:
    """C customers in H households with K cards.

    Attributes:
        card_customer: Whose the card is, int64 (K,).
        card_total: Running sum of how much the cards are used, float64 (K,).
        household: int64 (C,).
        city: Row of `CITIES` where the customer lives, int64 (C,).
        home_lat: Degrees, float64 (C,).
        home_lon: Degrees, float64 (C,).
        spending: Spending level, 1 in the middle, float64 (C,).
        online: Share of the payments that are online, float64 (C,).
        next_phone_us: When the next phone replaces the first, int64 (C,); past the horizon if never.
        static_ip: Whether the household's address never changes, bool (H,).
        favourite_shops: Merchants in the home city, int64 (K, FAVOURITES).
        favourite_online: Online merchants, int64 (K, FAVOURITES).
        trips: When they are away.
    """

    card_customer: NDArray[np.int64]
    card_total: NDArray[np.float64]
    household: NDArray[np.int64]
    city: NDArray[np.int64]
    home_lat: NDArray[np.float64]
    home_lon: NDArray[np.float64]
    spending: NDArray[np.float64]
    online: NDArray[np.float64]
    next_phone_us: NDArray[np.int64]
    static_ip: NDArray[np.bool_]
    favourite_shops: NDArray[np.int64]
    favourite_online: NDArray[np.int64]
    trips: Trips

    @property
    def cards(self) -> int:
        """How many cards."""
        return len(self.card_customer)

    @property
    def agents(self) -> int:
        """How many agents pay with their clients' cards."""
        return 1 + len(self.city) // _CUSTOMERS_PER_AGENT

    @property
    def first_agent(self) -> int:
        """The first agent's device."""
        return OWN_DEVICES * len(self.city) + len(self.static_ip)

    @property
    def devices(self) -> int:
        """How many numbers the customers' and agents' devices take; a stranger's come after."""
        return self.first_agent + self.agents

    @property
    def first_mobile_ip(self) -> int:
        """The first address of the mobile networks."""
        return HOME_LEASES * len(self.static_ip)

    @property
    def first_hotel_ip(self) -> int:
        """The first address of the hotels."""
        return self.first_mobile_ip + CITY_COUNT * MOBILE_IPS

    @property
    def first_vpn_ip(self) -> int:
        """The first address of the VPN exits."""
        return self.first_hotel_ip + CITY_COUNT * HOTEL_IPS

    @property
    def first_agent_ip(self) -> int:
        """The first agent's office line."""
        return self.first_vpn_ip + VPN_IPS

    @property
    def ips(self) -> int:
        """How many numbers the customers' addresses take; a stranger's come after."""
        return self.first_agent_ip + self.agents

    def draw_cards(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Return `count` cards, each as often as it is used, int64 (count,)."""
        point = rng.random(count) * self.card_total[-1]
        card: NDArray[np.int64] = np.searchsorted(self.card_total, point, side="right").clip(max=self.cards - 1)
        return card


def _households(rng: np.random.Generator, customers: int) -> NDArray[np.int64]:
    sizes = 1 + rng.choice(len(_HOUSEHOLD_SHARE), size=customers, p=_HOUSEHOLD_SHARE)
    return np.repeat(np.arange(customers), sizes)[:customers]


def make_population(rng: np.random.Generator, scenario: Scenario, market: Market) -> Population:
    """Return the population of `scenario`, with habits formed in `market`."""
    cards = scenario.cards
    customers = max(1, round(cards / _CARDS_PER_CUSTOMER))
    household = _households(rng, customers)
    households = int(household[-1]) + 1
    card_customer = np.concatenate([np.arange(customers), rng.integers(customers, size=cards - customers)])
    activity = rng.lognormal(0.0, _ACTIVITY_SIGMA, customers)[card_customer]
    activity[customers:] *= rng.lognormal(-1.0, _SECOND_CARD_SIGMA, cards - customers)

    city_of_household = rng.choice(CITY_COUNT, size=households, p=RESIDENT_SHARE)
    spread = rng.normal(0, _HOME_SPREAD_DEG, (2, households))
    city = city_of_household[household]
    replaced = rng.exponential(_PHONE_LIFE_DAYS, customers) * DAY_US
    home_group = shops_of(np.repeat(city[card_customer], FAVOURITES))
    online_group = np.full(cards * FAVOURITES, ONLINE_GROUP)
    return Population(
        card_customer=card_customer,
        card_total=np.cumsum(activity),
        household=household,
        city=city,
        home_lat=np.round((CITY_LAT[city_of_household] + spread[0])[household], 2),  # as coarse as IP geolocation
        home_lon=np.round((CITY_LON[city_of_household] + spread[1])[household], 2),
        spending=rng.lognormal(0.0, _SPENDING_SIGMA, customers),
        online=rng.beta(*_ONLINE_BETA, customers),
        next_phone_us=np.minimum(replaced, scenario.horizon_us + 1).astype(np.int64),
        static_ip=rng.random(households) < 0.7,
        favourite_shops=market.draw(rng, home_group).reshape(cards, FAVOURITES),
        favourite_online=market.draw(rng, online_group).reshape(cards, FAVOURITES),
        trips=make_trips(rng, city, scenario.days),
    )
