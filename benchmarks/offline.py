"""What the offline paths cost: rows a second and core of the replay, of scoring a set of files, of a backfill.

    python -m benchmarks.offline [--transactions 300000] [--spark]

Processor time, not the clock on the wall, so that what else the machine does counts little. A backfill on Spark has its
time in other processes: with --spark it is measured by the clock, starting the workers included.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.table import Progress, finish, show
from tollgate.backfill import Job, run_single
from tollgate.cli.app import app
from tollgate.cli.scored_set import score_set
from tollgate.cli.wiring import OUT, features_of, label_fields
from tollgate.config import Config, read_config
from tollgate.features import NOT_FRAUD, Arrivals, FeatureEngine
from tollgate.features.division import Division, Joining, ShareReplay, divide
from tollgate.files import Chunk
from tollgate.folders import open_folder
from tollgate.parts import TransactionSet

PARTITIONS = 4
_SETTINGS = '[train]\nmodel = "mlp"\nmax_epochs = 1\n[evaluate]\nbeside = []\nresamples = 0\n'
_ENGINE_BYTES = 2**32


def core_seconds(work: Callable[[], object]) -> float:
    """Return the processor time that something takes in this process, on all its threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def material(folder: Path, transactions: int, say: Progress) -> int:
    """Make a set of files by day, and a bundle; return how many rows there are."""
    (folder / "tollgate.toml").write_text(_SETTINGS)
    os.chdir(folder)
    say(f"simulating {transactions} payments")
    OUT.quiet = True
    app(args=["simulate", "payments.parquet", "--transactions", str(transactions)], standalone_mode=False)
    app(args=["train", "payments.parquet"], standalone_mode=False)
    frame = pl.read_parquet("payments.parquet")
    for (day,), rows in frame.group_by(pl.col("effective_time").dt.date(), maintain_order=True):
        path = folder / "set" / f"day={day}" / "part-0.parquet"
        path.parent.mkdir(parents=True)
        rows.write_parquet(path)
    return len(frame)


def replay_whole(chunks: list[Chunk], plan: object) -> None:
    """Replay by one engine."""
    arrivals = Arrivals(FeatureEngine(plan, _ENGINE_BYTES))  # type: ignore[arg-type]
    for chunk in chunks:
        assert chunk.is_fraud is not None
        assert chunk.available_us is not None
        arrivals.observe(chunk.batch, np.where(chunk.is_fraud, chunk.available_us, NOT_FRAUD))


def replay_shares(chunks: list[Chunk], division: Division) -> None:
    """Replay as Spark's tasks do, one after the other, and join; without what carries rows from task to task."""
    clock = np.iinfo(np.int64).min
    clocks = []
    for chunk in chunks:
        clocks.append(np.maximum.accumulate(np.maximum(chunk.batch.time_us, clock)))
        clock = clocks[-1][-1]
    histories = [np.empty((len(chunk.batch), division.histories)) for chunk in chunks]
    for share in division.shares:
        for partition in range(PARTITIONS):
            replay = ShareReplay(share.plan, _ENGINE_BYTES)
            for chunk, now, said in zip(chunks, clocks, histories, strict=True):
                assert chunk.is_fraud is not None
                assert chunk.available_us is not None
                rows = np.flatnonzero(chunk.batch.key(share.entity) % PARTITIONS == partition)
                known = np.where(chunk.is_fraud, chunk.available_us, NOT_FRAUD)[rows]
                said[np.ix_(rows, share.places)] = replay.observe(chunk.batch.take(rows), now[rows], known)
    joining = Joining(division)
    for chunk, said in zip(chunks, histories, strict=True):
        joining.observe(chunk.batch, said)


def on_spark(job: Job) -> tuple[float, int]:
    """Return how long a backfill on this machine's cores takes by the clock, in seconds, and how many cores it had."""
    from tollgate.backfill import spark  # noqa: PLC0415  # an extra

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    cores = os.cpu_count() or 1
    session = spark.open_session(f"local[{cores}]")
    start = time.monotonic()
    spark.run_spark(job, session, PARTITIONS)
    took = time.monotonic() - start
    session.stop()
    return took, cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=300_000)
    parser.add_argument("--spark", action="store_true")
    options = parser.parse_args()
    say = Progress()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as text:
        folder = Path(text)
        count = material(folder, options.transactions, say)
        config = Config()
        plan = features_of(config)
        job = Job("set", "here", plan, config.money, label_fields(config), sort=False, key=b"key of the benchmark")
        chunks = list(TransactionSet(open_folder("set"), job.reader(), job.labels).chunks())
        division = divide(plan)
        replay_whole(chunks[:1], plan)  # compiles
        replay_shares(chunks[:1], division)
        found: dict[str, float | None] = {}
        for name, work in (
            ("replay", lambda: replay_whole(chunks, plan)),
            ("replay_shares", lambda: replay_shares(chunks, division)),
            ("backfill_here", lambda: run_single(job)),
            ("score_set", lambda: score_set("set", "scored", read_config(folder / "tollgate.toml"), None)),
        ):
            say(name)
            found[f"{name}_rows_s_core"] = count / core_seconds(work)
        spark_s, cores = on_spark(job) if options.spark else (None, None)
    found["spark_rows_s"] = None if spark_s is None else count / spark_s
    titles = {
        "replay_rows_s_core": "replay of one engine, rows in memory",
        "replay_shares_rows_s_core": f"the same in {len(division.shares)} shares over {PARTITIONS} partitions, joined",
        "backfill_here_rows_s_core": "backfill by one engine: files read, features written",
        "score_set_rows_s_core": "score of a set of files by day: MLP, nothing held",
        "spark_rows_s": "backfill on Spark, by the clock",
    }
    rows = [[title, "-" if found[name] is None else f"{found[name]:,.0f}"] for name, title in titles.items()]
    show(f"{count:,} payments, {len(plan.names)} features", ["", "rows a second"], rows)
    finish({"rows": count, "features": len(plan.names), "spark_cores": cores, **found})


if __name__ == "__main__":
    main()
