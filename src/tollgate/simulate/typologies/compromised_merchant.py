"""Compromised merchant: cards that paid at a breached merchant are misused elsewhere, days later."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import DAY_US, HOUR_US
from tollgate.simulate.attack import (
    LOCAL_SHARE,
    Payments,
    World,
    attack_count,
    course,
    cut,
    draw_cities,
    draw_loot,
    lognormal,
    mobile_ip,
)
from tollgate.simulate.rows import Rows, code_of

_MOST_CARDS = 60  # of one breach
_FEWEST_BREACHES = 12  # in a small scenario, many a breach catches nobody
_FEWEST_MISUSES = 20  # that even a small merchant's breach leads to, about
_LATEST = 0.85  # share of the scenario in which breaches begin: of a later one, nothing would be seen
_BREACH_DAYS = (2.0, 6.0)
_SALE_DAYS = 3.0  # from the breach to the first misuse
_SPREAD_DAYS = 3.0  # from the first card of a breach to the others
_MEAN_MISUSES = 2
_GAP_US = 3 * HOUR_US
_LOT = 5  # cards that one buyer takes, and uses from one device
_MOBILE_SHARE = 0.5
_RESALEABLE_SHARE = 0.5
_FACTOR = 1.3


def attack(rng: np.random.Generator, world: World, budget: int) -> Rows:
    """Return `budget` such payments, or fewer."""
    card, ready_us = _harvest(rng, world, _FEWEST_BREACHES + attack_count(budget, _FEWEST_MISUSES))
    cards = len(card)
    plan = course(rng.geometric(1 / _MEAN_MISUSES, cards))
    number, count = plan.attack, len(plan.attack)
    start_us = ready_us + rng.exponential(_SPREAD_DAYS * world.pace * DAY_US, cards).astype(np.int64)
    lot, lots = np.arange(cards) // _LOT, 1 + cards // _LOT
    home = world.people.city[world.people.card_customer[card]]
    city = np.where((rng.random(lots) < LOCAL_SHARE)[lot], home, draw_cities(rng, lots)[lot])
    ip = np.where(rng.random(cards) < _MOBILE_SHARE, mobile_ip(rng, world, city), world.ips.take(lots)[lot])
    merchant = draw_loot(rng, world, _RESALEABLE_SHARE, count)
    rows = Payments(
        code_of("compromised_merchant"),
        time_us=start_us[number] + plan.elapsed(lognormal(rng, _GAP_US, 1.0, count)),
        card=card[number],
        merchant=merchant,
        amount=world.market.price(rng, merchant, factor=lognormal(rng, _FACTOR, 0.4, count)),
        city=city[number],
    ).online(world.devices.take(lots)[lot][number], ip[number])
    return cut(rows, number, world.horizon_us, budget)


def _harvest(rng: np.random.Generator, world: World, breaches: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the cards stolen at `breaches` merchants, and when each comes into use; both int64 (cards,), by breach."""
    genuine, at = world.genuine, world.genuine.merchant
    merchant = np.unique(at[rng.integers(len(genuine), size=breaches)])
    breaches = len(merchant)
    begin_us = np.full(len(world.market), np.iinfo(np.int64).max)
    end_us = np.full(len(world.market), np.iinfo(np.int64).min)
    length_us = rng.uniform(*_BREACH_DAYS, breaches) * world.pace * DAY_US
    begin_us[merchant] = (rng.random(breaches) * _LATEST * world.horizon_us).astype(np.int64)
    end_us[merchant] = begin_us[merchant] + length_us.astype(np.int64)
    caught = np.flatnonzero((genuine.time_us >= begin_us[at]) & (genuine.time_us < end_us[at]))

    # Breaches are numbered at random, not by merchant: the budget takes the first ones.
    breach_of = np.empty(len(world.market), dtype=np.int64)
    breach_of[merchant] = rng.permutation(breaches)
    pair = np.unique(breach_of[at[caught]] * world.people.cards + genuine.card[caught])
    pair = rng.permutation(pair)
    pair = pair[np.argsort(pair // world.people.cards, kind="stable")]
    breach, card = np.divmod(pair, world.people.cards)
    sold = np.arange(len(breach)) - np.searchsorted(breach, breach) < _MOST_CARDS

    wait_us = lognormal(rng, _SALE_DAYS * world.pace * DAY_US, 0.5, breaches)
    ready_us = np.empty(breaches, dtype=np.int64)
    ready_us[breach_of[merchant]] = end_us[merchant] + wait_us.astype(np.int64)
    return card[sold], ready_us[breach[sold]]
