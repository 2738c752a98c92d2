"""Honest payments, with the habits that look like fraud: trips, bursts of shopping, gifts, agents, new devices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import DAY_US, HOUR_US, MINUTE_US
from tollgate.simulate.access import draw_access
from tollgate.simulate.drift import DAYS_A_YEAR, Surge
from tollgate.simulate.market import GIFTS, ONLINE_GROUP, TRAVEL, Market, atms_of, shops_of
from tollgate.simulate.places import CITY_OFFSET_H
from tollgate.simulate.population import FAVOURITES, Population
from tollgate.simulate.rhythm import Rhythm
from tollgate.simulate.rows import ABSENT, GENUINE, Channel, Rows
from tollgate.simulate.scenario import Scenario

_ATM_SHARE, _MOTO_SHARE = 0.06, 0.012
_FOLLOW_UP_SHARE = 0.16  # payments on the same shopping trip, or in the same sitting
_FOLLOW_UP_MEAN_US = 25 * MINUTE_US
_GIFT_SHARE = 0.025
_GIFTS_PER_SPREE = 5
_GIFT_SPREE_US = 36 * HOUR_US
_GIFT_ONLINE_SHARE = 0.75
_GIFT_LOG_MEAN, _GIFT_LOG_SIGMA = 0.7, 0.4  # gifts cost twice what one buys for oneself
_HABIT_SHARE = 0.6  # payments at one of the favourites
_AGENT_SHARE = 0.004  # of the online payments: a travel agent pays with the client's card


@dataclass(frozen=True, slots=True)
class _Plan:
    """Who pays when, and how; all (N,)."""

    card: NDArray[np.int64]
    time_us: NDArray[np.int64]
    channel: NDArray[np.int64]
    gift: NDArray[np.bool_]


def make_genuine(rng: np.random.Generator, people: Population, market: Market, scenario: Scenario) -> Rows:
    """Return as many honest payments as the scenario has payments, in no order."""
    horizon_us, count = scenario.horizon_us, scenario.transactions
    plan = _plan(rng, people, Rhythm(scenario), horizon_us, count)
    customer = people.card_customer[plan.card]
    city, time_us = people.trips.place(customer, people.city[customer], plan.time_us)
    time_us %= horizon_us
    merchant = _merchants(rng, people, market, plan, city)
    dearer = np.exp(rng.normal(_GIFT_LOG_MEAN, _GIFT_LOG_SIGMA, count))
    amount = market.price(rng, merchant, people.spending[customer], np.where(plan.gift, dearer, 1.0))
    rows = Rows(
        time_us=time_us,
        card=plan.card,
        merchant=merchant,
        amount=amount,
        channel=plan.channel,
        device=np.full(count, ABSENT),
        ip=np.full(count, ABSENT),
        city=city,
        lat=market.lat[merchant],
        lon=market.lon[merchant],
        typology=np.full(count, GENUINE),
    )
    _go_online(rng, people, market, rows)
    for surge in scenario.drift.surges:
        _swell(rng, people, market, rows, surge)
    if scenario.drift.inflation:
        dearer_by = (1 + scenario.drift.inflation) ** (rows.time_us / (DAYS_A_YEAR * DAY_US))
        notes = rows.channel == Channel.ATM
        rows.amount[~notes] = np.round(rows.amount * dearer_by, 2)[~notes]
    return rows


def _plan(rng: np.random.Generator, people: Population, rhythm: Rhythm, horizon_us: int, count: int) -> _Plan:
    follow_ups, gifts = int(count * _FOLLOW_UP_SHARE), int(count * _GIFT_SHARE)
    singles = count - follow_ups - gifts
    card = people.draw_cards(rng, singles)
    customer = people.card_customer[card]
    kind = rng.random(singles)
    online = rng.random(singles) < people.online[customer]
    channel = np.where(online, Channel.ECOM, np.where(kind < _ATM_SHARE, Channel.ATM, Channel.POS))
    channel[kind > 1 - _MOTO_SHARE] = Channel.MOTO
    time_us = rhythm.draw(rng, channel) - CITY_OFFSET_H[people.city[customer]] * HOUR_US

    parent = rng.integers(singles, size=follow_ups)
    delay = rng.exponential(_FOLLOW_UP_MEAN_US, follow_ups).astype(np.int64)
    again = np.where(channel[parent] == Channel.ATM, Channel.POS, channel[parent])

    sprees = rng.integers(singles, size=1 + gifts // _GIFTS_PER_SPREE)
    spree = sprees[rng.integers(len(sprees), size=gifts)]
    wait = (rng.random(gifts) * _GIFT_SPREE_US).astype(np.int64)
    gift_channel = np.where(rng.random(gifts) < _GIFT_ONLINE_SHARE, Channel.ECOM, Channel.POS)
    return _Plan(
        card=np.concatenate([card, card[parent], card[spree]]),
        time_us=np.concatenate([time_us, time_us[parent] + delay, time_us[spree] + wait]) % horizon_us,
        channel=np.concatenate([channel, again, gift_channel]),
        gift=np.arange(count) >= singles + follow_ups,
    )


def _merchants(
    rng: np.random.Generator, people: Population, market: Market, plan: _Plan, city: NDArray[np.int64]
) -> NDArray[np.int64]:
    count = len(city)
    online = (plan.channel == Channel.ECOM) | (plan.channel == Channel.MOTO)
    group = np.where(online, ONLINE_GROUP, np.where(plan.channel == Channel.ATM, atms_of(city), shops_of(city)))
    merchant = market.draw(rng, group)
    at_home = city == people.city[people.card_customer[plan.card]]
    habit = (rng.random(count) < _HABIT_SHARE) & (online | at_home) & (plan.channel != Channel.ATM) & ~plan.gift
    which = (rng.random(count) ** 2 * FAVOURITES).astype(np.int64)  # the first ones more often
    favourite = np.where(online, people.favourite_online[plan.card, which], people.favourite_shops[plan.card, which])
    merchant[habit] = favourite[habit]
    bought = np.flatnonzero(plan.gift & online)
    merchant[bought] = market.draw_online(rng, GIFTS, len(bought))
    return merchant


def _go_online(rng: np.random.Generator, people: Population, market: Market, rows: Rows) -> None:
    """Fill in the devices, addresses and places of the payments where no card was present."""
    remote = np.flatnonzero((rows.channel == Channel.ECOM) | (rows.channel == Channel.MOTO))
    customer = people.card_customer[rows.card[remote]]
    access = draw_access(rng, people, customer, rows.city[remote], rows.time_us[remote])
    rows.city[remote], rows.lat[remote], rows.lon[remote] = access.city, access.lat, access.lon
    ecom = rows.channel[remote] == Channel.ECOM
    rows.device[remote[ecom]], rows.ip[remote[ecom]] = access.device[ecom], access.ip[ecom]

    # One device that pays with many cards, honestly: what a card tester's device looks like, but dear and slow.
    by_agent = remote[ecom & (rng.random(len(remote)) < _AGENT_SHARE)]
    agent = rng.integers(people.agents, size=len(by_agent))
    rows.device[by_agent] = people.first_agent + agent
    rows.ip[by_agent] = people.first_agent_ip + agent
    rows.merchant[by_agent] = market.draw_online(rng, TRAVEL, len(by_agent))
    client = people.card_customer[rows.card[by_agent]]
    rows.amount[by_agent] = market.price(rng, rows.merchant[by_agent], people.spending[client])


def _swell(rng: np.random.Generator, people: Population, market: Market, rows: Rows, surge: Surge) -> None:
    """Turn a share of the online payments of some days into such that many make then."""
    since_us = rows.time_us - int(surge.first_day * DAY_US)
    then = (since_us >= 0) & (since_us < surge.days * DAY_US) & (rows.channel == Channel.ECOM)
    bought = np.flatnonzero(then)
    bought = bought[rng.random(len(bought)) < surge.share]
    rows.merchant[bought] = market.draw_online(rng, frozenset(surge.mcc), len(bought))
    spending = people.spending[people.card_customer[rows.card[bought]]]
    rows.amount[bought] = market.price(rng, rows.merchant[bought], spending, surge.factor)
