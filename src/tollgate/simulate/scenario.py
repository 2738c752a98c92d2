"""What to simulate: how much, over how long, and how much fraud of which kind."""

from __future__ import annotations

import datetime as dt
import itertools
import math

import msgspec

from tollgate.duration import DAY_US
from tollgate.errors import ConfigError

MAX_TRANSACTIONS = 10_000_000  # a whole scenario is held in memory: about 450 bytes a transaction while it is made
MAX_CARDS = 5_000_000
MIN_MERCHANTS = 200  # every city needs a few, and every line of business one
MAX_MERCHANTS = 1_000_000
MIN_DAYS = 2
MAX_DAYS = 3650
MAX_FRAUD_RATE = 0.5


class Mix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the fraudulent transactions divide over the typologies, as weights that need not sum to 1.

    Attributes:
        card_testing: One device tries many stolen card numbers with tiny amounts, then uses those that work.
        account_takeover: A stranger's device pays from another's account, several times in hours.
        stolen_card: A lost wallet is spent in the shops and cash machines nearby until the card is blocked.
        compromised_merchant: Cards that paid at a breached merchant are misused elsewhere, days later.
        first_party: Customers dispute what they bought themselves; it looks like any other payment.
    """

    card_testing: float = 0.25
    account_takeover: float = 0.25
    stolen_card: float = 0.20
    compromised_merchant: float = 0.20
    first_party: float = 0.10

    def __post_init__(self) -> None:
        for name, weight in msgspec.structs.asdict(self).items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError("bad_scenario", f"mix: expected a weight of 0 or more for '{name}', but got {weight}")
        if not any(msgspec.structs.astuple(self)):
            raise ConfigError("bad_scenario", "mix: expected a weight above 0 for at least one typology")

    def divide(self, count: int) -> dict[str, int]:
        """Return how many of `count` fall to each typology; the parts sum to it."""
        weights = msgspec.structs.asdict(self)
        total = math.fsum(weights.values())
        bounds = [round(count * share / total) for share in itertools.accumulate(weights.values())]
        return {name: high - low for name, low, high in zip(weights, [0, *bounds], bounds, strict=False)}


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides the simulated payments: the same scenario gives the same payments.

    Attributes:
        transactions: How many, fraud included.
        start: The first day; it begins at midnight UTC.
        fraud_rate: Share of the transactions that are fraud, in [0, 0.5].
        maturity_days: After how many days without a complaint a transaction is taken for genuine.

    Raises:
        ConfigError: A number is out of its range.
    """

    transactions: int = 200_000
    cards: int = 10_000
    merchants: int = 2_000
    days: int = 60
    start: dt.date = dt.date(2025, 1, 6)
    fraud_rate: float = 0.005
    mix: Mix = Mix()
    maturity_days: float = 14.0
    seed: int = 7

    def __post_init__(self) -> None:
        for name, low, high in (
            ("transactions", 1, MAX_TRANSACTIONS),
            ("cards", 1, MAX_CARDS),
            ("merchants", MIN_MERCHANTS, MAX_MERCHANTS),
            ("days", MIN_DAYS, MAX_DAYS),
            ("fraud_rate", 0, MAX_FRAUD_RATE),
            ("maturity_days", 0, MAX_DAYS),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:  # a NaN is not in it either
                raise ConfigError("bad_scenario", f"{name}: expected a number from {low} to {high}, but got {value}")

    @property
    def horizon_us(self) -> int:
        """How long it lasts, in microseconds."""
        return self.days * DAY_US

    @property
    def start_us(self) -> int:
        """When it begins, in microseconds since 1970-01-01 UTC."""
        return (self.start - dt.date(1970, 1, 1)).days * DAY_US
