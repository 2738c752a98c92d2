"""What must hold when workers are killed, in short; `python -m benchmarks.stream_faults` does it at length."""

import os
from pathlib import Path

import polars as pl
import pytest

from benchmarks.faults.ground import Ground
from benchmarks.serving.process import cores
from benchmarks.serving.traffic import traffic_of
from benchmarks.stream.broker import Broker
from benchmarks.stream_faults import Plan, break_it
from benchmarks.table import Progress

SHORT = Plan(worker_kills=3, broker_kills=0, per_s=100.0)
PAST = pl.duration(days=4000)  # the traffic's dates go on after those of the file, and none may be in the future


@pytest.mark.slow
def test_under_kill_9_each_transaction_gets_one_committed_decision(cluster, trained, tmp_path):
    """Killed at random moments of a load: nothing lost, nothing doubled, the state of an unbroken run."""
    frame = pl.read_parquet(trained / "payments.parquet").head(4000)
    traffic = traffic_of(frame.with_columns(pl.col("effective_time") - PAST), frame.height)
    ground = Ground(tmp_path, trained / "bundles", traffic, None, Progress())
    seen = break_it(ground, Broker(cluster.bootstrap), Path(os.devnull), SHORT, cores().server)
    assert seen.held, seen
    assert seen.worker_ends == 0
