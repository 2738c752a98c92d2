"""Account takeover: a stranger's device pays from another's account, several times in hours."""

from __future__ import annotations

import numpy as np

from tollgate.duration import MINUTE_US
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

_MEAN_MORE_PAYMENTS = 3
_WAIT_US = 40 * MINUTE_US  # since the victim's own last payment: no airliner is that fast
_GAP_US = 25 * MINUTE_US
_RING_SHARE = 0.4  # of the attackers use a device that they used before
_RING_ATTACKS = 6  # attacks for each such device
_MOBILE_SHARE = 0.5  # through a mobile network, whose addresses honest customers share
_RESALEABLE_SHARE = 0.6
_FACTOR = 1.6


def attack(rng: np.random.Generator, world: World, budget: int) -> Rows:
    """Return `budget` such payments, or fewer."""
    attacks = attack_count(budget, 1 + _MEAN_MORE_PAYMENTS)
    plan = course(1 + rng.geometric(1 / _MEAN_MORE_PAYMENTS, attacks))
    number, count = plan.attack, len(plan.attack)
    victim = rng.integers(len(world.genuine), size=attacks)
    card = world.genuine.card[victim]
    customer = world.people.card_customer[card]
    start_us = world.genuine.time_us[victim] + lognormal(rng, _WAIT_US, 1.0, attacks).astype(np.int64)
    local = rng.random(attacks) < LOCAL_SHARE
    city = np.where(local, world.people.city[customer], draw_cities(rng, attacks))
    ring = world.devices.take(1 + attacks // _RING_ATTACKS)
    known = rng.random(attacks) < _RING_SHARE
    device = np.where(known, ring[rng.integers(len(ring), size=attacks)], world.devices.take(attacks))
    ip = np.where(rng.random(attacks) < _MOBILE_SHARE, mobile_ip(rng, world, city), world.ips.take(attacks))
    merchant = draw_loot(rng, world, _RESALEABLE_SHARE, count)
    spending = world.people.spending[customer][number]
    rows = Payments(
        code_of("account_takeover"),
        time_us=start_us[number] + plan.elapsed(lognormal(rng, _GAP_US, 0.9, count)),
        card=card[number],
        merchant=merchant,
        amount=world.market.price(rng, merchant, spending, factor=lognormal(rng, _FACTOR, 0.4, count)),
        city=city[number],
    ).online(device[number], ip[number])
    return cut(rows, number, world.horizon_us, budget)
