"""Files of transactions into batches: CSV, Parquet and JSON Lines, in bounded chunks.

A row that cannot be used is rejected with its reason and the rest goes on. Row numbers count data rows from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from tollgate.codec import missing, text_of
from tollgate.errors import InputError, TollgateError
from tollgate.frame import FrameColumns, LabelFields
from tollgate.hashing import category_codes
from tollgate.intake import TransactionReader
from tollgate.schema import EFFECTIVE_TIME, TRANSACTION_ID, Kind
from tollgate.transaction import Batch

CHUNK_ROWS = 65_536
MOST_TEXTS = 1000  # of each category column that are kept, so that reasons can be read
_ROW = "__row"
SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that could not be used, and why."""

    row: int
    transaction_id: str | None
    error: InputError
    part: str | None = None  # of a set of files: which of them


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


class Transactions(Protocol):
    """A file of transactions, or a set of such files."""

    @property
    def path(self) -> Path | str:
        """Where it lies."""

    @property
    def name(self) -> str:
        """The last piece of that."""

    @property
    def rows(self) -> int | None:
        """How many rows there are, where that is known before they are read."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns; of a set those of its first file."""

    @property
    def unread(self) -> tuple[str, ...]:
        """Columns that neither the schema nor the label reads."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows in order, in bounded chunks."""

    def category_texts(self) -> dict[float, str]:
        """Return the texts of the most frequent category codes; of a set once its chunks were read."""


class TransactionFile:
    """A file of transactions, read in order; each pass over it reads it anew."""

    def __init__(
        self,
        path: Path,
        reader: TransactionReader,
        labels: LabelFields | None = None,
        *,
        sort: bool = False,
        constants: Mapping[str, str] | None = None,
        may_be_empty: bool = False,
    ) -> None:
        """Open the file and check its columns.

        Args:
            path: The file; its ending tells the format.
            reader: Knows the schema.
            labels: Where to find labels, if they are wanted.
            sort: Read in order of the effective time instead of the file's own; this holds the file in memory.
            constants: Columns that are the same in every row, as the name of its folder says; those of the file win.
            may_be_empty: A file with columns and no rows is fine.

        Raises:
            InputError: It is not there, empty, damaged, of an unknown format, or lacks a column.
        """
        self.path = path
        self.name = path.name
        self._reader = reader
        self._labels = labels
        self._frame = scan(path)
        try:
            there = self._frame.collect_schema().names()
            added = {name: text for name, text in (constants or {}).items() if name not in there}
            self._frame = self._frame.with_columns(**{name: pl.lit(text) for name, text in added.items()})
            self.columns = (*there, *added)
            self._added = set(added)
            self.rows = int(self._frame.select(pl.len()).collect().item())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise unreadable(path, error) from None
        self._check_columns()
        if self.rows == 0 and not may_be_empty:
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
        known = (
            {source for name in schema.columns for source in schema.sources(name)} | set(schema.ignore) | self._added
        )
        if self._labels is not None:
            known |= {self._labels.source, self._labels.available_from or ""}
        return tuple(column for column in self.columns if column not in known)

    def category_texts(self, most: int = MOST_TEXTS) -> dict[float, str]:
        """Return the texts of category codes: of each category column the `most` frequent values."""
        texts: dict[float, str] = {}
        for counts in self.category_counts(most).values():
            texts |= dict(zip(category_codes(list(counts)).tolist(), counts, strict=True))
        return texts

    def category_counts(self, most: int = MOST_TEXTS) -> dict[str, dict[str, int]]:
        """Return the `most` frequent values of each category column, and how often they come."""
        found: dict[str, dict[str, int]] = {}
        for name, column in self._reader.schema.columns.items():
            source = self._reader.schema.sources(name)[0]
            if column.kind is Kind.CATEGORY and source in self.columns:
                counts = self._frame.group_by(source).len().top_k(most, by="len").collect()
                rows = zip(counts[source].to_list(), counts["len"].to_list(), strict=True)
                found[name] = {text_of(value): count for value, count in rows if not missing(value)}
        return found

    def _find_repeated(self) -> NDArray[np.int64]:
        """Return the places, in reading order, of the rows whose id came before."""
        source = self._reader.schema.sources(TRANSACTION_ID)[0]
        try:
            first = self._frame.select(pl.col(source).cast(pl.String, strict=False).is_first_distinct()).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise unreadable(self.path, error) from None
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
            raise unreadable(self.path, error) from None

    def _convert(self, frame: pl.DataFrame, start: int) -> Chunk:
        schema = self._reader.schema
        numbers = frame[_ROW].to_numpy().astype(np.int64)
        frame = frame.drop(_ROW)
        columns = FrameColumns(frame, self._reader)
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


def scan(path: Path) -> pl.LazyFrame:
    """Return a file as columns that are not read yet; those of CSV are texts.

    Raises:
        InputError: It is not there, empty, or of an unknown format.
    """
    if not path.is_file():
        raise InputError("no_file", f"expected a file at {path}, but there is none", file=str(path))
    if path.stat().st_size == 0:
        raise InputError("empty_file", f"expected rows in {path}, but the file is empty", file=str(path))
    match path.suffix:
        case ".parquet":
            return pl.scan_parquet(path)
        case ".csv":
            return pl.scan_csv(path, infer_schema=False)
        case ".jsonl" | ".ndjson":
            return pl.scan_ndjson(path, infer_schema_length=None)
    raise InputError(
        "unknown_format",
        f"expected a file ending in {', '.join(SUFFIXES)}, but got {path.name}",
        file=str(path),
    )


def unreadable(path: Path, error: Exception) -> TollgateError:
    """Return the error that says why a file could not be read."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(
        "unreadable_file",
        f"{path} is damaged or not what its name says: {first}; write it again",
        file=str(path),
    )


def rejected_line(rejected: Rejected) -> bytes:
    """Return a rejected row as a line of JSON, for the side file."""
    return msgspec.json.encode(
        {
            **({} if rejected.part is None else {"part": rejected.part}),
            "row": rejected.row,
            "transaction_id": rejected.transaction_id,
            **rejected.error.as_dict(),
        }
    )
