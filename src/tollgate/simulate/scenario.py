"""What to simulate: how much, over how long, and how much fraud of which kind."""

from __future__ import annotations

import datetime as dt
import itertools
import math

import msgspec

from tollgate.duration import DAY_US
from tollgate.errors import ConfigError
from tollgate.simulate.campaign import Campaign
from tollgate.simulate.drift import Drift

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
        return dict(zip(weights, divided(count, list(weights.values())), strict=True))


def divided(count: int, weights: list[float]) -> list[int]:
    """Return `count` in parts, one for each of some weights that are not all 0; the parts sum to it."""
    total = math.fsum(weights)
    bounds = [round(count * share / total) for share in itertools.accumulate(weights)]
    return [high - low for low, high in zip([0, *bounds], bounds, strict=False)]


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides the simulated payments: the same scenario gives the same payments.

    Attributes:
        transactions: How many, fraud included.
        start: The first day; it begins at midnight UTC.
        fraud_rate: Share of the transactions that are fraud, in [0, 0.5].
        maturity_days: After how many days without a complaint a transaction is taken for genuine.
        chargeback_days: How long after a fraud its chargeback comes, median.
        analysts: Whether analysts find some frauds. Who adds what analysts find in alerts leaves them out: then all is
            told by customers and chargebacks.
        campaigns: Kinds of fraud that come and go, beside those of `mix`.
        drift: How honest payments change.

    Raises:
        ConfigError: A number is out of its range, or two campaigns have one name.
    """

    transactions: int = 200_000
    cards: int = 10_000
    merchants: int = 2_000
    days: int = 60
    start: dt.date = dt.date(2025, 1, 6)
    fraud_rate: float = 0.005
    mix: Mix = Mix()
    maturity_days: float = 14.0
    chargeback_days: float = 11.0
    analysts: bool = True
    campaigns: tuple[Campaign, ...] = ()
    drift: Drift = Drift()
    seed: int = 7

    def __post_init__(self) -> None:
        for name, low, high in (
            ("transactions", 1, MAX_TRANSACTIONS),
            ("cards", 1, MAX_CARDS),
            ("merchants", MIN_MERCHANTS, MAX_MERCHANTS),
            ("days", MIN_DAYS, MAX_DAYS),
            ("fraud_rate", 0, MAX_FRAUD_RATE),
            ("maturity_days", 0, MAX_DAYS),
            ("chargeback_days", 0, MAX_DAYS),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:  # a NaN is not in it either
                raise ConfigError("bad_scenario", f"{name}: expected a number from {low} to {high}, but got {value}")

        names = [one.name for one in self.campaigns]
        if len({*names, *Mix.__struct_fields__}) != len(names) + len(Mix.__struct_fields__):
            raise ConfigError(
                "bad_scenario", f"campaigns: expected names of their own, none of a typology, but got {names}"
            )

    def divide(self) -> list[int]:
        """Return how many frauds there are of each typology, then of each campaign; their sum is the fraud rate's."""
        weights = [*msgspec.structs.astuple(self.mix), *(one.weight for one in self.campaigns)]
        return divided(round(self.transactions * self.fraud_rate), weights)

    @property
    def horizon_us(self) -> int:
        """How long it lasts, in microseconds."""
        return self.days * DAY_US

    @property
    def start_us(self) -> int:
        """When it begins, in microseconds since 1970-01-01 UTC."""
        return (self.start - dt.date(1970, 1, 1)).days * DAY_US
