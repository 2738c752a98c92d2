"""Files of labels: CSV, Parquet and JSON Lines, with the columns that a file of labelled transactions has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from tollgate.codec import flag_of, missing, text_of, time_reader
from tollgate.errors import InputError
from tollgate.files import Rejected, scan, unreadable
from tollgate.frame import LabelFields
from tollgate.label import Label, LabelSource
from tollgate.labelling import label_of
from tollgate.schema import Column, Kind

CHUNK_ROWS = 1000
SOURCE, AVAILABLE = "source", "available_us"  # columns beside those that the configuration names


class LabelChunk(NamedTuple):
    """The next rows: labels with their row numbers, from 0, and the rows that hold none."""

    labels: list[Label]
    rows: list[int]
    rejected: list[Rejected]


class LabelFile:
    """A file of labels, read in order."""

    def __init__(self, path: Path, id_field: str, fields: LabelFields, source: LabelSource | None) -> None:
        """Open the file and check its columns.

        Args:
            path: The file; its ending tells the format.
            id_field: The column with the transaction's id.
            fields: Those with the verdict and, where there is one, with the time at which it was known; in place of
                that, `available_us` may have it. Where neither has, the label counts from when it is recorded.
            source: Who says so, where the file has no column `source`.

        Raises:
            InputError: It is not there, empty, damaged, of an unknown format, or lacks a column.
        """
        self.path = path
        self._id, self._fields, self._source = id_field, fields, source
        self._read_time = time_reader(Column(Kind.TIMESTAMP, zone="UTC"))
        self._frame = scan(path)
        try:
            columns = self._frame.collect_schema().names()
            self.rows = int(self._frame.select(pl.len()).collect().item())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise unreadable(path, error) from None
        needed = [id_field, fields.source, *([SOURCE] if source is None else [])]
        absent = [name for name in needed if name not in columns]
        if absent:
            raise InputError(
                "missing_column",
                f"expected a column '{absent[0]}' in {path}, but it has: {', '.join(columns)}; name the columns in "
                "[label] and [schema] of tollgate.toml, and the source with --source",
                file=str(path),
            )
        if self.rows == 0:
            raise InputError("empty_file", f"expected at least one row in {path}, but there is none", file=str(path))

    def chunks(self) -> Iterator[LabelChunk]:
        """Yield the file in order.

        Raises:
            InputError: It cannot be read to its end.
        """
        row = 0
        try:
            for frame in self._frame.collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True):
                for part in frame.iter_slices(CHUNK_ROWS):
                    chunk = LabelChunk([], [], [])
                    for cells in part.iter_rows(named=True):
                        self._read(cells, row, chunk)
                        row += 1
                    yield chunk
        except (pl.exceptions.PolarsError, OSError) as error:
            raise unreadable(self.path, error) from None

    def _read(self, cells: dict[str, Any], row: int, into: LabelChunk) -> None:
        identifier = None
        try:
            identifier = text_of(self._cell(cells, self._id))
            into.labels.append(
                label_of(
                    {
                        "transaction_id": identifier,
                        "is_fraud": flag_of(self._cell(cells, self._fields.source)) == 1.0,
                        "source": self._source or self._cell(cells, SOURCE),
                        "available_us": self._available_us(cells),
                    }
                )
            )
            into.rows.append(row)
        except InputError as error:
            into.rejected.append(Rejected(row, identifier, error))

    def _cell(self, cells: dict[str, Any], name: str) -> Any:
        if missing(cells[name]):
            raise InputError("missing_value", f"'{name}': expected a value, but there is none", column=name)
        return cells[name]

    def _available_us(self, cells: dict[str, Any]) -> int | None:
        named = self._fields.available_from
        if named is not None and not missing(cells.get(named)):
            return self._read_time(cells[named])
        value = cells.get(AVAILABLE)
        if missing(value):
            return None
        try:
            return int(value)  # type: ignore[arg-type]  # of CSV, a text
        except (TypeError, ValueError):
            raise InputError(
                "bad_label", f"'{AVAILABLE}': expected whole microseconds, but got {value!r}", column=AVAILABLE
            ) from None
