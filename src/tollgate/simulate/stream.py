"""From a scenario to its payments, to a file of them, and to bodies for `POST /predict`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from tollgate.errors import ConfigError
from tollgate.simulate.attack import Numbers, World
from tollgate.simulate.frame import PAYMENT_FIELDS, to_frame
from tollgate.simulate.genuine import make_genuine
from tollgate.simulate.labels import label_delays
from tollgate.simulate.market import make_market
from tollgate.simulate.population import make_population
from tollgate.simulate.rows import TYPOLOGIES, Rows, code_of, join
from tollgate.simulate.scenario import Scenario
from tollgate.simulate.typologies import (
    account_takeover,
    campaign,
    card_testing,
    compromised_merchant,
    first_party,
    stolen_card,
)

_ATTACKS = {
    "card_testing": card_testing.attack,
    "account_takeover": account_takeover.attack,
    "stolen_card": stolen_card.attack,
    "compromised_merchant": compromised_merchant.attack,
}
_FIRST_PARTY = code_of("first_party")
_STEP_US = 1_000  # clocks of payment systems tell milliseconds
_ROW_GROUP = 250_000
_BODIES_AT_A_TIME = 10_000


def simulate(scenario: Scenario) -> pl.DataFrame:
    """Return the payments of `scenario`, sorted by `effective_time`; the same scenario gives the same frame.

    The columns are those of `tollgate.schema.payment_schema` (a location is `lat` and `lon`), then `is_fraud`,
    `typology` (or the campaign; null for an honest payment; for analysis only) and `label_available`, when the label
    arrives. Times are Datetime in microseconds, UTC; amounts are Float64, in euros and whole cents.

    The whole frame is made in memory, about 450 bytes a payment at the peak. Fewer frauds than asked for come out
    only of a scenario that is too small for an attack to run its course.
    """
    rng = np.random.default_rng(scenario.seed)
    market = make_market(rng, scenario.merchants)
    people = make_population(rng, scenario, market)
    genuine = make_genuine(rng, people, market, scenario)
    world = World(
        people, market, genuine, scenario.horizon_us, devices=Numbers(people.devices), ips=Numbers(people.ips)
    )
    rows = _with_fraud(rng, world, scenario)
    rows.time_us[:] = rows.time_us // _STEP_US * _STEP_US
    rows = rows.take(np.argsort(rows.time_us, kind="stable"))
    delay_us = label_delays(rng, rows.typology, scenario)
    return to_frame(rng, rows, delay_us, people, market, scenario)


def _with_fraud(rng: np.random.Generator, world: World, scenario: Scenario) -> Rows:
    """Return as many rows as the scenario asks for: frauds, and honest ones to fill up."""
    budget = scenario.divide()
    frauds = {name: attack(rng, world, budget[code_of(name) - 1]) for name, attack in _ATTACKS.items()}
    first = 1 + len(TYPOLOGIES)
    for code, one in enumerate(scenario.campaigns, first):
        frauds[one.name] = campaign.attack(rng, world, one, code, budget[code - 1])
    honest = scenario.transactions - sum(len(fraud) for fraud in frauds.values())
    # What owners could not pay with a stolen card makes room for the frauds first, then any other payments do.
    rank = rng.random(len(world.genuine)) + stolen_card.silenced(world, frauds["stolen_card"])
    kept = world.genuine.take(np.sort(np.argpartition(rank, honest - 1)[:honest]))
    kept.typology[first_party.choose(rng, world.people, kept, budget[_FIRST_PARTY - 1])] = _FIRST_PARTY
    return join([kept, *frauds.values()])


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write the payments to `path` as Parquet; the file appears whole or not at all.

    Raises:
        ConfigError: The path does not end in `.parquet`, or cannot be written.
    """
    if path.suffix != ".parquet":
        raise ConfigError("bad_output", f"expected a path that ends in .parquet, but got {path}", path=str(path))
    part = path.with_name(path.name + ".part")
    try:
        frame.write_parquet(part, compression="zstd", row_group_size=_ROW_GROUP)
        os.replace(part, path)  # noqa: PTH105
    except (OSError, pl.exceptions.PolarsError) as error:
        part.unlink(missing_ok=True)
        raise ConfigError(
            "bad_output", f"expected a place to write {path}: {error}; name another", path=str(path)
        ) from error


class _Payment(msgspec.Struct, omit_defaults=True):
    """One body of `POST /predict`: a field without a value is left out."""

    transaction_id: str
    effective_time: str
    amount: float
    currency: str
    card_id: str
    customer_id: str | None = None
    merchant_id: str | None = None
    device_id: str | None = None
    ip: str | None = None
    mcc: str | None = None
    channel: str | None = None
    country: str | None = None
    lat: float | None = None
    lon: float | None = None
    card_present: bool | None = None


def payloads(frame: pl.DataFrame) -> Iterator[bytes]:
    """Yield each payment of `frame` as the JSON body of a `POST /predict`, in order.

    Only fields of the schema are in it, and only those that have a value; times are RFC 3339, in UTC.
    """
    encode = msgspec.json.Encoder().encode
    columns = frame.select(PAYMENT_FIELDS).with_columns(pl.col("effective_time").dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ"))
    for chunk in columns.iter_slices(_BODIES_AT_A_TIME):
        for row in chunk.iter_rows():
            yield encode(_Payment(*row))
