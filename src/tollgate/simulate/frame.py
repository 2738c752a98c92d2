"""Payments under their names: the columns of the built-in schema, and what an analysis wants to know."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tollgate.simulate.market import MCC, Market
from tollgate.simulate.places import CITIES
from tollgate.simulate.population import Population
from tollgate.simulate.rows import ABSENT, GENUINE, TYPOLOGIES, Channel, Rows
from tollgate.simulate.scenario import Scenario

PAYMENT_FIELDS = (
    "transaction_id",
    "effective_time",
    "amount",
    "currency",
    "card_id",
    "customer_id",
    "merchant_id",
    "device_id",
    "ip",
    "mcc",
    "channel",
    "country",
    "lat",
    "lon",
    "card_present",
)
LABEL_FIELDS = ("is_fraud", "typology", "label_available")

# Share of the values that are lost on their way, as happens with real messages.
_LOST_SHARE = {"customer_id": 0.004, "device_id": 0.02, "ip": 0.006, "mcc": 0.004, "country": 0.003, "location": 0.03}
_IP_SPACE = 2**24  # 10.0.0.0/8: no simulated payment names a real host
_IP_STEP = 0x9E3779  # odd, so that it visits every address once; neighbours land far apart


def _named(prefix: str, number: NDArray[np.int64], count: int) -> pl.Series:
    width = max(6, len(str(count)))
    names = pl.select(pl.format("{}-{}", pl.lit(prefix), pl.int_range(count).cast(pl.String).str.zfill(width)))
    return names.to_series().gather(number)


def _renumbered(rng: np.random.Generator, number: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return the numbers in use, dealt anew at random: a number must not tell whose device it is."""
    used, place = np.unique(number, return_inverse=True)
    return rng.permutation(len(used))[place], len(used)


def _devices(rng: np.random.Generator, device: NDArray[np.int64]) -> pl.Series:
    number, count = _renumbered(rng, device)
    return _without(_named("device", number, count), device == ABSENT)


def _ips(rng: np.random.Generator, ip: NDArray[np.int64]) -> pl.Series:
    number, count = _renumbered(rng, ip)
    address = pl.Series("address", np.arange(count) * _IP_STEP % _IP_SPACE)
    names = pl.select(pl.format("10.{}.{}.{}", address // 65536, address // 256 % 256, address % 256)).to_series()
    return _without(names.gather(number), ip == ABSENT)


def _without(values: pl.Series, lost: NDArray[np.bool_]) -> pl.Series:
    return values.set(pl.Series(lost), None)


def to_frame(
    rng: np.random.Generator,
    rows: Rows,
    label_delay_us: NDArray[np.int64],
    people: Population,
    market: Market,
    scenario: Scenario,
) -> pl.DataFrame:
    """Return the payments, sorted by time, as `PAYMENT_FIELDS` and `LABEL_FIELDS`.

    Args:
        rng: Where the randomness comes from.
        rows: N payments, sorted by time.
        label_delay_us: How long after the payment its label arrives, int64 (N,).
        people: Whose payments they are.
        market: Where they were made.
        scenario: Its seed is part of the transaction ids, so that two scenarios share none.
    """
    count = len(rows)
    customer = people.card_customer[rows.card]
    present = (rows.channel == Channel.POS) | (rows.channel == Channel.ATM)
    lost = {name: rng.random(count) < share for name, share in _LOST_SHARE.items()}
    country = pl.Series([city.country for city in CITIES])
    channel = pl.Series([code.name.lower() for code in Channel])
    typology = pl.Series([None, *TYPOLOGIES, *(one.name for one in scenario.campaigns)], dtype=pl.String)
    time_us = rows.time_us + scenario.start_us
    columns = {
        "transaction_id": _named(f"tx-{scenario.seed}", np.arange(count), count),
        "effective_time": _time(time_us),
        "amount": pl.Series(rows.amount),
        "currency": pl.repeat("EUR", count, eager=True),
        "card_id": _named("card", rows.card, people.cards),
        "customer_id": _without(_named("customer", customer, len(people.city)), lost["customer_id"]),
        "merchant_id": _named("merchant", rows.merchant, len(market)),
        "device_id": _without(_devices(rng, rows.device), lost["device_id"]),
        "ip": _without(_ips(rng, rows.ip), lost["ip"]),
        "mcc": _without(pl.Series(MCC).gather(market.business[rows.merchant]), lost["mcc"]),
        "channel": channel.gather(rows.channel),
        "country": _without(country.gather(rows.city), lost["country"]),
        "lat": _without(pl.Series(rows.lat), lost["location"]),
        "lon": _without(pl.Series(rows.lon), lost["location"]),
        "card_present": pl.Series(present),
        "is_fraud": pl.Series(rows.typology != GENUINE),
        "typology": typology.gather(rows.typology),
        "label_available": _time(time_us + label_delay_us),
    }
    return pl.DataFrame(columns).select(*PAYMENT_FIELDS, *LABEL_FIELDS)


def _time(time_us: NDArray[np.int64]) -> pl.Series:
    return pl.Series(time_us).cast(pl.Datetime("us", "UTC"))
