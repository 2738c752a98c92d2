"""JSON transactions into batches: decode, check, convert; nothing is half-applied."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from tollgate.codec import entity_reader, missing, number_of, text_of, time_reader, value_readers
from tollgate.errors import InputError, MalformedError
from tollgate.money import Money
from tollgate.schema import EFFECTIVE_TIME, TRANSACTION_ID, Kind, Schema
from tollgate.transaction import Batch

_TYPES: dict[Kind, Any] = {
    Kind.ID: str | int,
    Kind.ENTITY: str | int | float | None,
    Kind.CATEGORY: str | int | float | None,
    Kind.MONEY: float | None,
    Kind.NUMBER: float | None,
    Kind.LOCATION: float | None,
    Kind.FLAG: bool | int | None,
    Kind.TIMESTAMP: str | int | float | None,
}


class TransactionReader:
    """Reads transactions of one schema; JSON here, files through `tollgate.files`."""

    def __init__(self, schema: Schema, money: Money, hash_key: bytes) -> None:
        """Make the reader.

        Args:
            schema: What the columns are.
            money: The base currency and the rates into it.
            hash_key: Secret of 16 to 64 bytes under which entity ids are hashed.
        """
        self.schema = schema
        self.money = money
        self.required = schema.required
        self.read_time = time_reader(schema.columns[EFFECTIVE_TIME], earliest_us=0)
        self.read_entity = entity_reader(hash_key)
        self.readers = {
            value: (name, *reader)
            for name, column in schema.columns.items()
            if name != EFFECTIVE_TIME
            for value, reader in value_readers(name, column).items()
        }
        self.money_columns = {n: c for n, c in schema.columns.items() if c.kind is Kind.MONEY}
        self._entities = [(name, schema.sources(name)[0]) for name in schema.entities]
        self._places = {name: place for place, name in enumerate(schema.values)}
        self._row_type = _row_type(schema)
        self._one: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self._row_type)
        self._many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[self._row_type])  # type: ignore[name-defined]
        self._fields = {source: f"f{place}" for place, source in enumerate(_sources(schema))}

    def from_json(self, body: bytes) -> Batch:
        """Return the transaction, or the array of them, in a JSON body.

        Raises:
            InputError: The body is not JSON, a field is missing, unknown or wrong, or an id comes twice.
        """
        return self.from_rows(self.decode(body)[1])

    def decode(self, body: bytes) -> tuple[bool, list[Mapping[str, Any]]]:
        """Return whether a JSON body is an array, and its rows: mappings from field to value of checked types.

        Raises:
            InputError: The body is not JSON, or a field is missing, unknown or of a wrong type.
        """
        many = body.lstrip()[:1] == b"["
        try:
            rows = self._many.decode(body) if many else [self._one.decode(body)]
        except msgspec.ValidationError as error:
            raise _explain(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MalformedError("invalid_json", f"expected a JSON object or an array of them: {error}") from None
        return many, [{source: getattr(row, field) for source, field in self._fields.items()} for row in rows]

    def from_rows(self, rows: Sequence[Mapping[str, Any]]) -> Batch:
        """Return the batch of rows that are mappings from field to value.

        Raises:
            InputError: A value is missing or wrong; it names the row and the column.
        """
        n = len(rows)
        ids: list[str] = []
        time_us = np.empty(n, dtype=np.int64)
        keys = np.zeros((len(self._entities), n), dtype=np.uint64)
        values = np.full((len(self._places), n), math.nan)
        for i, row in enumerate(rows):
            place = i if n > 1 else None
            identifier, time_us[i], entity_keys, row_values = self.read_row(row, place)
            ids.append(identifier)
            keys[:, i] = entity_keys
            values[:, i] = row_values
        if len(set(ids)) != n:
            first = {one: n - 1 - i for i, one in enumerate(reversed(ids))}
            twice = next(i for i, one in enumerate(ids) if first[one] != i)
            raise InputError(
                "duplicate_id",
                f"expected every transaction_id once, but {ids[twice]!r} came before; send each transaction once",
                row=twice,
                column=TRANSACTION_ID,
            )
        return Batch(self.schema, ids, time_us, keys, values)

    def read_row(self, row: Mapping[str, Any], place: int | None) -> tuple[str, int, list[int], list[float]]:
        """Return id, effective time, entity keys and values of one row; `place` is named in errors."""
        for name in self.required:
            for source in self.schema.sources(name):
                if missing(row.get(source)):
                    raise InputError(
                        "missing_value",
                        f"expected a value for '{source}', but there is none",
                        row=place,
                        column=name,
                    )
        name, source = TRANSACTION_ID, self.schema.sources(TRANSACTION_ID)[0]
        try:
            identifier = text_of(row[source])
            name, source = EFFECTIVE_TIME, self.schema.sources(EFFECTIVE_TIME)[0]
            time_us = self.read_time(row[source])
            keys = []
            for name, source in self._entities:  # noqa: B007  # named when it fails
                keys.append(self.read_entity(row.get(source)))
            values = [math.nan] * len(self._places)
            values[self._places[EFFECTIVE_TIME]] = float(time_us)
            for value, (name, source, read) in self.readers.items():  # noqa: B007
                values[self._places[value]] = read(row.get(source))
            for name in self.money_columns:
                source = self.schema.sources(name)[0]
                values[self._places[name]] = self.read_money(name, row, time_us)
        except InputError as error:
            raise InputError(error.code, f"'{source}': {error.message}", row=place, column=name) from None
        return identifier, time_us, keys, values

    def read_money(self, name: str, row: Mapping[str, Any], time_us: int) -> float:
        """Return the amount in column `name` in minor units of the base currency, or NaN where it is missing.

        Raises:
            InputError: It is no amount, or its currency is unknown.
        """
        column = self.money_columns[name]
        value = row.get(column.source or name)
        if value is None or value == "":
            return math.nan
        if isinstance(value, float) and math.isnan(value):
            raise InputError("bad_amount", "expected an amount, but got NaN; leave the field out if there is none")
        amount = number_of(value)
        if column.currency is not None:
            return float(self.money.to_minor(amount, column.currency, time_us))
        currency_source = self.schema.sources(column.currency_column or "")[0]
        currency = row.get(currency_source)
        if missing(currency):
            raise InputError("missing_value", f"expected its currency in '{currency_source}', but there is none")
        return float(self.money.to_minor(amount, str(currency), time_us))


def _sources(schema: Schema) -> dict[str, Any]:
    """Return the fields that a schema reads, and their JSON types; several columns may read one field."""
    types: dict[str, Any] = {}
    for name, column in schema.columns.items():
        for source in schema.sources(name):
            types[source] = types[source] | _TYPES[column.kind] if source in types else _TYPES[column.kind]
    return types


def _row_type(schema: Schema) -> type:
    required = {source for name in schema.required for source in schema.sources(name)}
    types: dict[str, Any] = _sources(schema) | dict.fromkeys(schema.ignore, Any)
    fields: list[Any] = []
    rename: dict[str, str] = {}
    for place, (source, kind) in enumerate(types.items()):
        rename[f"f{place}"] = source
        fields.append((f"f{place}", kind) if source in required else (f"f{place}", kind, None))
    return msgspec.defstruct("Row", fields, rename=rename, forbid_unknown_fields=True, kw_only=True, gc=False)


_PATH = re.compile(r" - at `\$(?:\[(\d+)\])?(?:\.(.+))?`$")
_MISSING = re.compile(r"Object missing required field `(.+?)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+?)`")
_Build = Callable[[re.Match[str]], tuple[str, str]]
_SHAPES: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (_MISSING, "missing_field", "expected a field '{0}', but there is none"),
    (
        _UNKNOWN,
        "unknown_field",
        "the schema has no field '{0}'; leave it out, or name it in [schema] of tollgate.toml (columns or ignore)",
    ),
)


def _explain(text: str) -> InputError:
    """Turn the decoder's message into ours."""
    path = _PATH.search(text)
    row = int(path[1]) if path and path[1] else None
    for pattern, code, message in _SHAPES:
        match = pattern.search(text)
        if match:
            return InputError(code, message.format(match[1]), row=row, column=match[1])
    field = path[2] if path else None
    what = _PATH.sub("", text)
    return InputError("wrong_type", f"'{field}': {what}" if field else what, row=row, column=field)
