"""How honest payments change while the scenario lasts, as data."""

from __future__ import annotations

import math

import msgspec

from tollgate.errors import ConfigError
from tollgate.simulate.market import BUSINESSES

_ONLINE = frozenset(business.mcc for business in BUSINESSES if business.online)
DAYS_A_YEAR = 365.0
_MOST_CHANGE = 10.0  # in a year


class Surge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For some days many buy the same kind of thing online: a sale, tickets, a new game.

    Attributes:
        first_day: On which it begins, from 0.
        days: How long it lasts.
        mcc: Lines of business, ISO 18245.
        share: Of the online payments of these days, that are such.
        factor: How much dearer than usual.
    """

    first_day: float
    days: float
    mcc: tuple[str, ...]
    share: float
    factor: float = 1.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("first_day", 0, math.inf),
            ("days", 0, math.inf),
            ("share", 0, 1),
            ("factor", 1e-3, 1e3),
        ):
            value = getattr(self, name)
            if not (low <= value <= high and math.isfinite(value)):
                raise ConfigError(
                    "bad_scenario", f"surge: {name}: expected a number from {low} to {high}, but got {value}"
                )
        unknown = sorted(set(self.mcc) - _ONLINE)
        if unknown or not self.mcc:
            raise ConfigError(
                "bad_scenario",
                f"surge: mcc: expected some of {', '.join(sorted(_ONLINE))}, but got {', '.join(unknown) or 'none'}",
            )


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What changes; by default nothing does.

    Attributes:
        inflation: By which share prices grow in a year.
        online_growth: By which share the payments online grow in a year; the others stay as many.
        surges: What many want for a while.
    """

    inflation: float = 0.0
    online_growth: float = 0.0
    surges: tuple[Surge, ...] = ()

    def __post_init__(self) -> None:
        for name in ("inflation", "online_growth"):
            value = getattr(self, name)
            if not -1 < value <= _MOST_CHANGE:
                raise ConfigError(
                    "bad_scenario", f"drift: {name}: expected a number above -1 up to {_MOST_CHANGE}, but got {value}"
                )
