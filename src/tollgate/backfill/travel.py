"""Rows as they travel between the stages of a distributed backfill: Arrow columns, and bits packed into bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tollgate.backfill.job import known_us
from tollgate.features.arrivals import NOT_FRAUD
from tollgate.features.division import Share
from tollgate.files import Chunk
from tollgate.schema import Schema
from tollgate.transaction import Batch

WORD_BYTES = 8

Ints = NDArray[np.int64]


def row_type(schema: Schema) -> str:
    """Return the type, as Spark writes it, of rows as they are read."""
    keys = [f"key_{place} bigint" for place in range(len(schema.entities))]
    values = [f"value_{place} double" for place in range(len(schema.values))]
    return ", ".join([
        "part int", "row bigint", "line bigint", "id string", "time bigint", "clock bigint", "known bigint",
        "fraud boolean", "available bigint", *keys, *values,
    ])  # fmt: skip


PIECE_TYPE = "part int, row bigint, share int, id string, words binary"  # of a row: what one share says of it


def rows_of(part: int, first: int, chunk: Chunk, clock: Ints) -> pa.RecordBatch:
    """Return the rows of a chunk of a file, with the newest effective time in the file so far.

    Args:
        part: Number of the file.
        first: How many usable rows came before in it.
        chunk: Its next rows.
        clock: int64 (N,), microseconds.
    """
    batch, count = chunk.batch, len(chunk.batch)
    known = known_us(chunk)
    columns = {
        "part": pa.array(np.full(count, part, dtype=np.int32)),
        "row": pa.array(np.arange(first, first + count)),
        "line": pa.array(chunk.rows),
        "id": pa.array(list(batch.ids), type=pa.string()),
        "time": pa.array(batch.time_us),
        "clock": pa.array(clock),
        "known": pa.array(np.full(count, NOT_FRAUD) if known is None else known),
        "fraud": pa.array(np.zeros(count, dtype=np.bool_) if chunk.is_fraud is None else chunk.is_fraud),
        "available": pa.array(np.zeros(count, dtype=np.int64) if chunk.available_us is None else chunk.available_us),
    }
    columns |= {f"key_{place}": pa.array(keys.view(np.int64)) for place, keys in enumerate(batch.keys)}
    columns |= {f"value_{place}": pa.array(values) for place, values in enumerate(batch.values)}
    return pa.RecordBatch.from_pydict(columns)


def batch_of(rows: pa.RecordBatch, share: Share) -> Batch:
    """Return rows, of which no more columns came than the share reads, as a batch of the whole schema."""
    schema = share.plan.schema
    count = rows.num_rows
    keys = np.zeros((len(schema.entities), count), dtype=np.uint64)
    values = np.full((len(schema.values), count), np.nan)
    for place in share.keys:
        keys[place] = rows.column(f"key_{place}").to_numpy().view(np.uint64)
    for place in share.values:
        values[place] = rows.column(f"value_{place}").to_numpy()
    return Batch(schema, [""] * count, column_of(rows, "time"), keys, values)


def column_of(rows: pa.RecordBatch, name: str) -> Ints:
    """Return a column of whole numbers, int64 (N,)."""
    return np.array(rows.column(name).to_numpy(), dtype=np.int64)


def pieces_of(rows: pa.RecordBatch, share: int, words: Ints, ids: pa.Array | None = None) -> pa.RecordBatch:
    """Return what a share says of rows: `words`, int64 (N, W), the bits of whatever it is."""
    count, width = words.shape
    data = np.ascontiguousarray(words)
    ends = np.arange(count + 1, dtype=np.int32) * np.int32(width * WORD_BYTES)
    packed = pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(ends), pa.py_buffer(data)])
    return pa.RecordBatch.from_pydict({
        "part": rows.column("part"),
        "row": rows.column("row"),
        "share": pa.array(np.full(count, share, dtype=np.int32)),
        "id": pa.nulls(count, pa.string()) if ids is None else ids,
        "words": packed,
    })  # fmt: skip


def words_of(pieces: pa.RecordBatch, places: Ints) -> Ints:
    """Return the words of the pieces at some places, which are of one share, int64 (n, W)."""
    packed = pieces.column("words").take(pa.array(places))  # in buffers of its own, from their start
    end = np.frombuffer(packed.buffers()[1], dtype=np.int32, count=len(places) + 1)[-1]
    return np.frombuffer(packed.buffers()[2], dtype=np.int64, count=end // WORD_BYTES).reshape(len(places), -1)


def base_words(schema: Schema, rows: pa.RecordBatch) -> Ints:
    """Return all of a row that is written or read by an operator, but its id, as words, int64 (N, 3 + E + C)."""
    keys = [f"key_{place}" for place in range(len(schema.entities))]
    values = [f"value_{place}" for place in range(len(schema.values))]
    fraud = rows.column("fraud").to_numpy(zero_copy_only=False).astype(np.int64)
    numbers = [rows.column(name).to_numpy().view(np.int64) for name in ("time", "available", *keys, *values)]
    return np.stack([fraud, *numbers]).T


def from_base(schema: Schema, ids: Sequence[str], words: Ints) -> tuple[Batch, NDArray[np.bool_], Ints]:
    """Return what was packed into base words: the rows, which of them are fraud, and when that was known."""
    columns = np.ascontiguousarray(words.T)
    first = 3 + len(schema.entities)
    batch = Batch(schema, ids, columns[1], columns[3:first].view(np.uint64), columns[first:].view(np.float64))
    return batch, columns[0].astype(np.bool_), columns[2]
