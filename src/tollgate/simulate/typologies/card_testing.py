"""Card testing: one device tries many stolen numbers with tiny amounts, then uses those that work."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import HOUR_US, MINUTE_US, SECOND_US
from tollgate.simulate.attack import LOCAL_SHARE, Payments, World, attack_count, course, cut, draw_cities, lognormal
from tollgate.simulate.market import RESALEABLE, TESTABLE, round_price
from tollgate.simulate.rows import Rows, code_of, join

_CODE = code_of("card_testing")
_MIN_PROBES, _MEAN_MORE_PROBES = 6, 22
_SLOW_SHARE = 0.3  # of the testers spread the probes over hours, to stay under a velocity rule
_FAST_GAP_US, _SLOW_GAP_US = 15 * SECOND_US, 8 * MINUTE_US
_MERCHANTS = 3
_IPS = 4
_PROBE_EUR = 1.2
_HIT_SHARE = 0.2  # of the probed cards are then used for real
_HIT_WAIT_US = 4 * HOUR_US
_HIT_FACTOR = 1.2
_SAME_DEVICE_SHARE = 0.5


def attack(rng: np.random.Generator, world: World, budget: int) -> Rows:
    """Return `budget` such payments, or fewer."""
    attacks = attack_count(budget, (_MIN_PROBES + _MEAN_MORE_PROBES) * (1 + _HIT_SHARE))
    number, probes = _probes(rng, world, attacks)
    hit = np.flatnonzero(rng.random(len(probes)) < _HIT_SHARE)
    hits = _hits(rng, world, probes.take(hit))
    return cut(join([probes, hits]), np.concatenate([number, number[hit]]), world.horizon_us, budget)


def _probes(rng: np.random.Generator, world: World, attacks: int) -> tuple[NDArray[np.int64], Rows]:
    """Return the number of the attack that each probe belongs to, int64 (N,), and the N probes."""
    plan = course(_MIN_PROBES + rng.geometric(1 / _MEAN_MORE_PROBES, attacks))
    number, count = plan.attack, len(plan.attack)
    gap_us = np.where(rng.random(attacks) < _SLOW_SHARE, _SLOW_GAP_US, _FAST_GAP_US)[number]
    start_us = (rng.random(attacks) * world.horizon_us).astype(np.int64)
    card = rng.integers(world.people.cards, size=count)
    home = world.people.city[world.people.card_customer[card]]
    local = rng.random(attacks) < LOCAL_SHARE
    merchant = world.market.draw_online(rng, TESTABLE, attacks * _MERCHANTS).reshape(attacks, _MERCHANTS)
    device = world.devices.take(attacks)
    ip = world.ips.take(attacks * _IPS).reshape(attacks, _IPS)
    probes = Payments(
        _CODE,
        time_us=start_us[number] + plan.elapsed(gap_us * lognormal(rng, 1.0, 0.8, count)),
        card=card,
        merchant=merchant[number, rng.integers(_MERCHANTS, size=count)],
        amount=round_price(rng, lognormal(rng, _PROBE_EUR, 0.6, count)),
        city=np.where(local[number], home, draw_cities(rng, attacks)[number]),
    )
    return number, probes.online(device[number], ip[number, rng.integers(_IPS, size=count)])


def _hits(rng: np.random.Generator, world: World, probes: Rows) -> Rows:
    """Return one dear payment for each probe that worked."""
    count = len(probes)
    merchant = world.market.draw_online(rng, RESALEABLE, count)
    same = rng.random(count) < _SAME_DEVICE_SHARE
    hits = Payments(
        _CODE,
        time_us=probes.time_us + lognormal(rng, _HIT_WAIT_US * world.pace, 1.0, count).astype(np.int64),
        card=probes.card,
        merchant=merchant,
        amount=world.market.price(rng, merchant, factor=lognormal(rng, _HIT_FACTOR, 0.3, count)),
        city=probes.city,
    )
    return hits.online(
        device=np.where(same, probes.device, world.devices.take(count)),
        ip=np.where(same, probes.ip, world.ips.take(count)),
    )
