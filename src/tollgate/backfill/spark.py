"""A backfill on Spark: every kind of entity apart, its rows spread by its key, and the columns put together again.

    read      a task a file; rows with the newest effective time of their file so far
    repeat    ids that came before are dropped, by a shuffle on the id
    clock     the newest effective time of all rows before: the greatest of each earlier file, then of this one
    replay    for each share: rows spread by key, sorted by arrival on disk, streamed through the engine that serves
    join      all that was said of a row beside it, sorted by arrival, through the operators without history

No stage holds a partition of rows in memory; what must fit is the feature state of one partition's entities.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as f

from tollgate.backfill.job import DESCRIPTION, REPEATED, Job, Outcome
from tollgate.backfill.travel import (
    PIECE_TYPE,
    base_words,
    batch_of,
    column_of,
    from_base,
    pieces_of,
    row_type,
    rows_of,
    words_of,
)
from tollgate.errors import InputError
from tollgate.features.division import Division, Joining, Share, ShareReplay, divide
from tollgate.files import Rejected
from tollgate.folders import Found, open_folder
from tollgate.parts import TransactionSet
from tollgate.schema import TRANSACTION_ID, Schema

_BASE = -1  # the share that is the row itself: it comes first
_PARTITIONS_PER_CORE = 4
_BATCH_ROWS = 16_384  # handed to a task at a time
_OWN_ERROR = re.compile(r"tollgate\.errors\.\w+: (.+)")

Batches = Iterator[pa.RecordBatch]


def open_session(master: str | None) -> SparkSession:
    """Return a session on `master`, or where Spark's own settings say; all cores of this machine without any."""
    builder = SparkSession.builder.appName("tollgate backfill")
    if master is not None:
        builder = builder.master(master)
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    return builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", str(_BATCH_ROWS)).getOrCreate()


def run_spark(job: Job, session: SparkSession, partitions: int | None = None) -> Outcome:
    """Compute the features of all files, and write them.

    Args:
        job: What to read and write; every worker must reach both, and have Tollgate installed.
        session: Where it runs.
        partitions: Over how many the entities of a kind are spread; a few for each core by default. The state of one
            must fit the memory of a worker.

    Raises:
        InputError: The set cannot be read, the output cannot be written, or a task failed.
    """
    parts = TransactionSet(open_folder(job.data), job.reader(), job.labels, sort=job.sort).parts
    count = partitions or _PARTITIONS_PER_CORE * session.sparkContext.defaultParallelism
    job.target().remove(DESCRIPTION)
    session.conf.set("spark.sql.shuffle.partitions", str(count))
    with _reporting():
        files = session.range(0, len(parts), 1, len(parts))
        rows = files.mapInArrow(partial(_read, job, parts), row_type(job.plan.schema)).persist(StorageLevel.DISK_ONLY)
        rows = _with_clock(session, _without_repeated(job, rows, parts), len(parts))
        division = divide(job.plan)
        pieces = _pieces(rows, division, count)
        pieces = pieces.repartition(count, "part").sortWithinPartitions("part", "row", "share")
        written = pieces.mapInArrow(partial(_join, job, division, parts), "part int, rows bigint").collect()
    for number in set(range(len(parts))) - {row.part for row in written}:
        job.write(parts[number].name, ())  # of which no row could be used
    outcome = Outcome(sum(row.rows for row in written), _rejected(job, parts), None)
    job.describe(outcome)
    return outcome


def _read(job: Job, parts: Sequence[Found], batches: Batches) -> Batches:
    """Read the files whose numbers come."""
    reader, folder = job.reader(), open_folder(job.data)
    for number in itertools.chain.from_iterable(batch.column("id").to_pylist() for batch in batches):
        rejected: list[Rejected] = []
        clock = np.array([np.iinfo(np.int64).min])
        row = 0
        with folder.fetch(parts[number].name) as path:
            for chunk in job.open_part(parts[number], path, reader).chunks():
                rejected += [replace(one, part=parts[number].name) for one in chunk.rejected]
                if not len(chunk.batch):
                    continue
                clock = np.maximum.accumulate(np.maximum(chunk.batch.time_us, clock[-1]))
                yield rows_of(number, row, chunk, clock)
                row += len(chunk.batch)
        job.write_rejected(parts[number].name, rejected)


def _without_repeated(job: Job, rows: DataFrame, parts: Sequence[Found]) -> DataFrame:
    """Drop the rows whose id came in an earlier file, and write down which they were."""
    firsts = rows.groupBy("id").agg(f.count("*").alias("times"), f.min(f.struct("part", "row")).alias("first"))
    part, row = f.col("part"), f.col("row")
    later = (part > f.col("first.part")) | ((part == f.col("first.part")) & (row > f.col("first.row")))
    repeated = rows.join(firsts.filter("times > 1"), "id").filter(later).select("part", "row", "line", "id")
    repeated = repeated.persist(StorageLevel.DISK_ONLY)
    found = repeated.orderBy("part", "row").toLocalIterator()
    error = InputError("duplicate_id", "this transaction_id came before in the set", column=TRANSACTION_ID)
    some = job.write_rejected(REPEATED, (Rejected(one.line, one.id, error, parts[one.part].name) for one in found))
    if not some:
        return rows
    kept = rows.join(repeated.select("part", "row"), ["part", "row"], "left_anti")
    order = Window.partitionBy("part").orderBy("row").rowsBetween(Window.unboundedPreceding, 0)
    return kept.withColumn("clock", f.max("time").over(order)).persist(StorageLevel.DISK_ONLY)


