"""A foreign record becomes a transaction: renamed, cast, and completed from static tables.

What comes out is only what the record said, in Tollgate's words. Whether it is a transaction is for Tollgate's own
reader to say, so that there is one definition of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tollgate.codec import UNIT_US, flag_of, missing, number_of, text_of, time_reader
from tollgate.errors import ConfigError, InputError
from tollgate.money import exponent_of
from tollgate.schema import Column, Kind, Schema
from tollgate_flink.settings import FieldRule

Row = Mapping[str, Any]
Tables = Mapping[str, Mapping[str, Row]]  # of each table the rows by their key, as text

_UNITS = {"seconds": "s", "milliseconds": "ms", "microseconds": "us"}
_SECOND_US = 1_000_000


class FieldMapping:
    """Makes the fields of a transaction out of a record."""

    def __init__(self, rules: Mapping[str, FieldRule], tables: Tables, schema: Schema) -> None:
        """Check the rules against the schema.

        Args:
            rules: By the name of Tollgate's field.
            tables: That the rules name.
            schema: Of the champion's transactions.

        Raises:
            ConfigError: A field is not in the schema, one that it requires has no rule, or a rule makes no sense.
        """
        known = {source: column for name, column in schema.columns.items() for source in schema.sources(name)}
        unknown = sorted(rules.keys() - known.keys())
        if unknown:
            raise ConfigError(
                "unknown_field",
                f"[fields] {', '.join(unknown)}: the champion's schema reads {', '.join(sorted(known))}",
            )
        lacking = [s for name in schema.required for s in schema.sources(name) if s not in rules]
        if lacking:
            raise ConfigError(
                "missing_field", f"[fields] the champion's schema requires {', '.join(lacking)}; map them"
            )
        self._rules = rules
        self._tables = tables
        self._casts = {name: _cast(name, rule, known[name]) for name, rule in rules.items()}
        self._minor = {name: _currency(known[name], schema) for name, rule in rules.items() if _is_minor(rule)}
        for name, rule in rules.items():
            if rule.table is not None and rule.table not in tables:
                raise ConfigError(
                    "unknown_table", f"[fields] {name}: expected a table of {', '.join(tables) or 'none'}"
                )

    def fields(self, record: Row) -> dict[str, Any]:
        """Return the fields of a transaction; one that there is no value for is left out.

        Raises:
            InputError: A value cannot be cast; it names Tollgate's field.
        """
        made: dict[str, Any] = {}
        for name, rule in self._rules.items():
            try:
                value = self._value(record, name, rule)
            except InputError as error:
                raise InputError(error.code, f"'{rule.source}': {error.message}", column=name) from None
            if value is not None:
                made[name] = value
        for name, currency_of in self._minor.items():
            if name in made:
                try:
                    made[name] = _major(made[name], currency_of(made))
                except InputError as error:
                    raise InputError(
                        error.code, f"'{self._rules[name].source}': {error.message}", column=name
                    ) from None
        return made

    def _value(self, record: Row, name: str, rule: FieldRule) -> Any:
        value = _inside(record, rule.source)
        if rule.table is not None and not missing(value):
            value = self._tables[rule.table].get(text_of(value), {}).get(rule.column or "")
        if missing(value):
            return rule.default
        if rule.values is not None:
            text = text_of(value)
            if text not in rule.values:
                raise InputError("unknown_value", f"expected one of {', '.join(rule.values)}, but got {text!r}")
            value = rule.values[text]
        return self._casts[name](value)


def _inside(record: Row, path: str) -> Any:
    """Return what is at a path of names; None where one of them is not there."""
    if path in record:  # a name may have dots of its own
        return record[path]
    value: Any = record
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _cast(name: str, rule: FieldRule, column: Column) -> Callable[[Any], Any]:
    match rule.kind:
        case None:
            return lambda value: value
        case "text":
            return text_of
        case "number":
            return number_of
        case "minor_units":
            if column.kind is not Kind.MONEY:
                raise ConfigError("bad_config", f"[fields] {name}: minor_units are of money, and this is {column.kind}")
            return number_of
        case "flag":
            return lambda value: flag_of(value) == 1.0
    if column.kind is not Kind.TIMESTAMP:
        raise ConfigError("bad_config", f"[fields] {name}: '{rule.kind}' is of a timestamp, and this is {column.kind}")
    read = time_reader(Column(Kind.TIMESTAMP, zone=rule.zone, unit=_UNITS.get(rule.kind)))  # type: ignore[arg-type]
    pattern = rule.format
    parsed = read if pattern is None else lambda value: read(_moment(value, pattern))
    if column.unit is not None:
        per_us = UNIT_US[column.unit]
        return lambda value: parsed(value) / per_us
    return lambda value: _iso(parsed(value))


def _moment(value: Any, pattern: str) -> datetime:
    try:
        return datetime.strptime(text_of(value), pattern)  # noqa: DTZ007  # the rule's zone is set by the reader
    except ValueError:
        raise InputError("bad_timestamp", f"expected a time such as {pattern}, but got {value!r}") from None


def _iso(time_us: int) -> str:
    seconds, micros = divmod(time_us, _SECOND_US)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros).isoformat().replace("+00:00", "Z")


def _is_minor(rule: FieldRule) -> bool:
    return rule.kind == "minor_units"


def _currency(column: Column, schema: Schema) -> Callable[[Row], Any]:
    """Return what tells the currency of an amount from the fields of its transaction."""
    if column.currency_column is None:
        return lambda _made: column.currency
    source = schema.sources(column.currency_column)[0]
    return lambda made: made.get(source)


def _major(minor: float, currency: Any) -> float:
    if missing(currency):
        raise InputError("missing_value", "expected a currency for the amount, but there is none")
    if not math.isfinite(minor) or minor != int(minor):
        raise InputError("bad_amount", f"expected a whole number of minor units, but got {minor!r}")
    return int(minor) / float(10 ** exponent_of(str(currency)))
