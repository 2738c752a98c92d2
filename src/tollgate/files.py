"""Files of transactions into batches: CSV, Parquet and JSON Lines, in bounded chunks.

A row that cannot be used is rejected with its reason and the rest goes on. Row numbers count data rows from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from tollgate.codec import MAX_TIME_US, MIN_TIME_US, flag_of, missing, text_of, time_reader
from tollgate.duration import SECOND_US
from tollgate.errors import InputError, TollgateError
from tollgate.hashing import category_code
from tollgate.intake import TransactionReader
from tollgate.money import EXPONENTS, MAX_AMOUNT_MINOR
from tollgate.schema import EFFECTIVE_TIME, TRANSACTION_ID, Column, Kind
from tollgate.transaction import Batch

CHUNK_ROWS = 65_536
_ROW = "__row"
_SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson")


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


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that could not be used, and why."""

    row: int
    transaction_id: str | None
    error: InputError


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next rows of a file.

    Attributes:
        batch: The N usable rows.
        rows: Their numbers in the file, int64 (N,).
        is_fraud: bool (N,), or None where no labels were asked for.
        available_us: When each label was known, int64 (N,).
        rejected: The other rows.
    """

    batch: Batch
    rows: NDArray[np.int64]
    is_fraud: NDArray[np.bool_] | None
    available_us: NDArray[np.int64] | None
    rejected: tuple[Rejected, ...]
    frame: pl.DataFrame


class TransactionFile:
    """A file of transactions, read in order; each pass over it reads it anew."""

    def __init__(
        self, path: Path, reader: TransactionReader, labels: LabelFields | None = None, *, sort: bool = False
    ) -> None:
        """Open the file and check its columns.

        Args:
            path: The file; its ending tells the format.
            reader: Knows the schema.
            labels: Where to find labels, if they are wanted.
            sort: Read in order of the effective time instead of the file's own; this holds the file in memory.

        Raises:
            InputError: It is not there, empty, damaged, of an unknown format, or lacks a column.
        """
        self.path = path
        self._reader = reader
        self._labels = labels
        self._frame = _scan(path)
        try:
            self.columns = tuple(self._frame.collect_schema().names())
            self.rows = int(self._frame.select(pl.len()).collect().item())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _unreadable(path, error) from None
        self._check_columns()
        if self.rows == 0:
            raise InputError("empty_file", f"expected at least one row in {path}, but there is none", file=str(path))
        self._frame = self._frame.with_row_index(_ROW)
        if sort:
            self._frame = self._frame.sort(reader.schema.sources(EFFECTIVE_TIME)[0], maintain_order=True)
        self._repeated = self._find_repeated()

    def _check_columns(self) -> None:
        needed = {s: name for name in self._reader.required for s in self._reader.schema.sources(name)}
        for column in self._reader.money_columns.values():
            if column.currency_column:
                needed.setdefault(self._reader.schema.sources(column.currency_column)[0], column.currency_column)
        if self._labels is not None:
            needed[self._labels.source] = "label"
        for source, name in needed.items():
            if source not in self.columns:
                raise InputError(
                    "missing_column",
                    f"expected a column '{source}' in {self.path}, but it has: {', '.join(self.columns)}; map yours to "
                    "it in [schema.columns] of tollgate.toml",
                    file=str(self.path),
                    column=name,
                )

    @property
    def unread(self) -> tuple[str, ...]:
        """Columns of the file that neither the schema nor the label reads."""
        schema = self._reader.schema
        known = {source for name in schema.columns for source in schema.sources(name)} | set(schema.ignore)
        if self._labels is not None:
            known |= {self._labels.source, self._labels.available_from or ""}
        return tuple(column for column in self.columns if column not in known)

    def category_texts(self, most: int = 1000) -> dict[float, str]:
        """Return the texts of category codes: of each category column the `most` frequent values."""
        texts: dict[float, str] = {}
        for name, column in self._reader.schema.columns.items():
            source = self._reader.schema.sources(name)[0]
            if column.kind is Kind.CATEGORY and source in self.columns:
                counts = self._frame.group_by(source).len().top_k(most, by="len").collect()
                values = [value for value in counts[source].to_list() if not missing(value)]
                texts |= {category_code(text_of(value)): text_of(value) for value in values}
        return texts

    def _find_repeated(self) -> NDArray[np.int64]:
        """Return the places, in reading order, of the rows whose id came before."""
        source = self._reader.schema.sources(TRANSACTION_ID)[0]
        try:
            first = self._frame.select(pl.col(source).cast(pl.String, strict=False).is_first_distinct()).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _unreadable(self.path, error) from None
        return np.flatnonzero(~first.to_series().to_numpy())

    def chunks(self, size: int = CHUNK_ROWS) -> Iterator[Chunk]:
        """Yield the file in order, at most `size` rows at a time.

        Raises:
            InputError: The file cannot be read to its end.
        """
        start = 0
        try:
            for frame in self._frame.collect_batches(chunk_size=size, maintain_order=True):
                for part in frame.iter_slices(size):
                    yield self._convert(part, start)
                    start += len(part)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _unreadable(self.path, error) from None

    def _convert(self, frame: pl.DataFrame, start: int) -> Chunk:
        schema = self._reader.schema
        numbers = frame[_ROW].to_numpy().astype(np.int64)
        frame = frame.drop(_ROW)
        columns = _FrameColumns(frame, self._reader)
        end = start + len(frame)
        for row in self._repeated[(self._repeated >= start) & (self._repeated < end)]:
            columns.reject(
                int(row) - start,
                "duplicate_id",
                "this transaction_id came before in the file",
                TRANSACTION_ID,
            )
        ids = columns.texts(TRANSACTION_ID)
        time_us = columns.times()
        keys = [columns.keys(name) for name in schema.entities]
        values = [columns.values(name, time_us) for name in schema.values]
        fraud, available = columns.labels(self._labels, time_us) if self._labels else (None, None)
        columns.require(self._reader.required)
        good = np.setdiff1d(np.arange(len(frame)), np.fromiter(columns.errors, dtype=np.int64))
        batch = Batch(
            schema,
            ids,
            time_us,
            np.array(keys, dtype=np.uint64).reshape(len(keys), len(frame)),
            np.array(values).reshape(len(values), len(frame)),
        )
        whole = len(good) == len(frame)
        return Chunk(
            batch if whole else batch.take(good),
            numbers[good],
            None if fraud is None else fraud[good],
            None if available is None else available[good],
            tuple(
                Rejected(int(numbers[row]), ids[row] or None, error) for row, error in sorted(columns.errors.items())
            ),
            frame if whole else frame[good],
        )


class _FrameColumns:
    """The columns of one frame as arrays, with the first error of each row that has one."""

    def __init__(self, frame: pl.DataFrame, reader: TransactionReader) -> None:
        self._frame = frame
        self._reader = reader
        self._schema = reader.schema
        self.errors: dict[int, InputError] = {}

    def reject(self, row: int, code: str, message: str, column: str) -> None:
        self.errors.setdefault(row, InputError(code, message, column=column))

    def require(self, names: tuple[str, ...]) -> None:
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
        source = self._schema.sources(name)[0]
        series = self._series(source)
        if series.dtype == pl.String or series.dtype.is_integer():
            texts = series.cast(pl.String).fill_null("")
            result: list[str] = texts.to_list()
            suspect = np.flatnonzero((texts.str.len_chars() > 200).to_numpy())
        else:
            result, suspect = [""] * len(series), np.arange(len(series))
        self._each(name, source, series, suspect, lambda value: "" if missing(value) else text_of(value), result)
        return result

    def keys(self, name: str) -> NDArray[np.uint64]:
        return self._mapped(name, self._reader.read_entity, pl.UInt64, 0).astype(np.uint64)

    def _mapped(self, name: str, read: Callable[[Any], Any], dtype: Any, absent: float) -> NDArray[Any]:
        """Read every distinct value once."""
        source = self._schema.sources(name)[0]
        series = self._series(source)
        distinct = series.unique()
        known: dict[Any, Any] = {}
        for value in distinct.to_list():
            try:
                known[value] = read(value)
            except InputError as error:
                known[value] = absent
                same = series.is_null() if value is None else series == value
                for row in np.flatnonzero(same.fill_null(value=False).to_numpy()):
                    self.reject(int(row), error.code, f"'{source}': {error.message}", name)
        mapped = series.replace_strict(
            pl.Series(list(known), dtype=series.dtype),
            pl.Series(list(known.values()), dtype=dtype),
            return_dtype=dtype,
        )
        return mapped.to_numpy()

    def times(self) -> NDArray[np.int64]:
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
        self._each(name, source, series, np.flatnonzero(present), read, result)
        return result

    def values(self, value: str, time_us: NDArray[np.int64]) -> NDArray[np.float64]:
        if value in self._reader.money_columns:
            return self._money(value, time_us)
        name, source, read = self._reader.readers.get(value, (EFFECTIVE_TIME, "", None))
        if read is None:  # the effective time, already read
            return time_us.astype(np.float64)
        column = self._schema.columns[name]
        if column.kind is Kind.CATEGORY:
            return self._category(name, read)
        if column.kind is Kind.TIMESTAMP:
            return self._times(name, column, source)
        series = self._series(source)
        result = series.cast(pl.Float64, strict=False).to_numpy().copy() if series.dtype.is_numeric() else None
        if result is None:
            result = np.full(len(series), math.nan)
            suspect = np.arange(len(series))
        else:
            limit = {Kind.LOCATION: 90.0, Kind.FLAG: 1.0}.get(column.kind, math.inf)
            fine = np.isnan(result) | (np.abs(result) < limit)
            suspect = np.flatnonzero(~fine)
        self._each(name, source, series, suspect, read, result)
        return result

    def _category(self, name: str, read: Callable[[Any], Any]) -> NDArray[np.float64]:
        return self._mapped(name, read, pl.Float64, math.nan).astype(np.float64)

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
        number = amounts.cast(pl.Float64, strict=False)
        major = number.to_numpy()
        scale = float(10 ** EXPONENTS[base])
        with np.errstate(invalid="ignore"):
            minor = np.rint(major * scale)
            exact = np.abs(major - minor / scale) <= 1e-9 * np.maximum(1.0, major)
            easy = plain & exact & (minor >= 0) & (minor <= MAX_AMOUNT_MINOR)
        result[easy] = minor[easy]
        row_source = self._schema.sources(column.currency_column)[0] if column.currency_column else ""
        for row in np.flatnonzero(~easy).tolist():
            cells: Mapping[str, Any] = {source: amounts[row]}
            if currencies is not None:
                cells = {source: amounts[row], row_source: currencies[row]}
            try:
                result[row] = self._reader.read_money(name, cells, int(time_us[row]))
            except InputError as error:
                self.reject(row, error.code, f"'{source}': {error.message}", name)
        return result

    def labels(self, fields: LabelFields, time_us: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
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


def _scan(path: Path) -> pl.LazyFrame:
    if not path.is_file():
        raise InputError("no_file", f"expected a file at {path}, but there is none", file=str(path))
    if path.stat().st_size == 0:
        raise InputError("empty_file", f"expected transactions in {path}, but the file is empty", file=str(path))
    match path.suffix:
        case ".parquet":
            return pl.scan_parquet(path)
        case ".csv":
            return pl.scan_csv(path, infer_schema=False)
        case ".jsonl" | ".ndjson":
            return pl.scan_ndjson(path, infer_schema_length=None)
    raise InputError(
        "unknown_format",
        f"expected a file ending in {', '.join(_SUFFIXES)}, but got {path.name}",
        file=str(path),
    )


def _unreadable(path: Path, error: Exception) -> TollgateError:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(
        "unreadable_file",
        f"{path} is damaged or not what its name says: {first}; write it again",
        file=str(path),
    )


def rejected_line(rejected: Rejected) -> bytes:
    """Return a rejected row as a line of JSON, for the side file."""
    return msgspec.json.encode(
        {"row": rejected.row, "transaction_id": rejected.transaction_id, **rejected.error.as_dict()}
    )
