"""The kinds of fraud. Each is an attack with its own course over minutes, hours or days.

Every one can be told from honest payments only in part: each signal that it leaves is also left by some
honest customer (a trip, a new phone, a spree of gifts, a travel agent's device, a VPN).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from tollgate.simulate.attack import (
    Payments,
    World,
    attack_count,
    course,
    cut,
    draw_cities,
    lognormal,
    mobile_ip,
)
from tollgate.simulate.market import (
    ONLINE_GROUP,
    RESALEABLE,
    TESTABLE,
    atms_of,
    banknotes,
    round_price,
    shops_of,
)
from tollgate.simulate.population import Population
from tollgate.simulate.rows import Channel, Rows, join

_MIN_PROBES, _MEAN_MORE_PROBES = 6, 22
_SLOW_TESTER_SHARE = 0.3  # spreads the probes over hours, to stay under a velocity rule
_FAST_GAP_US, _SLOW_GAP_US = 15 * SECOND_US, 8 * MINUTE_US
_TESTER_MERCHANTS = 3
_TESTER_IPS = 4
_LOCAL_PROXY_SHARE = 0.4  # attacks through addresses in the victim's own city
_PROBE_EUR = 1.2
_HIT_SHARE = 0.2  # probed cards that are then used for real
_HIT_WAIT_US = 4 * HOUR_US


def card_testing(rng: np.random.Generator, world: World, budget: int) -> Rows:
    """Return bursts of tiny payments with many cards from one device, and larger ones with those that worked."""
    attacks = attack_count(budget, (_MIN_PROBES + _MEAN_MORE_PROBES) * (1 + _HIT_SHARE))
    plan = course(_MIN_PROBES + rng.geometric(1 / _MEAN_MORE_PROBES, attacks))
    attack, count = plan.attack, len(plan.attack)
    gap = np.where(rng.random(attacks) < _SLOW_TESTER_SHARE, _SLOW_GAP_US, _FAST_GAP_US)[attack]
    start = (rng.random(attacks) * world.horizon_us).astype(np.int64)
    card = rng.integers(world.people.cards, size=count)
    home = world.people.city[world.people.card_customer[card]]
    local = rng.random(attacks) < _LOCAL_PROXY_SHARE
    few_merchants = world.market.draw_online(rng, TESTABLE, attacks * _TESTER_MERCHANTS).reshape(attacks, -1)
    device = world.devices.take(attacks)
    ips = world.ips.take(attacks * _TESTER_IPS).reshape(attacks, -1)
    probes = Payments(
        "card_testing",
        time_us=start[attack] + plan.elapsed(gap * lognormal(rng, 1.0, 0.8, count)),
        card=card,
        merchant=few_merchants[attack, rng.integers(_TESTER_MERCHANTS, size=count)],
        amount=round_price(rng, lognormal(rng, _PROBE_EUR, 0.6, count)),
        city=np.where(local[attack], home, draw_cities(rng, attacks)[attack]),
    ).online(device[attack], ips[attack, rng.integers(_TESTER_IPS, size=count)])

    hit = np.flatnonzero(rng.random(count) < _HIT_SHARE)
    merchant = world.market.draw_online(rng, RESALEABLE, len(hit))
    same_device = rng.random(len(hit)) < 0.5
    hits = Payments(
        "card_testing",
        time_us=probes.time_us[hit] + lognormal(rng, _HIT_WAIT_US * world.pace, 1.0, len(hit)).astype(np.int64),
        card=card[hit],
        merchant=merchant,
        amount=world.market.price(rng, merchant, lognormal(rng, 1.5, 0.5, len(hit))),
        city=probes.city[hit],
    ).online(
        np.where(same_device, probes.device[hit], world.devices.take(len(hit))),
        np.where(same_device, probes.ip[hit], world.ips.take(len(hit))),
    )
    return cut(join([probes, hits]), np.concatenate([attack, attack[hit]]), world.horizon_us, budget)


_MEAN_MORE_TAKEOVER_PAYMENTS = 3
_TAKEOVER_WAIT_US = 40 * MINUTE_US  # since the victim's own last payment
_TAKEOVER_GAP_US = 25 * MINUTE_US
_RING_SHARE = 0.4  # of the attackers use a device that they used before
_RING_ATTACKS = 6
_TAKEOVER_FACTOR = 1.6


def account_takeover(rng: np.random.Generator, world: World, budget: int) -> Rows:
    """Return payments from a stranger's device and address, soon after the victim paid somewhere else."""
    attacks = attack_count(budget, 1 + _MEAN_MORE_TAKEOVER_PAYMENTS)
    plan = course(1 + rng.geometric(1 / _MEAN_MORE_TAKEOVER_PAYMENTS, attacks))
    attack, count = plan.attack, len(plan.attack)
    victim = rng.integers(len(world.genuine), size=attacks)
    card = world.genuine.card[victim]
    customer = world.people.card_customer[card]
    start = world.genuine.time_us[victim] + lognormal(rng, _TAKEOVER_WAIT_US, 1.0, attacks).astype(np.int64)
    local = rng.random(attacks) < _LOCAL_PROXY_SHARE
    city = np.where(local, world.people.city[customer], draw_cities(rng, attacks))
    ring = world.devices.take(1 + attacks // _RING_ATTACKS)
    known = rng.random(attacks) < _RING_SHARE
    device = np.where(known, ring[rng.integers(len(ring), size=attacks)], world.devices.take(attacks))
    ip = np.where(rng.random(attacks) < 0.5, mobile_ip(rng, world, city), world.ips.take(attacks))
    merchant = np.where(
        rng.random(count) < 0.6,
        world.market.draw_online(rng, RESALEABLE, count),
        world.market.draw(rng, np.full(count, ONLINE_GROUP)),
    )
    price = world.market.price(rng, merchant, world.people.spending[customer][attack])
    rows = Payments(
        "account_takeover",
        time_us=start[attack] + plan.elapsed(lognormal(rng, _TAKEOVER_GAP_US, 0.9, count)),
        card=card[attack],
        merchant=merchant,
        amount=np.round(price * lognormal(rng, _TAKEOVER_FACTOR, 0.4, count), 2),
        city=city[attack],
    ).online(device[attack], ip[attack])
    return cut(rows, attack, world.horizon_us, budget)


_MIN_SPREE, _MEAN_MORE_SPREE = 2, 4
_THEFT_WAIT_US = 35 * MINUTE_US
_SPREE_GAP_US = 12 * MINUTE_US
_PIN_SHARE = 0.35  # of the thieves saw the PIN
_PIN_ATM_SHARE = 0.4  # of what they then do is drawing cash
_CONTACTLESS_STEPS = 2  # first without the PIN, below its limit
_CONTACTLESS_EUR = 50.0
_SPREE_FACTOR = 1.8
_CASH_EUR = 200.0
STOLEN_SILENCE_US = 3 * DAY_US  # the owner waits for a new card


def stolen_card(rng: np.random.Generator, world: World, budget: int) -> Rows:
    """Return sprees in the shops and at the cash machines of the city where the owner last paid in person."""
    attacks = attack_count(budget, _MIN_SPREE + _MEAN_MORE_SPREE)
    plan = course(_MIN_SPREE + rng.geometric(1 / _MEAN_MORE_SPREE, attacks))
    attack, count = plan.attack, len(plan.attack)
    victim = rng.choice(np.flatnonzero(world.genuine.channel == Channel.POS), size=attacks)
    start = world.genuine.time_us[victim] + lognormal(rng, _THEFT_WAIT_US, 0.8, attacks).astype(np.int64)
    city = world.genuine.city[victim][attack]
    knows_pin = rng.random(attacks) < _PIN_SHARE
    cash = knows_pin[attack] & (rng.random(count) < _PIN_ATM_SHARE)
    seen, better = world.market.draw(rng, shops_of(city)), world.market.draw(rng, shops_of(city))
    shop = np.where(world.market.is_in(RESALEABLE, better), better, seen)  # passes by a shop to find a better one
    merchant = np.where(cash, world.market.draw(rng, atms_of(city)), shop)
    price = world.market.price(rng, merchant, np.ones(count)) * lognormal(rng, _SPREE_FACTOR, 0.4, count)
    small = np.minimum(price, _CONTACTLESS_EUR * (1 - 0.4 * rng.random(count)))
    amount = np.where((plan.step < _CONTACTLESS_STEPS) & ~knows_pin[attack], small, price)
    rows = Payments(
        "stolen_card",
        time_us=start[attack] + plan.elapsed(lognormal(rng, _SPREE_GAP_US, 0.8, count)),
        card=world.genuine.card[victim][attack],
        merchant=merchant,
        amount=np.where(cash, banknotes(lognormal(rng, _CASH_EUR, 0.5, count)), np.round(amount, 2)),
        city=city,
    ).in_person(world.market, np.where(cash, Channel.ATM, Channel.POS))
    return cut(rows, attack, world.horizon_us, budget)


_CARDS_PER_BREACH = 60  # at most
_FEWEST_MISUSES = 20  # that even a small merchant's breach leads to, about
_MEAN_MISUSES = 2
_BREACH_LATEST = 0.4  # share of the scenario in which breaches begin, so that their harvest is seen
_BREACH_DAYS = (2.0, 6.0)
_SALE_WAIT_DAYS = 4.0  # from the breach to the first misuse
_MISUSE_SPREAD_DAYS = 3.0
_MISUSE_GAP_US = 3 * HOUR_US
_LOT = 5  # cards that one buyer takes, and uses from one device
_MISUSE_FACTOR = 1.3


def _harvest(rng: np.random.Generator, world: World, breaches: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the cards stolen at `breaches` merchants, and when each can be misused; both (cards,), by breach."""
    genuine = world.genuine
    merchant = np.unique(genuine.merchant[rng.integers(len(genuine), size=breaches)])
    begin = np.full(len(world.market), np.iinfo(np.int64).max)
    end = np.full(len(world.market), np.iinfo(np.int64).min)
    days = rng.uniform(*_BREACH_DAYS, len(merchant)) * world.pace
    begin[merchant] = (rng.random(len(merchant)) * _BREACH_LATEST * world.horizon_us).astype(np.int64)
    end[merchant] = begin[merchant] + (days * DAY_US).astype(np.int64)
    paid_at = genuine.merchant
    caught = np.flatnonzero((genuine.time_us >= begin[paid_at]) & (genuine.time_us < end[paid_at]))
    # One row for each pair of merchant and card; the merchants in a random order, not that of their numbers.
    turn = np.empty(len(world.market), dtype=np.int64)
    turn[merchant] = rng.permutation(len(merchant))
    pair = np.unique(turn[paid_at[caught]] * world.people.cards + genuine.card[caught])
    breach, card = np.divmod(pair, world.people.cards)
    shuffled = np.lexsort((rng.random(len(pair)), breach))
    breach, card = breach[shuffled], card[shuffled]
    place = np.arange(len(breach)) - np.searchsorted(breach, breach)
    sold = place < _CARDS_PER_BREACH
    wait = lognormal(rng, _SALE_WAIT_DAYS * world.pace * DAY_US, 0.5, len(merchant)).astype(np.int64)
    ready = np.empty(len(merchant), dtype=np.int64)
    ready[turn[merchant]] = end[merchant] + wait
    return card[sold], ready[breach[sold]]


def compromised_merchant(rng: np.random.Generator, world: World, budget: int) -> Rows:
    """Return misuse online, days later, of cards that paid at a breached merchant."""
    card, ready = _harvest(rng, world, attack_count(budget, _FEWEST_MISUSES))
    cards = len(card)
    plan = course(rng.geometric(1 / _MEAN_MISUSES, cards))
    attack, count = plan.attack, len(plan.attack)
    start = ready + rng.exponential(_MISUSE_SPREAD_DAYS * world.pace * DAY_US, cards).astype(np.int64)
    lot = np.arange(cards) // _LOT
    lots = 1 + cards // _LOT
    city = np.where(
        rng.random(lots)[lot] < _LOCAL_PROXY_SHARE,
        world.people.city[world.people.card_customer[card]],
        draw_cities(rng, lots)[lot],
    )
    ip = np.where(rng.random(cards) < 0.5, mobile_ip(rng, world, city), world.ips.take(lots)[lot])
    merchant = np.where(
        rng.random(count) < 0.5,
        world.market.draw_online(rng, RESALEABLE, count),
        world.market.draw(rng, np.full(count, ONLINE_GROUP)),
    )
    price = world.market.price(rng, merchant, np.ones(count)) * lognormal(rng, _MISUSE_FACTOR, 0.4, count)
    rows = Payments(
        "compromised_merchant",
        time_us=start[attack] + plan.elapsed(lognormal(rng, _MISUSE_GAP_US, 1.0, count)),
        card=card[attack],
        merchant=merchant,
        amount=np.round(price, 2),
        city=city[attack],
    ).online(world.devices.take(lots)[lot][attack], ip[attack])
    return cut(rows, attack, world.horizon_us, budget)


_DISPUTING_SHARE = 0.04  # of the customers
_WORTH_DISPUTING_EUR = 20.0


def first_party(rng: np.random.Generator, people: Population, genuine: Rows, budget: int) -> NDArray[np.int64]:
    """Return the rows of `genuine` that their makers later dispute; they look as honest as the others."""
    disputes = rng.random(len(people.city)) < _DISPUTING_SHARE
    worth = (genuine.channel == Channel.ECOM) & (genuine.amount > _WORTH_DISPUTING_EUR)
    likely = worth & disputes[people.card_customer[genuine.card]]
    # Those of the disputing customers first, then, if there are too few, those of anyone.
    rank = rng.random(len(genuine)) + np.where(likely, 0, np.where(worth, 1, 2))
    return np.argsort(rank, kind="stable")[:budget]
