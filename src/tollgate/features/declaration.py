"""The feature language: expressions over a transaction and over the histories of its entities.

    from tollgate.features import entity, tx, log1p

    card = entity("card_id")
    FEATURES = [log1p(tx.amount), *card.count(over=["1h", "1d"]), card.seconds_since_last()]

An expression is data: it can be written to JSON and read back, and nothing in it runs until it is compiled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, overload

from tollgate.duration import format_duration, parse_duration_us
from tollgate.errors import ConfigError
from tollgate.features.operators import ROW_OPERATORS

SECONDS_PER_HOUR = 3600
DEFAULT_HORIZON = "90d"  # for how long an entity that was seen counts as known

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True, eq=False)
class Expr:
    """One node of an expression.

    Attributes:
        op: A row operator, or one of `column`, `clock`, `constant`, `category`, `window`, `fraud_count`, `since_last`,
            `since_first`, `last`, `is_new`.
        args: What it is computed from.
        params: What it is told, as sorted pairs of plain values.
        name: What the feature is called; derived from the expression unless `named`.
    """

    op: str
    args: tuple[Expr, ...] = ()
    params: tuple[tuple[str, Any], ...] = ()
    name: str = ""

    def named(self, name: str) -> Expr:
        """Return the same feature under another name."""
        return replace(self, name=name)

    @property
    def param(self) -> dict[str, Any]:
        """The params as a dictionary."""
        return dict(self.params)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What it computes, without the name: equal for equal expressions."""
        return (self.op, self.params, *(arg.identity for arg in self.args))

    def category(self) -> Expr:
        """Hand a category column to the model as a category."""
        return Expr("category", (self,), name=self.name)

    def is_missing(self) -> Expr:
        """1 where the value is missing, else 0."""
        return _row("is_missing", self)

    def fill(self, value: Expr | Scalar) -> Expr:
        """Return the value, or `value` where it is missing."""
        return _row("fill", self, value)

    def clip(self, low: Expr | Scalar, high: Expr | Scalar) -> Expr:
        """Return the value, held between `low` and `high`."""
        return _row("minimum", _row("maximum", self, low), high)

    def __add__(self, other: Expr | Scalar) -> Expr:
        return _row("add", self, other)

    def __radd__(self, other: Expr | Scalar) -> Expr:
        return _row("add", other, self)

    def __sub__(self, other: Expr | Scalar) -> Expr:
        return _row("sub", self, other)

    def __rsub__(self, other: Expr | Scalar) -> Expr:
        return _row("sub", other, self)

    def __mul__(self, other: Expr | Scalar) -> Expr:
        return _row("mul", self, other)

    def __rmul__(self, other: Expr | Scalar) -> Expr:
        return _row("mul", other, self)

    def __truediv__(self, other: Expr | Scalar) -> Expr:
        return _row("div", self, other)

    def __rtruediv__(self, other: Expr | Scalar) -> Expr:
        return _row("div", other, self)

    def __neg__(self) -> Expr:
        return _row("neg", self)

    def __abs__(self) -> Expr:
        return _row("abs", self)

    def __lt__(self, other: Expr | Scalar) -> Expr:
        return _row("lt", self, other)

    def __le__(self, other: Expr | Scalar) -> Expr:
        return _row("le", self, other)

    def __gt__(self, other: Expr | Scalar) -> Expr:
        return _row("gt", self, other)

    def __ge__(self, other: Expr | Scalar) -> Expr:
        return _row("ge", self, other)

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]  # as in Polars: a feature, not a bool
        return _row("eq", self, other)

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return _row("ne", self, other)

    def __and__(self, other: Expr | Scalar) -> Expr:
        return _row("and", self, other)

    def __or__(self, other: Expr | Scalar) -> Expr:
        return _row("or", self, other)

    def __invert__(self) -> Expr:
        return _row("not", self)

    __hash__ = None  # type: ignore[assignment]  # use `identity`

    def __bool__(self) -> bool:
        raise ConfigError("bad_feature", "a feature has no truth value; use & | ~ instead of and, or, not")


def constant(value: Scalar) -> Expr:
    """Return an expression that is always `value`."""
    return Expr("constant", params=(("value", value),), name=str(value).replace(".", "_").replace("-", "minus_"))


def _row(op: str, *operands: object) -> Expr:
    args = tuple(_operand(operand) for operand in operands)
    name = f"{op}_{args[0].name}" if len(args) == 1 else f"{args[0].name}_{op}_{args[1].name}"
    return Expr(op, args, name=name)


