"""The columns of rows as arrays: texts together in compiled calls, numbers as arrays, the codec for all else.

A row with anything that is not recognised is named doubtful, and is then read value by value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import numba
import numpy as np
from numpy.typing import NDArray

from tollgate.codec import MAX_TEXT, MAX_TIME_US, MIN_TIME_US, UNIT_US, Decode, missing, text_or_empty, time_reader
from tollgate.errors import InputError
from tollgate.hashing import HashKey, Packed, hash_packed, pack, packed_codes
from tollgate.money import EXPONENTS, Money
from tollgate.parsing import UNREAD, minor_units, read_times
from tollgate.schema import EFFECTIVE_TIME, TRANSACTION_ID, Column, Kind, Schema
from tollgate.transaction import Batch

Cells = list[Any]  # of one field, row by row
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
ReadMoney = Callable[[str, Any, Any, int], float]

_TEXTS: set[type] = {str}
_TEXTS_OR_NONE: set[type] = {str, type(None)}
_FLOATS_OR_NONE: set[type] = {float, type(None)}
_NUMBERS_OR_NONE: set[type] = {float, int, type(None)}
_FLAGS_OR_NONE: set[type] = {bool, type(None)}
_LIMITS = {Kind.FLAG: 1.0, Kind.CATEGORY: math.inf, Kind.TIMESTAMP: math.inf, Kind.MONEY: math.inf}
_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True)
class _Time:
    """A timestamp: where its cells are, where its values go, and how one is read."""

    field: int
    value: int
    earliest_us: int
    unit_us: float | None
    read: Callable[[Any], int]


@dataclass(frozen=True, slots=True)
class _Number:
    field: int
    value: int
    plain: set[type]
    read: Decode


@dataclass(frozen=True, slots=True)
class _Money:
    name: str
    field: int
    value: int
    currency: str | None
    currency_field: int


class ColumnReader:
    """Reads rows of one schema as a batch."""

    def __init__(
        self,
        schema: Schema,
        money: Money,
        key: HashKey,
        places: Mapping[str, int],
        readers: Mapping[str, tuple[str, str, Decode]],
        read_money: ReadMoney,
    ) -> None:
        """Make the reader.

        Args:
            schema: What the columns are.
            money: The base currency.
            key: Entity ids are hashed under it.
            places: Where in a row the value of each field is.
            readers: For each value but money and the effective time: its column, its field and how one is read.
            read_money: Reads one amount: column, amount, currency and effective time.
        """
        self._schema = schema
        self._money = money
        self._key = key
        self._read_money = read_money
        values = {name: place for place, name in enumerate(schema.values)}
        fields = {name: places[schema.sources(name)[0]] for name in schema.columns}
        columns = schema.columns.items()
        self._id = fields[TRANSACTION_ID]
        self._times = [
            _time(name, column, fields[name], values[name]) for name, column in columns if column.kind is Kind.TIMESTAMP
        ]
        self._times.sort(key=lambda time: time.value != values[EFFECTIVE_TIME])  # amounts need it: it is the first
        self._entities = [fields[name] for name in schema.entities]
        categories = [name for name, column in columns if column.kind is Kind.CATEGORY]
        self._categories = [fields[name] for name in categories]
        self._category_values = np.array([values[name] for name in categories], dtype=np.int64)
        self._numbers = [
            _Number(
                places[source],
                values[value],
                _FLAGS_OR_NONE if schema.columns[name].kind is Kind.FLAG else _FLOATS_OR_NONE,
                read,
            )
            for value, (name, source, read) in readers.items()
            if schema.columns[name].kind in (Kind.NUMBER, Kind.LOCATION, Kind.FLAG)
        ]
        self._amounts = [
            _Money(name, fields[name], values[name], column.currency, fields.get(column.currency_column or "", -1))
            for name, column in columns
            if column.kind is Kind.MONEY
        ]
        self._dated = [time for time in self._times if time.unit_us is None]
        texts = [TRANSACTION_ID, *(None for _ in self._dated), *schema.entities, *categories]
        self._needed_texts = np.array([name in schema.required for name in texts])
        self._limits, self._needed_values = _bounds(schema)

    def read(self, rows: Sequence[Any]) -> tuple[Batch, list[int]]:
        """Return N rows as a batch, and which of them are doubtful: their values mean nothing yet."""
        n = len(rows)
        if n == 0:
            return self._empty(), []
        flat = list(chain.from_iterable(map(msgspec.structs.astuple, rows)))  # one pass over memory, not one a column
        cells: list[Cells] = [flat[place :: len(flat) // n] for place in range(len(flat) // n)]
        doubtful = np.zeros(n, dtype=np.bool_)
        ids = self._texts(cells[self._id], doubtful)
        columns = [ids]
        columns += [_time_texts(cells[time.field]) for time in self._dated]
        columns += [self._texts(cells[field], doubtful) for field in self._entities]
        columns += [self._texts(cells[field], doubtful) for field in self._categories]
        packed = pack(ids if len(columns) == 1 else list(chain.from_iterable(columns)))
        absent = np.empty((len(columns), n), dtype=np.bool_)
        _screen_texts(packed.ends, self._needed_texts, MAX_TEXT, absent, doubtful)
        values = np.full((len(self._schema.values), n), math.nan)
        time_us = self._read_times(cells, packed, values, doubtful)
        keys = self._read_texts(packed, absent, values)
        for number in self._numbers:
            self._read_number(number, cells[number.field], values, doubtful)
        for amount in self._amounts:
            self._read_amounts(amount, cells, time_us, values, doubtful)
        _screen_values(values, self._limits, self._needed_values, doubtful)
        return Batch(self._schema, list(ids), time_us, keys, values), doubtful.nonzero()[0].tolist()

    def _empty(self) -> Batch:
        schema = self._schema
        return Batch(
            schema,
            [],
            np.empty(0, dtype=np.int64),
            np.empty((len(schema.entities), 0), dtype=np.uint64),
            np.empty((len(schema.values), 0)),
        )

    def _texts(self, cells: Cells, doubtful: Flags) -> Sequence[str]:
        """Return ids or categories as texts; an empty one is missing."""
        kinds = set(map(type, cells))
        if kinds == _TEXTS:
            return cells
        if kinds <= _TEXTS_OR_NONE:
            return [cell or "" for cell in cells]
        texts = []
        for row, cell in enumerate(cells):
            try:
                texts.append(text_or_empty(cell))
            except InputError:
                texts.append("")
                doubtful[row] = True
        return texts

    def _read_texts(self, packed: Packed, absent: Flags, values: Floats) -> NDArray[np.uint64]:
        """Return the keys of the entities, uint64 (E, N), and put the categories among the values."""
        n = absent.shape[1]
        entity = 1 + len(self._dated)
        category = entity + len(self._entities)
        keys = np.empty((len(self._entities), n), dtype=np.uint64)
        hash_packed(*packed, entity * n, self._key.words, keys.reshape(-1))
        keys[absent[entity:category]] = 0
        if self._categories:
            codes = packed_codes(packed, category * n, len(self._categories) * n).reshape(-1, n)
            codes[absent[category:]] = math.nan
            values[self._category_values] = codes
        return keys

    def _read_times(self, cells: list[Cells], packed: Packed, values: Floats, doubtful: Flags) -> NDArray[np.int64]:
        """Return the effective times, int64 (N,), and put all times among the values."""
        n = len(doubtful)
        effective = np.empty(0, dtype=np.int64)
        texts = 1
        for time in self._times:
            time_us = np.empty(n, dtype=np.int64)
            if time.unit_us is None:
                read_times(packed, texts * n, time.earliest_us, time_us)
                texts += 1
            else:
                _counted(cells[time.field], time.unit_us, time.earliest_us, time_us)
            unread = (time_us == UNREAD).nonzero()[0].tolist()
            for row in unread:
                cell = cells[time.field][row]
                try:
                    time_us[row] = 0 if missing(cell) else time.read(cell)
                except InputError:
                    time_us[row] = 0
                    doubtful[row] = True
            values[time.value] = time_us
            for row in unread:
                if missing(cells[time.field][row]):
                    values[time.value, row] = math.nan
            if time is self._times[0]:
                effective = time_us
        return effective

    def _read_number(self, number: _Number, cells: Cells, values: Floats, doubtful: Flags) -> None:
        if set(map(type, cells)) <= number.plain:
            values[number.value] = np.array(cells, dtype=np.float64)
            return
        for row, cell in enumerate(cells):
            try:
                values[number.value, row] = number.read(cell)
            except InputError:
                doubtful[row] = True

    def _read_amounts(
        self, amount: _Money, cells: list[Cells], time_us: NDArray[np.int64], values: Floats, doubtful: Flags
    ) -> None:
        """Put amounts in minor units of the base currency among the values."""
        n = len(doubtful)
        base = self._money.currency
        amounts = cells[amount.field]
        currencies = None if amount.currency_field < 0 else cells[amount.currency_field]
        if currencies is None:
            foreign = None if amount.currency == base else np.ones(n, dtype=np.bool_)
        else:
            foreign = None if currencies.count(base) == n else np.array([one != base for one in currencies])
        out = values[amount.value]
        if set(map(type, amounts)) <= _FLOATS_OR_NONE:
            minor_units(np.array(amounts, dtype=np.float64), float(10 ** EXPONENTS[base]), out)
        others = np.isnan(out) if foreign is None else np.isnan(out) | foreign
        for row in others.nonzero()[0].tolist():
            currency = None if currencies is None else currencies[row]
            try:
                out[row] = self._read_money(amount.name, amounts[row], currency, int(time_us[row]))
            except InputError:
                doubtful[row] = True


def _time(name: str, column: Column, field: int, value: int) -> _Time:
    earliest_us = 0 if name == EFFECTIVE_TIME else MIN_TIME_US
    unit_us = None if column.unit is None else UNIT_US[column.unit]
    return _Time(field, value, earliest_us, unit_us, time_reader(column, earliest_us))


def _bounds(schema: Schema) -> tuple[Floats, Flags]:
    """Return how far from 0 each value may be, float64 (C,), and which must be there, bool (C,)."""
    limits, needed = [], []
    for name, column in schema.columns.items():
        if column.kind in (Kind.ID, Kind.ENTITY):
            continue
        required = name in schema.required
        limits += [90.0, 180.0] if column.kind is Kind.LOCATION else [_LIMITS.get(column.kind, _LARGEST)]
        needed += [required] * (2 if column.kind is Kind.LOCATION else 1)
    return np.array(limits), np.array(needed)


def _time_texts(cells: Cells) -> Sequence[str]:
    """Return times as texts; what is none is read by itself, as what is not recognised is."""
    kinds = set(map(type, cells))
    if kinds == _TEXTS:
        return cells
    return [cell if type(cell) is str and len(cell) <= MAX_TEXT else "" for cell in cells]


def _counted(cells: Cells, unit_us: float, earliest_us: int, out: NDArray[np.int64]) -> None:
    """Write times that are numbers into `out`, int64 (N,), microseconds; UNREAD where one is not recognised."""
    out[:] = UNREAD
    if set(map(type, cells)) <= _NUMBERS_OR_NONE:
        try:
            counts = np.array(cells, dtype=np.float64)
        except OverflowError:  # a whole number beyond float64
            return
        with np.errstate(over="ignore"):
            scaled = counts * unit_us
        inside = (scaled >= earliest_us) & (scaled <= MAX_TIME_US)
        out[inside] = np.rint(scaled[inside]).astype(np.int64)


@numba.njit(cache=True, error_model="numpy")
def _screen_texts(ends: NDArray[np.int64], needed: Flags, most: int, absent: Flags, doubtful: Flags) -> None:
    """Find which of T columns of N packed texts are empty, bool (T, N), and the rows that lack one or have a long one.

    Args:
        ends: As `Packed` has them, int64 (T * N,), column by column.
        needed: Which columns every row must have, bool (T,).
        most: Bytes; a longer text may be too long.
        absent: Written; bool (T, N).
        doubtful: Set where a row is not as it should be, bool (N,).
    """
    start = np.int64(0)
    for column in range(absent.shape[0]):
        for row in range(absent.shape[1]):
            end = ends[column * absent.shape[1] + row]
            empty = end == start
            absent[column, row] = empty
            if (empty and needed[column]) or end - start > most:
                doubtful[row] = True
            start = end + 1


@numba.njit(cache=True, error_model="numpy")
def _screen_values(values: Floats, limits: Floats, needed: Flags, doubtful: Flags) -> None:
    """Set `doubtful`, bool (N,), where one of the values, float64 (C, N), is too large, or missing and needed."""
    for column in range(values.shape[0]):
        for row in range(values.shape[1]):
            value = values[column, row]
            if math.isnan(value):
                if needed[column]:
                    doubtful[row] = True
            elif abs(value) > limits[column]:
                doubtful[row] = True
