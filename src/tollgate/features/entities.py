"""Entities of the feature language: someone or something with a history, and what can be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

from tollgate.duration import format_duration, parse_duration_us
from tollgate.errors import ConfigError
from tollgate.features.declaration import Expr, haversine_km, row, tx
from tollgate.features.tables import check_steps

SECONDS_PER_HOUR = 3600
DEFAULT_HORIZON = "90d"  # for how long an entity that was seen counts as known


@dataclass(frozen=True, slots=True)
class Entity:
    """Someone or something with a history, known by one column or by a pair of them (a card at a merchant)."""

    columns: tuple[str, ...]

    @property
    def name(self) -> str:
        """`card` for `card_id`, `card_merchant` for the pair."""
        return "_".join(column.removesuffix("_id") for column in self.columns)

    @overload
    def count(self, *, over: str, where: Expr | None = None, delay: str | None = None) -> Expr: ...
    @overload
    def count(self, *, over: list[str], where: Expr | None = None, delay: str | None = None) -> list[Expr]: ...
    def count(self, *, over: str | list[str], where: Expr | None = None, delay: str | None = None) -> Expr | list[Expr]:
        """How many of its transactions lie in the window; 0 where there is none."""
        return self._window("count", None, over, where, delay)

    @overload
    def sum(self, value: Expr, *, over: str, where: Expr | None = None, delay: str | None = None) -> Expr: ...
    @overload
    def sum(
        self, value: Expr, *, over: list[str], where: Expr | None = None, delay: str | None = None
    ) -> list[Expr]: ...
    def sum(
        self, value: Expr, *, over: str | list[str], where: Expr | None = None, delay: str | None = None
    ) -> Expr | list[Expr]:
        """The sum of `value` over the window, leaving out where it is missing; 0 where there is none."""
        return self._window("sum", value, over, where, delay)

    @overload
    def mean(self, value: Expr, *, over: str, where: Expr | None = None, delay: str | None = None) -> Expr: ...
    @overload
    def mean(
        self, value: Expr, *, over: list[str], where: Expr | None = None, delay: str | None = None
    ) -> list[Expr]: ...
    def mean(
        self, value: Expr, *, over: str | list[str], where: Expr | None = None, delay: str | None = None
    ) -> Expr | list[Expr]:
        """The mean of `value` over the window; missing where there is none."""
        return self._window("mean", value, over, where, delay)

    @overload
    def std(self, value: Expr, *, over: str, where: Expr | None = None, delay: str | None = None) -> Expr: ...
    @overload
    def std(
        self, value: Expr, *, over: list[str], where: Expr | None = None, delay: str | None = None
    ) -> list[Expr]: ...
    def std(
        self, value: Expr, *, over: str | list[str], where: Expr | None = None, delay: str | None = None
    ) -> Expr | list[Expr]:
        """The sample standard deviation of `value` over the window; missing below two values."""
        return self._window("std", value, over, where, delay)

    @overload
    def min(self, value: Expr, *, over: str, where: Expr | None = None) -> Expr: ...
    @overload
    def min(self, value: Expr, *, over: list[str], where: Expr | None = None) -> list[Expr]: ...
    def min(self, value: Expr, *, over: str | list[str], where: Expr | None = None) -> Expr | list[Expr]:
        """The smallest `value` in the window; missing where there is none."""
        return self._window("min", value, over, where)

    @overload
    def max(self, value: Expr, *, over: str, where: Expr | None = None) -> Expr: ...
    @overload
    def max(self, value: Expr, *, over: list[str], where: Expr | None = None) -> list[Expr]: ...
    def max(self, value: Expr, *, over: str | list[str], where: Expr | None = None) -> Expr | list[Expr]:
        """The largest `value` in the window; missing where there is none."""
        return self._window("max", value, over, where)

    @overload
    def distinct(self, value: Expr, *, over: str, where: Expr | None = None) -> Expr: ...
    @overload
    def distinct(self, value: Expr, *, over: list[str], where: Expr | None = None) -> list[Expr]: ...
    def distinct(self, value: Expr, *, over: str | list[str], where: Expr | None = None) -> Expr | list[Expr]:
        """How many different values lie in the window: merchants of a card, cards on a device."""
        return self._window("distinct", value, over, where)

    def zscore(self, value: Expr, *, over: str) -> Expr:
        """How many standard deviations `value` lies above the mean of its own history in the window."""
        spread = (value - self.mean(value, over=over)) / self.std(value, over=over)
        return spread.named(f"{self.name}_{value.name}_zscore_{over}")

    def ratio(self, value: Expr, *, over: str) -> Expr:
        """`value` over the mean of its own history in the window."""
        return (value / self.mean(value, over=over)).named(f"{self.name}_{value.name}_ratio_{over}")

    def median(self, value: Expr, *, last: int, within: str = DEFAULT_HORIZON) -> Expr:
        """The median of `value` over its last transactions, `MAX_LAG` at most; missing where none has the value.

        One transaction far out of line moves it no further than any other, unlike a mean.
        """
        return self._steps("median", value, last, within)

    def mad(self, value: Expr, *, last: int, within: str = DEFAULT_HORIZON) -> Expr:
        """The median of the absolute deviations of `value` from its median, over the same transactions."""
        return self._steps("mad", value, last, within)

    def robust_zscore(self, value: Expr, *, last: int, within: str = DEFAULT_HORIZON) -> Expr:
        """How many median absolute deviations `value` lies above its median; missing where all were alike."""
        above = value - self.median(value, last=last, within=within)
        spread = above / self.mad(value, last=last, within=within)
        return spread.named(f"{self.name}_{value.name}_robust_zscore_last_{last}")

    def ratio_to_median(self, value: Expr, *, last: int, within: str = DEFAULT_HORIZON) -> Expr:
        """`value` over the median of its own last transactions."""
        ratio = value / self.median(value, last=last, within=within)
        return ratio.named(f"{self.name}_{value.name}_ratio_to_median_last_{last}")

    @overload
    def fraud_count(self, *, over: str) -> Expr: ...
    @overload
    def fraud_count(self, *, over: list[str]) -> list[Expr]: ...
    def fraud_count(self, *, over: str | list[str]) -> Expr | list[Expr]:
        """How many of its transactions became known as fraud in the window: it moves when a label arrives."""
        if not isinstance(over, str):
            return [self.fraud_count(over=one) for one in over]
        return Expr(
            "fraud_count", params=(("entity", self.columns), ("over_us", _window_us(over))),
            name=f"{self.name}_fraud_count_{over}",
        )  # fmt: skip

    @overload
    def fraud_rate(self, *, over: str, delay: str) -> Expr: ...
    @overload
    def fraud_rate(self, *, over: list[str], delay: str) -> list[Expr]: ...
    def fraud_rate(self, *, over: str | list[str], delay: str) -> Expr | list[Expr]:
        """Frauds that became known in the window, over its transactions of one `delay` before.

        With labels that all take `delay`, it is the share of fraud among those transactions.
        """
        if not isinstance(over, str):
            return [self.fraud_rate(over=one, delay=delay) for one in over]
        rate = self.fraud_count(over=over) / self.count(over=over, delay=delay)
        return rate.named(f"{self.name}_fraud_rate_{over}")

    def seconds_since_fraud(self, *, within: str = DEFAULT_HORIZON) -> Expr:
        """Seconds since one of its transactions last became known as fraud; missing where none did `within`."""
        return self._frauds("since_fraud", "seconds_since_fraud", within)

    def seconds_since_first_fraud(self, *, within: str = DEFAULT_HORIZON) -> Expr:
        """Seconds since its spell of frauds began: since the first one became known after a pause of `within`."""
        return self._frauds("since_first_fraud", "seconds_since_first_fraud", within)

    def fraud_spell_count(self, *, within: str = DEFAULT_HORIZON) -> Expr:
        """How many of its transactions became known as fraud in that spell; 0 where none did `within`."""
        return self._frauds("fraud_spell_count", "fraud_spell_count", within)

    def seconds_since_last(self, *, where: Expr | None = None, within: str = DEFAULT_HORIZON) -> Expr:
        """Seconds since its last transaction, or its last one `where`; missing where that is older than `within`."""
        return self._recency("since_last", "seconds_since_last", within, where=where)

    def seconds_since_first(self, *, within: str = DEFAULT_HORIZON) -> Expr:
        """Seconds since it was first seen: its age. After a pause longer than `within` it counts as new."""
        return self._recency("since_first", "seconds_since_first", within)

    def last(self, value: Expr, *, within: str = DEFAULT_HORIZON) -> Expr:
        """`value` at its last transaction that had one; missing where that is older than `within`."""
        return self._recency("last", f"last_{value.name}", within, value)

    def lag(self, value: Expr, *, last: int, within: str = DEFAULT_HORIZON) -> list[Expr]:
        """`value` at each of its `last` transactions, `MAX_LAG` at most, the newest first.

        A step is missing where there was none `within` that time, and where that transaction lacked the value: step k
        of every value is of the same transaction.

        Raises:
            ConfigError: `last` is not 1 to `MAX_LAG`.
        """
        return self._lags("lag", f"{value.name.removesuffix('_id')}_lag", last, within, value)

    def seconds_since_lag(self, *, last: int, within: str = DEFAULT_HORIZON) -> list[Expr]:
        """Seconds since each of its `last` transactions, `MAX_LAG` at most, the newest first.

        Raises:
            ConfigError: `last` is not 1 to `MAX_LAG`.
        """
        return self._lags("since_lag", "seconds_lag", last, within)

    def same_as_last(self, value: Expr, *, within: str = DEFAULT_HORIZON) -> Expr:
        """1 where `value` is what it was at the last transaction that had one, else 0."""
        return (self.last(value, within=within) == value).named(f"{self.name}_same_{value.name}")

    def distance_km(self, location: str = "location", *, within: str = DEFAULT_HORIZON) -> Expr:
        """Distance from the last known place of its transactions to this one, in km, as the crow flies."""
        lat, lon = getattr(tx, f"{location}_lat"), getattr(tx, f"{location}_lon")
        there = self.last(lat, within=within), self.last(lon, within=within)
        return haversine_km(*there, lat, lon).named(f"{self.name}_distance_km")

    def speed_kmh(self, location: str = "location", *, within: str = DEFAULT_HORIZON) -> Expr:
        """Speed at which one would have travelled from that place, in km/h; above an airliner's is impossible.

        Less than a second between two transactions counts as a second.
        """
        located = ~getattr(tx, f"{location}_lat").is_missing()
        hours = row("maximum", self.seconds_since_last(where=located, within=within), 1) / SECONDS_PER_HOUR
        return (self.distance_km(location, within=within) / hours).named(f"{self.name}_speed_kmh")

    def is_new(self, *, within: str = DEFAULT_HORIZON) -> Expr:
        """1 where it was not seen `within` that time, else 0."""
        return self._recency("is_new", "is_new", within)

    def is_new_for(self, other: Entity, *, within: str = DEFAULT_HORIZON) -> Expr:
        """1 where it was not seen together with `other` `within` that time, else 0: a new device of a card."""
        pair = Entity((*self.columns, *other.columns))
        return pair.is_new(within=within).named(f"{self.name}_is_new_for_{other.name}")

    def _recency(self, op: str, suffix: str, within: str, value: Expr | None = None, where: Expr | None = None) -> Expr:
        name = f"{self.name}_{suffix}" + ("" if where is None else f"_where_{where.name}")
        return Expr(
            op,
            tuple(arg for arg in (value, where) if arg is not None),
            (("entity", self.columns), ("where", where is not None), ("within_us", _window_us(within))),
            name,
        )

    def _steps(self, op: str, value: Expr, last: int, within: str) -> Expr:
        check_steps(last)
        return Expr(
            op, (value,), (("entity", self.columns), ("last", last), ("within_us", _window_us(within))),
            f"{self.name}_{value.name}_{op}_last_{last}",
        )  # fmt: skip

    def _lags(self, op: str, suffix: str, last: int, within: str, *values: Expr) -> list[Expr]:
        check_steps(last)
        known = (("entity", self.columns), ("within_us", _window_us(within)))
        return [
            Expr(op, values, tuple(sorted([*known, ("step", step)])), f"{self.name}_{suffix}_{step}")
            for step in range(1, last + 1)
        ]

    def _frauds(self, op: str, suffix: str, within: str) -> Expr:
        params = (("entity", self.columns), ("within_us", _window_us(within)))
        return Expr(op, params=params, name=f"{self.name}_{suffix}")

    def _window(
        self,
        aggregate: str,
        value: Expr | None,
        over: str | list[str],
        where: Expr | None,
        delay: str | None = None,
    ) -> Expr | list[Expr]:
        if not isinstance(over, str):
            made = [self._window(aggregate, value, one, where, delay) for one in over]
            return [expr for expr in made if isinstance(expr, Expr)]
        duration_us = _window_us(over)
        middle = "" if value is None else f"{value.name.removesuffix('_id')}_"
        suffix = "" if where is None else f"_where_{where.name}"
        suffix += "" if delay is None else f"_delay_{delay}"
        return Expr(
            "window",
            tuple(arg for arg in (value, where) if arg is not None),
            (
                ("aggregate", aggregate),
                ("delay_us", 0 if delay is None else _window_us(delay)),
                ("entity", self.columns),
                ("over_us", duration_us),
                ("where", where is not None),
            ),
            f"{self.name}_{middle}{aggregate}_{format_duration(duration_us)}{suffix}",
        )


def _window_us(text: str) -> int:
    duration_us = parse_duration_us(text)
    if duration_us == 0:
        raise ConfigError("bad_duration", f"expected a window longer than {text!r}")
    return duration_us


def entity(*columns: str) -> Entity:
    """Return the entity known by a column, or by a pair of columns: `entity("card_id")`.

    Raises:
        ConfigError: Not one or two different columns.
    """
    if not 1 <= len(columns) <= 2 or len(set(columns)) != len(columns):
        raise ConfigError("bad_feature", f"expected one or two different entity columns, but got {columns!r}")
    return Entity(columns)
