"""The archive's files: transactions by UTC day of observation, in Parquet, that any tool reads.

A file is named after its day and the arrival number of its first transaction. Together they are the ledger's beginning
without a gap, up to the mark that the ledger keeps; what lies in a file beyond the mark is in the ledger too, left
there by an archiving that was cut off, and is written again by the next one.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from tollgate.durable import replacing
from tollgate.duration import DAY_US, SECOND_US
from tollgate.errors import LedgerError
from tollgate.ledger.group import Packed

_SCHEMA = {
    "seq": pl.Int64, "transaction_id": pl.String, "effective_us": pl.Int64, "observed_us": pl.Int64,
    "body": pl.Binary, "answer": pl.Binary, "features": pl.Binary, "bundle": pl.String,
    "shadow_bundle": pl.String, "shadow_score": pl.Float64,
}  # fmt: skip
_NAME = re.compile(r"transactions-\d{4}-\d{2}-\d{2}-(\d+)\.parquet")
_CHUNK_ROWS = 4096


class Kept(NamedTuple):
    """One group as it stands in the ledger: its first arrival number, when it was observed, who decided, and it."""

    first: int
    observed_us: int
    bundle: str | None
    packed: Packed


class Stretch(NamedTuple):
    """Transactions with consecutive arrival numbers; those of imported history have no answer and no features."""

    first: int
    ids: list[str]
    bodies: list[bytes]
    answers: list[bytes | None]
    features: list[bytes | None]


class _File(NamedTuple):
    first: int
    rows: int
    path: Path


def write(folder: Path, groups: Sequence[Kept]) -> Path:
    """Write groups of one day to their file, whole and durable, in place of what an earlier try left there.

    Raises:
        LedgerError: It could not be written.
    """
    day = dt.datetime.fromtimestamp(groups[0].observed_us // DAY_US * DAY_US // SECOND_US, dt.UTC).date()
    path = folder / f"transactions-{day}-{groups[0].first}.parquet"
    try:
        with replacing(path) as file:
            pl.concat([_frame(one) for one in groups]).write_parquet(file, row_group_size=_CHUNK_ROWS)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LedgerError(
            "archive_failed", f"could not write {path}: {error}; the ledger still has what it was to hold; make room"
        ) from error
    return path


def read(folder: Path, after: int, last: int) -> Iterator[Stretch]:
    """Yield the transactions after arrival number `after`, up to `last`, in order, in chunks.

    Raises:
        LedgerError: A file is missing, or cannot be read.
    """
    for file in check(folder, last):
        position = max(after, file.first - 1)
        end = min(file.first + file.rows - 1, last)
        while position < end:
            rows = min(_CHUNK_ROWS, end - position)
            try:
                frame = pl.scan_parquet(file.path).slice(position + 1 - file.first, rows).collect()
            except (OSError, pl.exceptions.PolarsError) as error:
                raise _unreadable(file.path, error) from error
            columns = ("transaction_id", "body", "answer", "features")
            yield Stretch(position + 1, *(frame[name].to_list() for name in columns))
            position += rows


def bodies(folder: Path, numbers: Sequence[int], last: int) -> dict[int, bytes]:
    """Return the bodies of archived transactions by their arrival numbers.

    Args:
        folder: Of the files.
        numbers: Ascending, none beyond `last`.
        last: Arrival number of the newest archived transaction.

    Raises:
        LedgerError: A file is missing, or cannot be read.
    """
    found: dict[int, bytes] = {}
    for file in check(folder, last):
        here = [number for number in numbers if file.first <= number < file.first + file.rows]
        if here:
            found |= _pairs(file.path, pl.col("seq").is_in(here), ("seq", "body"))
    return found


def numbers(folder: Path, ids: Sequence[str], last: int) -> dict[str, int]:
    """Return the arrival numbers of those of some ids that are archived. All files are read: there is no index.

    Raises:
        LedgerError: A file is missing, or cannot be read.
    """
    found: dict[str, int] = {}
    for file in check(folder, last):
        wanted = (pl.col("seq") <= last) & pl.col("transaction_id").is_in(ids)
        found |= _pairs(file.path, wanted, ("transaction_id", "seq"))
    return found


def _pairs(path: Path, wanted: pl.Expr, columns: tuple[str, str]) -> dict[Any, Any]:
    try:
        frame = pl.scan_parquet(path).filter(wanted).select(columns).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, error) from error
    return dict(frame.iter_rows())


def check(folder: Path, last: int) -> list[_File]:
    """Return the files that hold the transactions 1 to `last`, in order.

    Raises:
        LedgerError: They do not hold them all.
    """
    named = ((path, _NAME.fullmatch(path.name)) for path in folder.glob("transactions-*.parquet"))
    firsts = sorted((int(match[1]), path) for path, match in named if match)
    files: list[_File] = []
    next_one = 1
    for first, path in firsts:
        if next_one > last:
            break
        if first == next_one:
            try:
                rows = int(pl.scan_parquet(path).select(pl.len()).collect().item())
            except (OSError, pl.exceptions.PolarsError) as error:
                raise _unreadable(path, error) from error
            files.append(_File(first, rows, path))
            next_one += rows
    if next_one <= last:
        raise LedgerError(
            "archive_incomplete",
            f"expected the archived transactions 1 to {last} in {folder}, but there is no file "
            f"transactions-*-{next_one}.parquet; put it back there",
        )
    return files


def _frame(group: Kept) -> pl.DataFrame:
    packed = group.packed
    rows, shadow = range(len(packed)), packed.shadow
    return pl.DataFrame(
        {
            "seq": range(group.first, group.first + len(packed)),
            "transaction_id": [packed.id(row) for row in rows],
            "effective_us": packed.effective_us,
            "observed_us": [group.observed_us] * len(packed),
            "body": [packed.body(row) for row in rows],
            "answer": [packed.answer(row) for row in rows],
            "features": [packed.feature_bytes(row) for row in rows],
            "bundle": [packed.bundle(row, group.bundle) for row in rows],
            "shadow_bundle": [None if shadow is None else shadow.bundle] * len(packed),
            "shadow_score": [None] * len(packed) if shadow is None else shadow.scores,
        },
        schema=_SCHEMA,
    )


def _unreadable(path: Path, error: Exception) -> LedgerError:
    return LedgerError("archive_failed", f"could not read {path}: {error}; restore it from a copy")
