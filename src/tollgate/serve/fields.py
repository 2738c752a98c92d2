"""A schema of transactions as JSON Schema: what the reader accepts, told to whoever writes a client."""

from __future__ import annotations

from typing import Any

from tollgate.codec import MAX_TEXT, MAX_TIME_US, MIN_TIME_US, TOO_LONG, UNIT_US
from tollgate.money import EXPONENTS, MAX_AMOUNT_MINOR, Money
from tollgate.schema import EFFECTIVE_TIME, Column, Kind, Schema

Json = dict[str, Any]

_EXAMPLES: dict[Kind, Any] = {
    Kind.ID: "t-1",
    Kind.MONEY: 12.34,
    Kind.NUMBER: 1.5,
    Kind.CATEGORY: "ecom",
    Kind.FLAG: False,
}
_NAMED = {"currency": "EUR", "country": "DE", "mcc": "5411", "ip": "203.0.113.7"}


def transaction_schema(schema: Schema, money: Money) -> Json:
    """Return the JSON Schema (2020-12) of one transaction.

    What it refuses, the reader refuses. What it accepts has the right fields and types; the reader may still refuse
    what no schema can say: a time without an offset, too many decimals, a currency without a rate on that day.
    """
    parts: dict[str, list[Json]] = {}
    required: set[str] = set()
    for name, column in schema.columns.items():
        needed = name in schema.required
        for source in schema.sources(name):
            parts.setdefault(source, []).append(_field(name, source, column, schema, money))
        if needed:
            required.update(schema.sources(name))
    properties: Json = {field: all_of[0] if len(all_of) == 1 else {"allOf": all_of} for field, all_of in parts.items()}
    properties |= {field: {"description": "Accepted and not read."} for field in schema.ignore if field not in parts}
    return {
        "type": "object",
        "required": [field for field in properties if field in required],
        "properties": properties,
        "additionalProperties": False,
    }


def example(schema: Schema, money: Money) -> Json:
    """Return a transaction that the reader accepts: its required fields, and one more of each kind."""
    fields: Json = {}
    kinds: set[Kind] = set()
    for name, column in schema.columns.items():
        needed = name in schema.required
        currency = any(other.currency_column == name for other in schema.columns.values())
        if not needed and not currency and column.kind in kinds:
            continue
        kinds.add(column.kind)
        for source in schema.sources(name):
            fields[source] = _example(name, source, column, money)
    return fields


def _example(name: str, source: str, column: Column, money: Money) -> Any:
    match column.kind:
        case Kind.TIMESTAMP:
            return 1_769_860_800 * round(1e6 / UNIT_US[column.unit]) if column.unit else "2026-01-31T12:00:00Z"
        case Kind.LOCATION:
            return 52.5 if source == column.lat else 13.4
        case Kind.ENTITY:
            return _NAMED.get(name, f"{name.removesuffix('_id')}-1")
        case Kind.MONEY if column.currency is not None and EXPONENTS[column.currency] == 0:
            return 1234
        case Kind.CATEGORY if name == "currency":
            return money.currency
    return _NAMED.get(name, _EXAMPLES[column.kind])


def _field(name: str, source: str, column: Column, schema: Schema, money: Money) -> Json:
    """Return the schema of one field as one column reads it."""
    needed = name in schema.required
    match column.kind:
        case Kind.ID | Kind.ENTITY | Kind.CATEGORY:
            field = _text(name, column, schema, money, needed=needed)
        case Kind.MONEY:
            field = _amount(column)
        case Kind.NUMBER:
            field = {"type": "number"}
        case Kind.FLAG:
            field = {"enum": [True, False, 0, 1]}
        case Kind.LOCATION:
            limit = 90 if source == column.lat else 180
            field = {"type": "number", "minimum": -limit, "maximum": limit, "description": "Degrees, WGS 84."}
        case Kind.TIMESTAMP:
            field = _time(name, column)
    return field if needed else _or_nothing(field, column.kind)


def _or_nothing(field: Json, kind: Kind) -> Json:
    """Let a field be null where it may be missing; the empty text too where texts are read."""
    if "enum" in field:
        return field | {"enum": [*field["enum"], None]}
    if kind is Kind.TIMESTAMP and field["type"] == ["number", "string"]:
        return field | {"type": ["number", "string", "null"]}
    types = field["type"] if isinstance(field["type"], list) else [field["type"]]
    return {key: value for key, value in field.items() if key != "minLength"} | {"type": [*types, "null"]}


def _text(name: str, column: Column, schema: Schema, money: Money, *, needed: bool) -> Json:
    priced = [other for other in schema.columns.values() if other.currency_column == name]
    if priced and needed and any(other.required for other in priced):
        known = sorted({money.currency, *(code for dated in money.rates for code in dated.to_base)})
        return {"type": "string", "enum": known, "description": "ISO 4217; others have no rate here."}
    number = "integer" if column.kind is Kind.ID else "number"
    field: Json = {
        "type": ["string", number],
        "maxLength": MAX_TEXT,
        "exclusiveMinimum": -TOO_LONG,
        "exclusiveMaximum": TOO_LONG,
    }
    if needed:
        field["minLength"] = 1
    if column.kind is Kind.ID:
        field["description"] = (
            "Yours, and new for each transaction: the same again gets the stored decision. 7 and '7' are one id."
        )
    elif column.kind is Kind.ENTITY:
        field["description"] = "Someone or something with a history. Never a raw card number: send a token."
    return field


def _amount(column: Column) -> Json:
    exponent = EXPONENTS[column.currency] if column.currency is not None else 0
    currency = column.currency or f"the currency in '{column.currency_column}'"
    return {
        "type": "number",
        "minimum": 0,
        "maximum": MAX_AMOUNT_MINOR // 10**exponent,
        "description": f"In major units of {currency}, with no more decimals than it has.",
    }


def _time(name: str, column: Column) -> Json:
    if column.unit is not None:
        unit = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}[column.unit]
        earliest_us = 0 if name == EFFECTIVE_TIME else MIN_TIME_US
        return {
            "type": ["number", "string"],
            "maxLength": MAX_TEXT,
            "minimum": earliest_us / UNIT_US[column.unit],
            "maximum": MAX_TIME_US / UNIT_US[column.unit],
            "description": f"A number, or a text of one: {unit} since 1970-01-01 UTC.",
        }
    zone = f"without an offset it is in {column.zone}" if column.zone else "with an offset or Z"
    field: Json = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "description": f"ISO 8601, {zone}."}
    return field if column.zone else field | {"format": "date-time"}