def _with_clock(session: SparkSession, rows: DataFrame, parts: int) -> DataFrame:
    """Make the clock of each row the newest effective time of all rows up to it, not only of its file."""
    newest = {one.part: one.newest for one in rows.groupBy("part").agg(f.max("clock").alias("newest")).collect()}
    earliest = int(np.iinfo(np.int64).min)
    ends = itertools.accumulate((newest.get(part, earliest) for part in range(parts)), max, initial=earliest)
    before = session.createDataFrame(list(zip(range(parts), ends, strict=False)), "part int, before bigint")
    joined = rows.join(f.broadcast(before), "part")
    return joined.withColumn("clock", f.greatest("clock", "before")).drop("before")


def _pieces(rows: DataFrame, division: Division, partitions: int) -> DataFrame:
    """Return each row as itself and as what each share says of it."""
    schema = division.plan.schema
    pieces = rows.mapInArrow(partial(_base, schema), PIECE_TYPE)
    for number, share in enumerate(division.shares):
        key = f.col(f"key_{schema.entities.index(share.entity)}")
        # Rows without the entity have no history of this kind and may go anywhere: together they would be one huge one.
        spread = f.when(key == 0, f.xxhash64("part", "row")).otherwise(key)
        columns = [f"key_{place}" for place in share.keys] + [f"value_{place}" for place in share.values]
        mine = rows.select("part", "row", "time", "clock", "known", *columns).repartition(partitions, spread)
        mine = mine.sortWithinPartitions("part", "row")
        pieces = pieces.unionAll(mine.mapInArrow(partial(_replay, number, share), PIECE_TYPE))
    return pieces


def _base(schema: Schema, batches: Batches) -> Batches:
    for rows in batches:
        yield pieces_of(rows, _BASE, base_words(schema, rows), rows.column("id"))


def _replay(number: int, share: Share, batches: Batches) -> Batches:
    replay = ShareReplay(share.plan)
    for rows in batches:
        histories = replay.observe(batch_of(rows, share), column_of(rows, "clock"), column_of(rows, "known"))
        yield pieces_of(rows, number, histories.view(np.int64))


def _join(job: Job, division: Division, parts: Sequence[Found], batches: Batches) -> Batches:
    """Write the features of the files whose pieces come, sorted by row and share."""
    joining = Joining(division)
    frames = ((int(part), frame) for group in _groups(batches, 1 + len(division.shares)) for part, frame in
              _frames(job, division, joining, group))  # fmt: skip
    for part, found in itertools.groupby(frames, key=lambda one: one[0]):
        written = _Counted(frame for _, frame in found)
        job.write(parts[part].name, written)
        rows = pa.array([written.rows], pa.int64())
        yield pa.RecordBatch.from_pydict({"part": pa.array([part], pa.int32()), "rows": rows})


class _Counted:
    """Frames that are counted as they go by."""

    def __init__(self, frames: Iterator[pl.DataFrame]) -> None:
        self._frames = frames
        self.rows = 0

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for frame in self._frames:
            self.rows += len(frame)
            yield frame


def _groups(batches: Batches, size: int) -> Iterator[pa.RecordBatch]:
    """Cut the pieces so that all of a row, `size` of them, stay together."""
    rest = None
    for batch in batches:
        pieces = batch if rest is None else pa.concat_batches([rest, batch])
        whole = pieces.num_rows // size * size
        rest = pieces.slice(whole)
        if whole:
            yield pieces.slice(0, whole)
    assert rest is None or not rest.num_rows


def _frames(
    job: Job, division: Division, joining: Joining, pieces: pa.RecordBatch
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield the features of some rows, those of a file together."""
    size = 1 + len(division.shares)
    rows = np.arange(0, pieces.num_rows, size)
    part = column_of(pieces, "part")
    assert (column_of(pieces, "row").reshape(-1, size) == column_of(pieces, "row")[rows, None]).all()
    ids = pieces.column("id").take(pa.array(rows)).to_pylist()
    base = words_of(pieces, rows)
    batch, fraud, available = from_base(division.plan.schema, ids, base)
    histories = np.empty((len(rows), division.histories))
    for number, share in enumerate(division.shares):
        histories[:, share.places] = words_of(pieces, rows + 1 + number).view(np.float64)
    frame = job.frame(ids, batch.time_us, fraud, available, joining.observe(batch, histories))
    edges = np.flatnonzero(np.diff(part[rows], prepend=-1)).tolist()
    for start, end in itertools.pairwise([*edges, len(rows)]):
        yield int(part[rows[start]]), frame[start:end]


def _rejected(job: Job, parts: Sequence[Found]) -> int:
    return sum(job.count_rejected(name) for name in (REPEATED, *(part.name for part in parts)))


@contextmanager
def _reporting() -> Iterator[None]:
    """Turn what Spark says of a failed task into one sentence: that of our own error, where it was one."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")  # none is used
            yield
    except PySparkException as error:
        text = str(error)
        own = _OWN_ERROR.findall(text)
        raise InputError(
            "backfill_failed", f"a task of the backfill failed: {own[-1] if own else text.splitlines()[0]}"
        ) from error