def _operand(value: object) -> Expr:
    if isinstance(value, Expr):
        return value
    if isinstance(value, bool | int | float | str):
        return constant(value)
    raise ConfigError("bad_feature", f"expected a feature, a number or a text, but got {value!r}")


def log1p(value: Expr) -> Expr:
    """ln(1 + value); missing where the value is -1 or less."""
    return _row("log1p", value)


def sin(value: Expr) -> Expr:
    """The sine of `value`, in radians."""
    return _row("sin", value)


def cos(value: Expr) -> Expr:
    """The cosine of `value`, in radians."""
    return _row("cos", value)


def cyclical(value: Expr, period: float) -> list[Expr]:
    """Two features that place `value` on a circle of length `period`, so that 23:59 lies beside 00:00."""
    angle = value * (2 * math.pi / period)
    return [sin(angle).named(f"{value.name}_sin"), cos(angle).named(f"{value.name}_cos")]


def haversine_km(lat_1: Expr, lon_1: Expr, lat_2: Expr, lon_2: Expr) -> Expr:
    """The great-circle distance between two places, in km; arguments in degrees."""
    return Expr("haversine", (lat_1, lon_1, lat_2, lon_2), name=f"distance_km_{lat_1.name}_{lat_2.name}")


class Transaction:
    """The transaction at hand: `tx.amount`, `tx.mcc`, `tx.hour_of_day`, ... any column of the schema.

    Money reads in units of the base currency (12.34), a timestamp in seconds since 1970, a flag as 0 or 1.
    """

    def __getattr__(self, column: str) -> Expr:
        if column.startswith("__"):
            raise AttributeError(column)
        if column in ("hour_of_day", "day_of_week"):
            return Expr(column, (Expr("clock", name="clock"),), name=column)
        return Expr("column", params=(("name", column),), name=column)

    def local(self, zone: str) -> LocalTime:
        """Return the time of the transaction as a clock in an IANA time zone shows it."""
        return LocalTime(zone)


@dataclass(frozen=True, slots=True)
class LocalTime:
    """The effective time on a clock in a zone, summer time included."""

    zone: str

    @property
    def hour_of_day(self) -> Expr:
        """Hours since local midnight: 13.5 is half past one."""
        return self._of("hour_of_day")

    @property
    def day_of_week(self) -> Expr:
        """0 for Monday to 6 for Sunday."""
        return self._of("day_of_week")

    def _of(self, op: str) -> Expr:
        clock = Expr("local_time", (Expr("clock", name="clock"),), (("zone", self.zone),), "local_clock")
        return Expr(op, (clock,), name=f"local_{op}")


tx = Transaction()


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

    def seconds_since_last(self, *, where: Expr | None = None, within: str = DEFAULT_HORIZON) -> Expr:
        """Seconds since its last transaction, or its last one `where`; missing where that is older than `within`."""
        return self._recency("since_last", "seconds_since_last", within, where=where)

    def seconds_since_first(self, *, within: str = DEFAULT_HORIZON) -> Expr:
        """Seconds since it was first seen: its age. After a pause longer than `within` it counts as new."""
        return self._recency("since_first", "seconds_since_first", within)

    def last(self, value: Expr, *, within: str = DEFAULT_HORIZON) -> Expr:
        """`value` at its last transaction that had one; missing where that is older than `within`."""
        return self._recency("last", f"last_{value.name}", within, value)

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
        hours = _row("maximum", self.seconds_since_last(where=located, within=within), 1) / SECONDS_PER_HOUR
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


def to_data(expr: Expr) -> dict[str, Any]:
    """Return the expression as plain data (JSON)."""
    data: dict[str, Any] = {"op": expr.op, "name": expr.name}
    if expr.params:
        data["params"] = {key: list(value) if isinstance(value, tuple) else value for key, value in expr.params}
    if expr.args:
        data["args"] = [to_data(arg) for arg in expr.args]
    return data


_OTHERS = {
    "column", "constant", "clock", "category", "window", "fraud_count", "since_last", "since_first", "last", "is_new",
}  # fmt: skip


def from_data(data: dict[str, Any]) -> Expr:
    """Return the expression that `to_data` wrote.

    Raises:
        ConfigError: The data is no expression of this version.
    """
    op = data.get("op")
    if op not in _OTHERS and op not in ROW_OPERATORS:
        raise ConfigError("bad_feature", f"expected an operator that this version knows, but got {op!r}")
    params = data.get("params", {})
    return Expr(
        op,
        tuple(from_data(arg) for arg in data.get("args", ())),
        tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in params.items()),
        data.get("name", ""),
    )
