"""Stolen card: a lost wallet is spent in the shops and cash machines nearby, until the card is blocked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import DAY_US, MINUTE_US
from tollgate.simulate.attack import Payments, World, attack_count, course, cut, lognormal
from tollgate.simulate.market import RESALEABLE, atms_of, banknotes, shops_of
from tollgate.simulate.rows import Channel, Rows, code_of

_MIN_PAYMENTS, _MEAN_MORE_PAYMENTS = 2, 5
_WAIT_US = 35 * MINUTE_US  # since the owner's last payment
_GAP_US = 12 * MINUTE_US
_PIN_SHARE = 0.4  # of the thieves saw the PIN
_CASH_SHARE = 0.4  # of what those do is drawing cash
_CASH_EUR = 200.0
_CONTACTLESS_PAYMENTS = 1  # a thief without the PIN begins below the limit that asks for none
_CONTACTLESS_EUR = 50.0
_FACTOR = 2.2
_SHOPS_PASSED = 3  # that the thief looks into for something to sell on, else takes what there is
_SILENCE_US = 3 * DAY_US  # the owner waits for a new card


def attack(rng: np.random.Generator, world: World, budget: int) -> Rows:
    """Return `budget` such payments, or fewer, in the city where the owner last paid in person."""
    attacks = attack_count(budget, _MIN_PAYMENTS + _MEAN_MORE_PAYMENTS)
    plan = course(_MIN_PAYMENTS + rng.geometric(1 / _MEAN_MORE_PAYMENTS, attacks))
    number, count = plan.attack, len(plan.attack)
    in_person = np.flatnonzero(world.genuine.channel == Channel.POS)
    if not len(in_person):
        return world.genuine.take(in_person)  # nobody carries a wallet
    victim = in_person[rng.integers(len(in_person), size=attacks)]
    start_us = world.genuine.time_us[victim] + lognormal(rng, _WAIT_US, 0.8, attacks).astype(np.int64)
    city = world.genuine.city[victim][number]
    knows_pin = (rng.random(attacks) < _PIN_SHARE)[number]
    cash = knows_pin & (rng.random(count) < _CASH_SHARE)
    shop = world.market.draw(rng, shops_of(city))
    for _ in range(_SHOPS_PASSED):
        next_door = world.market.draw(rng, shops_of(city))
        shop = np.where(world.market.is_in(RESALEABLE, next_door), next_door, shop)
    merchant = np.where(cash, world.market.draw(rng, atms_of(city)), shop)
    price = world.market.price(rng, merchant, factor=lognormal(rng, _FACTOR, 0.4, count))
    limit = np.round(_CONTACTLESS_EUR * (1 - 0.4 * rng.random(count)), 2)
    timid = ~knows_pin & (plan.step < _CONTACTLESS_PAYMENTS)
    amount = np.where(timid, np.minimum(price, limit), price)
    rows = Payments(
        code_of("stolen_card"),
        time_us=start_us[number] + plan.elapsed(lognormal(rng, _GAP_US, 0.8, count)),
        card=world.genuine.card[victim][number],
        merchant=merchant,
        amount=np.where(cash, banknotes(lognormal(rng, _CASH_EUR, 0.5, count)), amount),
        city=city,
    ).in_person(world.market, np.where(cash, Channel.ATM, Channel.POS))
    return cut(rows, number, world.horizon_us, budget)


def silenced(world: World, stolen: Rows) -> NDArray[np.bool_]:
    """Return which honest payments, bool (N,), their owners could not make for the card was stolen or blocked."""
    never = world.horizon_us + _SILENCE_US
    stolen_us = np.full(world.people.cards, never)
    np.minimum.at(stolen_us, stolen.card, stolen.time_us)
    since = world.genuine.time_us - stolen_us[world.genuine.card]
    silent: NDArray[np.bool_] = (since > 0) & (since < _SILENCE_US)
    return silent
