"""The feature language: expressions over a transaction and over the histories of its entities.

    from tollgate.features import entity, tx, log1p

    card = entity("card_id")
    FEATURES = [log1p(tx.amount), *card.count(over=["1h", "1d"]), card.seconds_since_last()]

An expression is data: it can be written to JSON and read back, and nothing in it runs until it is compiled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tollgate.errors import ConfigError
from tollgate.features.operators import ROW_OPERATORS

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True, eq=False)
class Expr:
    """One node of an expression.

    Attributes:
        op: A row operator, or one of `_OTHERS`: what the transaction says, and what its histories do.
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
        return row("is_missing", self)

    def fill(self, value: Expr | Scalar) -> Expr:
        """Return the value, or `value` where it is missing."""
        return row("fill", self, value)

    def clip(self, low: Expr | Scalar, high: Expr | Scalar) -> Expr:
        """Return the value, held between `low` and `high`."""
        return row("minimum", row("maximum", self, low), high)

    def __add__(self, other: Expr | Scalar) -> Expr:
        return row("add", self, other)

    def __radd__(self, other: Expr | Scalar) -> Expr:
        return row("add", other, self)

    def __sub__(self, other: Expr | Scalar) -> Expr:
        return row("sub", self, other)

    def __rsub__(self, other: Expr | Scalar) -> Expr:
        return row("sub", other, self)

    def __mul__(self, other: Expr | Scalar) -> Expr:
        return row("mul", self, other)

    def __rmul__(self, other: Expr | Scalar) -> Expr:
        return row("mul", other, self)

    def __truediv__(self, other: Expr | Scalar) -> Expr:
        return row("div", self, other)

    def __rtruediv__(self, other: Expr | Scalar) -> Expr:
        return row("div", other, self)

    def __neg__(self) -> Expr:
        return row("neg", self)

    def __abs__(self) -> Expr:
        return row("abs", self)

    def __lt__(self, other: Expr | Scalar) -> Expr:
        return row("lt", self, other)

    def __le__(self, other: Expr | Scalar) -> Expr:
        return row("le", self, other)

    def __gt__(self, other: Expr | Scalar) -> Expr:
        return row("gt", self, other)

    def __ge__(self, other: Expr | Scalar) -> Expr:
        return row("ge", self, other)

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]  # as in Polars: a feature, not a bool
        return row("eq", self, other)

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return row("ne", self, other)

    def __and__(self, other: Expr | Scalar) -> Expr:
        return row("and", self, other)

    def __or__(self, other: Expr | Scalar) -> Expr:
        return row("or", self, other)

    def __invert__(self) -> Expr:
        return row("not", self)

    __hash__ = None  # type: ignore[assignment]  # use `identity`

    def __bool__(self) -> bool:
        raise ConfigError("bad_feature", "a feature has no truth value; use & | ~ instead of and, or, not")


def constant(value: Scalar) -> Expr:
    """Return an expression that is always `value`."""
    return Expr("constant", params=(("value", value),), name=str(value).replace(".", "_").replace("-", "minus_"))


def row(op: str, *operands: object) -> Expr:
    """Return a row operator applied to expressions or plain values."""
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
    return row("log1p", value)


def sin(value: Expr) -> Expr:
    """The sine of `value`, in radians."""
    return row("sin", value)


def cos(value: Expr) -> Expr:
    """The cosine of `value`, in radians."""
    return row("cos", value)


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


def to_data(expr: Expr) -> dict[str, Any]:
    """Return the expression as plain data (JSON)."""
    data: dict[str, Any] = {"op": expr.op, "name": expr.name}
    if expr.params:
        data["params"] = {key: list(value) if isinstance(value, tuple) else value for key, value in expr.params}
    if expr.args:
        data["args"] = [to_data(arg) for arg in expr.args]
    return data


def nodes(expr: Expr) -> Iterator[Expr]:
    """Yield an expression and all that it is computed from."""
    yield expr
    for arg in expr.args:
        yield from nodes(arg)


_OTHERS = {
    "column", "constant", "clock", "category", "window", "since_last", "since_first", "last", "is_new",
    "lag", "since_lag", "median", "mad", "fraud_count", "since_fraud", "since_first_fraud", "fraud_spell_count",
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
