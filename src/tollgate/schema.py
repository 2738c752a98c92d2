"""Which columns a transaction has, and what they are.

A schema maps a foreign file or message onto Tollgate's words without rewriting it: `card_id` may be read
`from` a field named `CUSTOMER_ID`. The built-in schema is a card payment.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Literal

import msgspec

from tollgate.errors import ConfigError
from tollgate.money import EXPONENTS

TRANSACTION_ID = "transaction_id"
EFFECTIVE_TIME = "effective_time"


class Kind(StrEnum):
    """What a column is."""

    ID = "id"
    ENTITY = "entity"  # someone or something with a history: a card, a device
    MONEY = "money"
    NUMBER = "number"
    CATEGORY = "category"
    TIMESTAMP = "timestamp"
    LOCATION = "location"  # latitude and longitude, in degrees (WGS 84)
    FLAG = "flag"


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """One column.

    Attributes:
        source: The field that it is read from; its own name by default.
        required: A row without it is refused.
        zone: For a timestamp without an offset: the IANA zone that it is in. Without it such a value is refused.
        unit: For a timestamp that is a number: what it counts since 1970-01-01 UTC.
        currency: For money: the one currency that it is in.
        currency_column: For money: the category column that names the currency.
        lat: For a location: the field of the latitude; `lat` by default.
        lon: For a location: the field of the longitude; `lon` by default.
    """

    kind: Kind
    source: str | None = None
    required: bool = False
    zone: str | None = None
    unit: Literal["s", "ms", "us"] | None = None
    currency: str | None = None
    currency_column: str | None = None
    lat: str = "lat"
    lon: str = "lon"


_PLAIN = {"kind", "source", "required"}
_SETTINGS = {
    Kind.TIMESTAMP: {"zone", "unit"},
    Kind.MONEY: {"currency", "currency_column"},
    Kind.LOCATION: {"lat", "lon"},
}


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The columns by name, and the fields of the input that are known and not read.

    Raises:
        ConfigError: The columns contradict each other or lack what every transaction has.
    """

    columns: dict[str, Column]
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in ((TRANSACTION_ID, Kind.ID), (EFFECTIVE_TIME, Kind.TIMESTAMP)):
            column = self.columns.get(name)
            if column is None or column.kind is not kind:
                raise ConfigError("bad_schema", f"expected a column '{name}' of kind '{kind}'", column=name)
        for name, column in self.columns.items():
            self._check(name, column)

    def _check(self, name: str, column: Column) -> None:
        if not name.isidentifier():
            raise ConfigError("bad_schema", f"expected a name of letters, digits and _, got {name!r}", column=name)
        if column.kind is Kind.ID and name != TRANSACTION_ID:
            raise ConfigError(
                "bad_schema", f"column '{name}': only {TRANSACTION_ID} is of kind 'id'; use 'entity'", column=name
            )
        allowed = _PLAIN | _SETTINGS.get(column.kind, set())
        fresh = Column(kind=column.kind)
        for setting in column.__struct_fields__:
            if setting not in allowed and getattr(column, setting) != getattr(fresh, setting):
                raise ConfigError(
                    "bad_schema", f"column '{name}': '{setting}' does not belong to kind '{column.kind}'", column=name
                )
        if column.kind is Kind.MONEY:
            self._check_money(name, column)

    def _check_money(self, name: str, column: Column) -> None:
        if (column.currency is None) == (column.currency_column is None):
            raise ConfigError(
                "bad_schema", f"column '{name}': expected 'currency' or 'currency_column', one of them", column=name
            )
        if column.currency is not None and column.currency not in EXPONENTS:
            raise ConfigError(
                "unknown_currency", f"column '{name}': {column.currency!r} is no ISO 4217 code", column=name
            )
        if column.currency_column is not None:
            other = self.columns.get(column.currency_column)
            if other is None or other.kind is not Kind.CATEGORY:
                raise ConfigError(
                    "bad_schema",
                    f"column '{name}': expected a category column '{column.currency_column}'",
                    column=name,
                )

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Names of the columns without which a row is refused, in order."""
        always = (TRANSACTION_ID, EFFECTIVE_TIME)
        return tuple(name for name, column in self.columns.items() if column.required or name in always)

    @cached_property
    def entities(self) -> tuple[str, ...]:
        """Names of the entity columns, in order: the rows of `Batch.keys`."""
        return tuple(name for name, column in self.columns.items() if column.kind is Kind.ENTITY)

    @cached_property
    def values(self) -> tuple[str, ...]:
        """Names of the value columns, in order: the rows of `Batch.values`. A location is two of them."""
        names: list[str] = []
        for name, column in self.columns.items():
            if column.kind is Kind.LOCATION:
                names += [f"{name}_lat", f"{name}_lon"]
            elif column.kind not in (Kind.ID, Kind.ENTITY):
                names.append(name)
        return tuple(names)

    def sources(self, name: str) -> tuple[str, ...]:
        """Return the field or fields that column `name` is read from."""
        column = self.columns[name]
        if column.kind is Kind.LOCATION:
            return (column.lat, column.lon)
        return (column.source or name,)


def payment_schema() -> Schema:
    """Return the built-in schema: a card payment, as an acquirer or issuer sees it."""
    entity = Column(Kind.ENTITY)
    category = Column(Kind.CATEGORY)
    return Schema(
        {
            TRANSACTION_ID: Column(Kind.ID, required=True),
            EFFECTIVE_TIME: Column(Kind.TIMESTAMP, required=True),
            "amount": Column(Kind.MONEY, required=True, currency_column="currency"),
            "currency": Column(Kind.CATEGORY, required=True),
            "card_id": Column(Kind.ENTITY, required=True),
            "customer_id": entity,
            "merchant_id": entity,
            "device_id": entity,
            "ip": entity,
            "mcc": category,
            "channel": category,
            "country": category,
            "location": Column(Kind.LOCATION),
            "card_present": Column(Kind.FLAG),
        }
    )
