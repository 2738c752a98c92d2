"""Fraud of a new kind that begins on one day and is over on another, as data."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from tollgate.duration import DAY_US, MINUTE_US
from tollgate.errors import ConfigError
from tollgate.simulate.market import BUSINESSES
from tollgate.simulate.places import CITIES

MAX_PAYMENTS = 100.0  # of one card, on average
MAX_CARDS_PER_DEVICE = 1_000
MAX_MERCHANTS = 1_000

_ONLINE = frozenset(business.mcc for business in BUSINESSES if business.online)
_CITIES = frozenset(city.name for city in CITIES)


class Tactic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How somebody turns cards that are not his into money, without the card being present.

    Attributes:
        mcc: Lines of business that it goes by, ISO 18245.
        amount_eur: Median amount.
        sigma: Of the logarithm of the amount.
        payments: How many a card is used for, on average, 1 or more.
        gap_minutes: Between two of them, median.
        channel: `moto` leaves neither device nor address.
        device: The owner's own (malware, or the owner is talked into it), a fresh one for each card, or one that
            serves `cards_per_device` cards.
        merchants: Over how many merchants it is spread.
        city: Where it seems to come from; null is the owner's home.
    """

    mcc: tuple[str, ...]
    amount_eur: float
    sigma: float = 0.3
    payments: float = 2.0
    gap_minutes: float = 30.0
    channel: Literal["ecom", "moto"] = "ecom"
    device: Literal["own", "fresh", "shared"] = "fresh"
    cards_per_device: int = 8
    merchants: int = 3
    city: str | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("amount_eur", 0.01, 1e6),
            ("sigma", 0.0, 3.0),
            ("payments", 1.0, MAX_PAYMENTS),
            ("gap_minutes", 0.01, 1e5),
            ("cards_per_device", 1, MAX_CARDS_PER_DEVICE),
            ("merchants", 1, MAX_MERCHANTS),
        ):
            _check(f"tactic: {name}", getattr(self, name), low, high)
        unknown = sorted(set(self.mcc) - _ONLINE)
        if unknown or not self.mcc:
            raise ConfigError(
                "bad_scenario",
                f"tactic: mcc: expected some of {', '.join(sorted(_ONLINE))}, but got {', '.join(unknown) or 'none'}",
            )
        if self.city is not None and self.city not in _CITIES:
            raise ConfigError(
                "bad_scenario", f"tactic: city: expected one of {', '.join(sorted(_CITIES))}, but got {self.city!r}"
            )

    @property
    def gap_us(self) -> float:
        """`gap_minutes`, in microseconds."""
        return self.gap_minutes * MINUTE_US


class Campaign(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One tactic, while it lasts.

    Attributes:
        name: What its payments have as `typology`.
        first_day: On which it begins, from 0; it need not end within the scenario.
        days: How long it lasts; may be a fraction.
        weight: Of its payments, beside the weights of `Mix`.
        told_by_customers: Share of its frauds of which the customer tells within days; of the rest, a chargeback
            does, weeks later.
    """

    name: str
    tactic: Tactic
    first_day: float
    days: float
    weight: float
    told_by_customers: float = 0.4

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("bad_scenario", "campaign: expected a name, but got none")
        _check(f"campaign '{self.name}': first_day", self.first_day, 0, math.inf)
        _check(f"campaign '{self.name}': days", self.days, 1e-3, math.inf)
        _check(f"campaign '{self.name}': weight", self.weight, 0, 1e9)
        _check(f"campaign '{self.name}': told_by_customers", self.told_by_customers, 0, 1)

    @property
    def start_us(self) -> int:
        """When it begins, microseconds since the scenario began."""
        return int(self.first_day * DAY_US)

    def end_us(self, horizon_us: int) -> int:
        """Return when it is over, with the scenario at the latest, microseconds since that began."""
        return min(int(min(self.first_day + self.days, horizon_us / DAY_US) * DAY_US), horizon_us)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not (low <= value <= high and math.isfinite(value)):
        raise ConfigError("bad_scenario", f"{name}: expected a number from {low} to {high}, but got {value}")
