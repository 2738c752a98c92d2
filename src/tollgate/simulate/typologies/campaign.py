"""A campaign: fraud whose whole course is data, so that new kinds of it can come and go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tollgate.simulate.access import draw_access
from tollgate.simulate.attack import Payments, World, attack_count, course, cut, lognormal
from tollgate.simulate.campaign import Campaign, Tactic
from tollgate.simulate.market import round_price
from tollgate.simulate.places import CITIES
from tollgate.simulate.rows import ABSENT, Channel, Rows

_GAP_SIGMA = 0.8
_PLACE = {city.name: place for place, city in enumerate(CITIES)}


def attack(rng: np.random.Generator, world: World, campaign: Campaign, code: int, budget: int) -> Rows:
    """Return `budget` payments of `campaign`, or fewer, with `code` as their typology."""
    tactic = campaign.tactic
    end_us = campaign.end_us(world.horizon_us)
    attacks = attack_count(budget, tactic.payments)
    plan = course(rng.geometric(1 / tactic.payments, attacks))
    number, count = plan.attack, len(plan.attack)
    start_us = campaign.start_us + (rng.random(attacks) * max(end_us - campaign.start_us, 0)).astype(np.int64)
    card = world.people.draw_cards(rng, attacks)
    customer = world.people.card_customer[card]
    home = world.people.city[customer]
    city = home if tactic.city is None else np.full(attacks, _PLACE[tactic.city])
    shops = world.market.draw_online(rng, frozenset(tactic.mcc), tactic.merchants)
    time_us = start_us[number] + plan.elapsed(lognormal(rng, tactic.gap_us, _GAP_SIGMA, count))
    payments = Payments(
        code,
        time_us=time_us,
        card=card[number],
        merchant=shops[rng.integers(tactic.merchants, size=count)],
        amount=round_price(rng, lognormal(rng, tactic.amount_eur, tactic.sigma, count)),
        city=city[number],
    )
    if tactic.channel == "moto":
        absent = np.full(count, ABSENT)
        rows = replace(payments.online(absent, absent), channel=np.full(count, int(Channel.MOTO)))
    elif tactic.device == "own":
        own = draw_access(rng, world.people, customer[number], home[number], time_us)
        rows = replace(payments.online(own.device, own.ip), city=own.city, lat=own.lat, lon=own.lon)
    else:
        device, ip = _strange(rng, world, tactic, attacks)
        rows = payments.online(device[number], ip[number])
    return cut(rows, number, end_us, budget)


def _strange(
    rng: np.random.Generator, world: World, tactic: Tactic, attacks: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a device and an address for each attack that nobody honest has, int64 (A,)."""
    if tactic.device == "fresh":
        return world.devices.take(attacks), world.ips.take(attacks)
    count = 1 + attacks // tactic.cards_per_device
    # In the order in which they are drawn, attacks are at random times: a device serves the campaign long.
    chosen = rng.integers(count, size=attacks)
    return world.devices.take(count)[chosen], world.ips.take(count)[chosen]
