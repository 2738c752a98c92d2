"""From which device, IP address and place an honest customer pays online."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import DAY_US
from tollgate.simulate.places import CITY_COUNT, CITY_LAT, CITY_LON, VISITOR_SHARE
from tollgate.simulate.population import (
    HOME_LEASES,
    HOTEL_IPS,
    LAPTOP,
    MOBILE_IPS,
    NEXT_PHONE,
    OWN_DEVICES,
    PHONE,
    VPN_IPS,
    Population,
)

_PHONE_SHARE, _LAPTOP_SHARE = 0.55, 0.30  # the rest is the household's tablet
_BORROWED_SHARE = 0.008  # a friend's device, seen once
_HOME_SHARE = 0.65  # of the payments made in the home city; the rest comes from the mobile network
_HOTEL_SHARE = 0.6  # of the payments made abroad
_VPN_SHARE = 0.006
_LEASE_US = 9 * DAY_US


@dataclass(frozen=True, slots=True)
class Access:
    """N devices, addresses and places; fields as in `Rows`."""

    device: NDArray[np.int64]
    ip: NDArray[np.int64]
    city: NDArray[np.int64]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]


def draw_access(
    rng: np.random.Generator,
    people: Population,
    customer: NDArray[np.int64],
    city: NDArray[np.int64],
    time_us: NDArray[np.int64],
) -> Access:
    """Return how each customer, then in `city`, reaches an online merchant; all arrays (N,)."""
    device = _devices(rng, people, customer, time_us)
    ip = _mobile_ip(rng, people, city)
    lat, lon = CITY_LAT[city], CITY_LON[city]
    kind = rng.random(len(customer))
    at_home = (city == people.city[customer]) & (kind < _HOME_SHARE)
    ip[at_home] = _home_ip(people, customer, time_us)[at_home]
    lat, lon = np.where(at_home, people.home_lat[customer], lat), np.where(at_home, people.home_lon[customer], lon)
    hotel = (city != people.city[customer]) & (kind < _HOTEL_SHARE)
    ip[hotel] = people.first_hotel_ip + city[hotel] * HOTEL_IPS + rng.integers(HOTEL_IPS, size=int(hotel.sum()))

    # A VPN shows the place of its exit: to a speed check it looks like an account takeover.
    vpn = np.flatnonzero(rng.random(len(customer)) < _VPN_SHARE)
    ip[vpn] = people.first_vpn_ip + rng.integers(VPN_IPS, size=len(vpn))
    shown = city.copy()
    shown[vpn] = rng.choice(CITY_COUNT, size=len(vpn), p=VISITOR_SHARE)
    lat[vpn], lon[vpn] = CITY_LAT[shown[vpn]], CITY_LON[shown[vpn]]
    return Access(device=device, ip=ip, city=shown, lat=lat, lon=lon)


def _devices(
    rng: np.random.Generator, people: Population, customer: NDArray[np.int64], time_us: NDArray[np.int64]
) -> NDArray[np.int64]:
    phone = np.where(time_us >= people.next_phone_us[customer], NEXT_PHONE, PHONE)
    kind = rng.random(len(customer))
    own = customer * OWN_DEVICES + np.where(kind < _PHONE_SHARE, phone, LAPTOP)
    tablet = OWN_DEVICES * len(people.city) + people.household[customer]
    device = np.where(kind < _PHONE_SHARE + _LAPTOP_SHARE, own, tablet)
    borrowed = rng.random(len(customer)) < _BORROWED_SHARE
    # Another customer's laptop: new for this card, yet of good standing.
    device[borrowed] = LAPTOP + OWN_DEVICES * rng.integers(len(people.city), size=int(borrowed.sum()))
    return device


def _home_ip(people: Population, customer: NDArray[np.int64], time_us: NDArray[np.int64]) -> NDArray[np.int64]:
    household = people.household[customer]
    lease = (time_us // _LEASE_US + household) % HOME_LEASES
    return household * HOME_LEASES + np.where(people.static_ip[household], 0, lease)


def _mobile_ip(rng: np.random.Generator, people: Population, city: NDArray[np.int64]) -> NDArray[np.int64]:
    return people.first_mobile_ip + city * MOBILE_IPS + rng.integers(MOBILE_IPS, size=len(city))
