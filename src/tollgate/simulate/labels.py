"""When it becomes known what a payment was: late, and differently late for each kind of fraud."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import DAY_US, HOUR_US, MINUTE_US
from tollgate.simulate.rows import GENUINE, TYPOLOGIES
from tollgate.simulate.scenario import Scenario

_MAX_DELAY_US = 90 * DAY_US  # after that, card schemes accept no dispute


class _Source(NamedTuple):
    """Someone who reports fraud, and how long that takes."""

    median_us: int
    sigma: float
    least_us: int


_SOURCES = (
    _Source(5 * HOUR_US, 0.9, 5 * MINUTE_US),  # an analyst
    _Source(30 * HOUR_US, 1.0, 30 * MINUTE_US),  # the customer calls
    _Source(DAY_US, 0.6, 2 * DAY_US),  # a chargeback: as many days as the scenario says
)
_CHARGEBACK = 2
# Who reports which fraud, as shares of analyst, customer, chargeback.
_REPORTED_BY = {
    "card_testing": (0.40, 0.35, 0.25),
    "account_takeover": (0.20, 0.60, 0.20),
    "stolen_card": (0.10, 0.75, 0.15),
    "compromised_merchant": (0.10, 0.40, 0.50),
    "first_party": (0.0, 0.0, 1.0),
}


def reported_by(scenario: Scenario) -> NDArray[np.float64]:
    """Return who reports the fraud of each code, as shares of analyst, customer, chargeback, float64 (codes - 1, 3)."""
    kinds = [_REPORTED_BY[name] for name in TYPOLOGIES]
    kinds += [(0.0, one.told_by_customers, 1 - one.told_by_customers) for one in scenario.campaigns]
    shares = np.array(kinds)
    if not scenario.analysts:
        shares[:, 0] = 0.0
        shares /= shares.sum(axis=1, keepdims=True)
    return shares


def label_delays(rng: np.random.Generator, typology: NDArray[np.int64], scenario: Scenario) -> NDArray[np.int64]:
    """Return how long after each payment its label arrives, microseconds, int64 (N,).

    Args:
        rng: Where the randomness comes from.
        typology: Codes as in `Rows`, int64 (N,).
        scenario: Says who reports what, and how long an honest payment waits for a complaint before it is taken for
            honest.
    """
    delay = np.full(len(typology), int(scenario.maturity_days * DAY_US))
    fraud = np.flatnonzero(typology != GENUINE)
    shares = np.cumsum(reported_by(scenario), axis=1)
    point = rng.random(len(fraud))
    source = (point[:, None] >= shares[typology[fraud] - 1, :-1]).sum(axis=1)
    median, sigma, least = (np.array(column)[source] for column in zip(*_SOURCES, strict=True))
    median = np.where(source == _CHARGEBACK, median * scenario.chargeback_days, median)
    late = median * np.exp(sigma * rng.standard_normal(len(fraud)))
    delay[fraud] = np.clip(late, least, _MAX_DELAY_US).astype(np.int64)
    return delay
