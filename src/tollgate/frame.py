"""The columns of a data frame as arrays: a vectorised check, and the codec for what it does not recognise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tollgate.codec import MAX_TIME_US, MIN_TIME_US, flag_of, text_or_empty, time_reader
from tollgate.duration import SECOND_US
from tollgate.errors import InputError
from tollgate.hashing import MISSING_KEY, category_codes, pack, text_hashes
from tollgate.intake import TransactionReader
from tollgate.money import EXPONENTS
from tollgate.parsing import UNREAD, minor_units, read_times
from tollgate.schema import EFFECTIVE_TIME, Column, Kind


@dataclass(frozen=True, slots=True)
class LabelFields:
    """The fields of a file that hold its labels.

    Attributes:
        source: The verdict: true or 1 for fraud.
        available_from: When it was known; where the file has no such field, `delay_us` after the transaction.
    """

    source: str
    available_from: str | None
    delay_us: int


class FrameColumns:
    """The columns of one frame as arrays, with the first error of each row that has one."""

    def __init__(self, frame: pl.DataFrame, reader: TransactionReader) -> None:
        self._frame = frame
        self._reader = reader
        self._schema = reader.schema
        self.errors: dict[int, InputError] = {}

    def reject(self, row: int, code: str, message: str, column: str) -> None:
        """Note what is wrong with a row; its first error counts."""
        self.errors.setdefault(row, InputError(code, message, column=column))

    def require(self, names: tuple[str, ...]) -> None:
        """Reject the rows that lack a value of one of these columns."""
        for name in names:
            for source in self._schema.sources(name):
                series = self._series(source)
                absent = series.is_null() if series.dtype != pl.String else series.fill_null("") == ""
                for row in np.flatnonzero(absent.to_numpy()):
                    self.reject(int(row), "missing_value", f"'{source}': expected a value, but there is none", name)

    def _series(self, source: str) -> pl.Series:
        if source not in self._frame.columns:
            return pl.Series(source, [None] * len(self._frame), dtype=pl.String)
        series = self._frame[source]
        return series.cast(pl.String) if series.dtype in (pl.Categorical, pl.Enum) else series

    def _each(
        self,
        name: str,
        source: str,
        series: pl.Series,
        rows: NDArray[np.int64],
        read: Callable[[Any], Any],
        into: Any,
    ) -> None:
        """Read the chosen values one by one, noting what is wrong with them."""
        for row in rows.tolist():
            try:
                into[row] = read(series[row])
            except InputError as error:
                self.reject(row, error.code, f"'{source}': {error.message}", name)

    def texts(self, name: str) -> list[str]:
        """Return the values of an id column as texts; an empty one is missing."""
        source = self._schema.sources(name)[0]
        series = self._series(source)
        if series.dtype == pl.String or series.dtype.is_integer():
            texts = series.cast(pl.String).fill_null("")
            result: list[str] = texts.to_list()
            suspect = np.flatnonzero((texts.str.len_chars() > 200).to_numpy())
        else:
            result, suspect = [""] * len(series), np.arange(len(series))
        self._each(name, source, series, suspect, text_or_empty, result)
        return result

    def keys(self, name: str) -> NDArray[np.uint64]:
        """Return the keys of an entity column, uint64 (N,); 0 is missing."""
        return self._mapped(name, lambda texts: text_hashes(texts, self._reader.key), MISSING_KEY).astype(np.uint64)

    def _mapped(self, name: str, read: Callable[[list[str]], NDArray[Any]], absent: float) -> NDArray[Any]:
        """Read every distinct value of a column of texts once."""
        source = self._schema.sources(name)[0]
        series = self._series(source)
        distinct = series.unique()
        texts: list[str] = []
        for value in distinct.to_list():
            try:
                texts.append(text_or_empty(value))
            except InputError as error:
                texts.append("")
                same = series.is_null() if value is None else series == value
                for row in np.flatnonzero(same.fill_null(value=False).to_numpy()):
                    self.reject(int(row), error.code, f"'{source}': {error.message}", name)
        known = read(texts)
        known[[text == "" for text in texts]] = absent
        values = pl.Series(known)
        return series.replace_strict(distinct, values, return_dtype=values.dtype).to_numpy()

    def times(self) -> NDArray[np.int64]:
        """Return the effective times, int64 (N,), microseconds."""
        source = self._schema.sources(EFFECTIVE_TIME)[0]
        result = self._times(EFFECTIVE_TIME, self._schema.columns[EFFECTIVE_TIME], source)
        return np.where(np.isnan(result), 0, result).astype(np.int64)

    def _times(self, name: str, column: Column, source: str) -> NDArray[np.float64]:
        """Return microseconds as float64, exactly; NaN where the value is missing."""
        series = self._series(source)
        if series.dtype == pl.Date:
            series = series.cast(pl.Datetime("us"))
        earliest_us = 0 if name == EFFECTIVE_TIME else MIN_TIME_US
        read = time_reader(column, earliest_us)
        result = np.full(len(series), math.nan)
        present = ~(series.is_null() if series.dtype != pl.String else series.fill_null("") == "").to_numpy()
        naive = isinstance(series.dtype, pl.Datetime) and series.dtype.time_zone is None
        if isinstance(series.dtype, pl.Datetime) and column.unit is None and (not naive or column.zone):
            if naive and column.zone != "UTC":
                series = series.dt.replace_time_zone(column.zone, ambiguous="earliest", non_existent="null")
            micros = series.dt.epoch("us")
            inside = present & micros.is_between(earliest_us, MAX_TIME_US).fill_null(value=False).to_numpy()
            result[inside] = micros.to_numpy()[inside]
            present &= ~inside
        elif series.dtype.is_integer() and column.unit == "s":
            seconds = series.to_numpy()
            inside = present & (seconds >= earliest_us // SECOND_US) & (seconds <= MAX_TIME_US // SECOND_US)
            result[inside] = seconds[inside] * float(SECOND_US)
            present &= ~inside
        elif series.dtype == pl.String and column.unit is None:
            micros_read = np.empty(len(series), dtype=np.int64)
            read_times(pack(series.fill_null("").to_list()), 0, earliest_us, micros_read)
            inside = micros_read != UNREAD
            result[inside] = micros_read[inside]
            present &= ~inside
        self._each(name, source, series, np.flatnonzero(present), read, result)
        return result

    def values(self, value: str, time_us: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return one of `schema.values`, float64 (N,); NaN is missing."""
        if value in self._reader.money_columns:
            return self._money(value, time_us)
        name, source, read = self._reader.readers.get(value, (EFFECTIVE_TIME, "", None))
        if read is None:  # the effective time, already read
            return time_us.astype(np.float64)
        column = self._schema.columns[name]
        if column.kind is Kind.CATEGORY:
            return self._mapped(name, category_codes, math.nan)
        if column.kind is Kind.TIMESTAMP:
            return self._times(name, column, source)
        series = self._series(source)
        if series.dtype.is_numeric() or (series.dtype == pl.Boolean and column.kind is Kind.FLAG):
            result = series.cast(pl.Float64, strict=False).to_numpy().copy()
            limit = 90.0 if column.kind is Kind.LOCATION else math.inf
            fine = np.isin(result, (0.0, 1.0)) if column.kind is Kind.FLAG else np.abs(result) < limit
            suspect = np.flatnonzero(~(fine | np.isnan(result)))
        else:
            result = np.full(len(series), math.nan)
            suspect = np.arange(len(series))
        self._each(name, source, series, suspect, read, result)
        return result

    def _money(self, name: str, time_us: NDArray[np.int64]) -> NDArray[np.float64]:
        column = self._reader.money_columns[name]
        source = column.source or name
        amounts = self._series(source)
        result = np.full(len(amounts), math.nan)
        base = self._reader.money.currency
        if column.currency_column:
            currencies = self._series(self._schema.sources(column.currency_column)[0])
            plain = (currencies == base).fill_null(value=False).to_numpy()
        else:
            currencies = None
            plain = np.full(len(amounts), column.currency == base)
        minor_units(amounts.cast(pl.Float64, strict=False).to_numpy(), float(10 ** EXPONENTS[base]), result)
        for row in np.flatnonzero(~plain | np.isnan(result)).tolist():
            currency = None if currencies is None else currencies[row]
            try:
                result[row] = self._reader.read_money(name, amounts[row], currency, int(time_us[row]))
            except InputError as error:
                self.reject(row, error.code, f"'{source}': {error.message}", name)
        return result

    def labels(self, fields: LabelFields, time_us: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return which rows are fraud, bool (N,), and when that was known, int64 (N,), microseconds."""
        series = self._series(fields.source)
        verdict = np.full(len(series), math.nan)
        if series.dtype == pl.Boolean or series.dtype.is_integer():
            verdict = series.cast(pl.Float64).to_numpy().copy()
            suspect = np.flatnonzero(~np.isin(verdict, (0.0, 1.0)))
        else:
            suspect = np.arange(len(series))
        self._each("label", fields.source, series, suspect, flag_of, verdict)
        for row in np.flatnonzero(np.isnan(verdict)).tolist():
            self.reject(row, "missing_value", f"'{fields.source}': expected a label, but there is none", "label")
        available = time_us + fields.delay_us
        if fields.available_from in self._frame.columns:
            assert fields.available_from is not None
            column = Column(Kind.TIMESTAMP, source=fields.available_from, zone="UTC")
            known = self._times("label", column, fields.available_from)
            available = np.where(np.isnan(known), available, known).astype(np.int64)
        return verdict == 1.0, available
