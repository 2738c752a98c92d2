"""JSON transactions into batches: decode, check, convert; nothing is half-applied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tollgate.codec import missing, number_of, text_of, text_or_empty, time_reader, value_readers
from tollgate.columns import ColumnReader
from tollgate.errors import InputError
from tollgate.hashing import MISSING_KEY, HashKey, category_codes, entity_key, text_hashes
from tollgate.money import Money
from tollgate.rows import Row, RowCodec
from tollgate.schema import EFFECTIVE_TIME, TRANSACTION_ID, Kind, Schema
from tollgate.transaction import Batch


@dataclass(frozen=True, slots=True)
class Converted:
    """Rows as a batch, and what is wrong with some of them.

    Attributes:
        batch: All N rows, in order. One with an error has no keys, no values, the time 0 and the id "".
        errors: By row; they do not name the row.
    """

    batch: Batch
    errors: dict[int, InputError]


class TransactionReader:
    """Reads transactions of one schema; JSON here, files through `tollgate.files`.

    `decode`, `decode_one`, `body`, `bodies`, `row`, `typed` and `attribute` are those of `RowCodec`.
    """

    def __init__(self, schema: Schema, money: Money, hash_key: bytes) -> None:
        """Make the reader.

        Args:
            schema: What the columns are.
            money: The base currency and the rates into it.
            hash_key: Secret of 16 to 64 bytes under which entity ids are hashed.
        """
        self.schema = schema
        self.money = money
        self.key = HashKey.of(hash_key)
        self.required = schema.required
        self.read_time = time_reader(schema.columns[EFFECTIVE_TIME], earliest_us=0)
        self.readers = {
            value: (name, *reader)
            for name, column in schema.columns.items()
            if name != EFFECTIVE_TIME
            for value, reader in value_readers(name, column).items()
        }
        self.money_columns = {n: c for n, c in schema.columns.items() if c.kind is Kind.MONEY}
        self._entities = [(name, schema.sources(name)[0]) for name in schema.entities]
        self._places = {name: place for place, name in enumerate(schema.values)}
        self._categories = [self._places[n] for n, column in schema.columns.items() if column.kind is Kind.CATEGORY]
        self._rows = RowCodec(schema)
        self._columns = ColumnReader(schema, money, self.key, self._rows.places, self.readers, self.read_money)
        self.decode = self._rows.decode
        self.decode_one = self._rows.decode_one
        self.body = self._rows.body
        self.bodies = self._rows.bodies
        self.row = self._rows.row
        self.typed = self._rows.typed
        self.attribute = self._rows.attribute

    def warm_up(self) -> None:
        """Compile, or load what was compiled, so that no request waits for it."""
        self.convert([self.row({})])

    def read_entity(self, text: str) -> int:
        """Return the key of one entity id."""
        return entity_key(text, self.key)

    def convert(self, rows: Sequence[Row]) -> Converted:
        """Return rows, as `decode` makes them, as a batch; an id that comes twice is not looked for."""
        batch, doubtful = self._columns.read(rows)
        errors: dict[int, InputError] = {}
        assert isinstance(batch.ids, list)
        for row in doubtful:
            try:
                read = self.read_row(self._rows.cells(rows[row]))
            except InputError as error:
                errors[row] = error
                read = "", 0, [MISSING_KEY] * len(self._entities), [math.nan] * len(self._places)
            batch.ids[row], batch.time_us[row], batch.keys[:, row], batch.values[:, row] = read
        return Converted(batch, errors)

    def from_json(self, body: bytes) -> Batch:
        """Return the transaction, or the array of them, in a JSON body.

        Raises:
            InputError: The body is not JSON, a field is missing, unknown or wrong, or an id comes twice.
        """
        return self.from_rows(self.decode(body)[1])

    def from_rows(self, rows: Sequence[Row | Mapping[str, Any]]) -> Batch:
        """Return the batch of rows that `decode` made, or that are mappings from field to value.

        Raises:
            InputError: A value is missing or wrong; it names the row and the column. Or an id comes twice.
        """
        batch = self._sound([self.row(row) if isinstance(row, Mapping) else row for row in rows])
        check_unique(batch.ids)
        return batch

    def from_bodies(self, bodies: Sequence[bytes]) -> Batch:
        """Return the batch of recorded transactions, each as `body` wrote it.

        Raises:
            InputError: One is not of this schema; it names its place.
        """
        try:
            _, rows = self._rows.decode(b"[" + b",".join(bodies) + b"]")
        except InputError:
            rows = []  # one by one, to name the one that is wrong
            for place, body in enumerate(bodies):
                try:
                    rows.append(self._rows.decode_one(body))
                except InputError as error:
                    raise InputError(error.code, error.message, **{**error.where, "row": place}) from None
        return self._sound(rows)

    def _sound(self, rows: Sequence[Row]) -> Batch:
        converted = self.convert(rows)
        for row, error in sorted(converted.errors.items()):
            place = row if len(rows) > 1 else None
            raise InputError(error.code, error.message, row=place, **error.where)
        return converted.batch

    def read_row(self, row: Mapping[str, Any]) -> tuple[str, int, list[int], list[float]]:
        """Return id, effective time, entity keys and values of one row, read value by value.

        Raises:
            InputError: A value is missing or wrong; it names the column.
        """
        for name in self.required:
            for source in self.schema.sources(name):
                if missing(row.get(source)):
                    raise InputError(
                        "missing_value", f"expected a value for '{source}', but there is none", column=name
                    )
        identifier, time_us, entities, values = self._read_cells(row)
        # Hashed when nothing can fail any more, all together: rows full of errors must not cost more than good ones.
        hashes = text_hashes(entities, self.key).tolist()
        keys = [key if text else MISSING_KEY for text, key in zip(entities, hashes, strict=True)]
        categories = [values[place] for place in self._categories]
        for place, text, code in zip(self._categories, categories, category_codes(categories).tolist(), strict=True):
            values[place] = code if text else math.nan
        return identifier, time_us, keys, values

    def _read_cells(self, row: Mapping[str, Any]) -> tuple[str, int, list[str], list[Any]]:
        """Return id, effective time, entities and values of one row; entities and categories as texts."""
        name, source = TRANSACTION_ID, self.schema.sources(TRANSACTION_ID)[0]
        try:
            identifier = text_of(row[source])
            name, source = EFFECTIVE_TIME, self.schema.sources(EFFECTIVE_TIME)[0]
            time_us = self.read_time(row[source])
            entities = []
            for name, source in self._entities:  # noqa: B007  # named when it fails
                entities.append(text_or_empty(row.get(source)))
            values: list[Any] = [math.nan] * len(self._places)
            values[self._places[EFFECTIVE_TIME]] = float(time_us)
            for value, (name, source, read) in self.readers.items():  # noqa: B007
                values[self._places[value]] = read(row.get(source))
            for name, column in self.money_columns.items():
                source = self.schema.sources(name)[0]
                currency = row.get(self.schema.sources(column.currency_column)[0]) if column.currency_column else None
                values[self._places[name]] = self.read_money(name, row.get(source), currency, time_us)
        except InputError as error:
            raise InputError(error.code, f"'{source}': {error.message}", column=name) from None
        return identifier, time_us, entities, values

    def read_money(self, name: str, value: Any, currency: Any, time_us: int) -> float:
        """Return an amount of column `name` in minor units of the base currency, or NaN where it is missing.

        Args:
            name: The column.
            value: The amount.
            currency: What the field of its currency holds; not read where the column is of one currency.
            time_us: The effective time.

        Raises:
            InputError: It is no amount, or its currency is unknown.
        """
        column = self.money_columns[name]
        if value is None or value == "":
            return math.nan
        if isinstance(value, float) and math.isnan(value):
            raise InputError("bad_amount", "expected an amount, but got NaN; leave the field out if there is none")
        amount = number_of(value)
        if column.currency is not None:
            return float(self.money.to_minor(amount, column.currency, time_us))
        if missing(currency):
            source = self.schema.sources(column.currency_column or "")[0]
            raise InputError("missing_value", f"expected its currency in '{source}', but there is none")
        return float(self.money.to_minor(amount, str(currency), time_us))


def check_unique(ids: Sequence[str]) -> None:
    """Check that no transaction id comes twice.

    Raises:
        InputError: One does; it names the row of the second.
    """
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for row, identifier in enumerate(ids):
        if identifier in seen:
            raise InputError(
                "duplicate_id",
                f"expected every transaction_id once, but {identifier!r} came before; send each transaction once",
                row=row,
                column=TRANSACTION_ID,
            )
        seen.add(identifier)
