"""The benchmark of the features runs, says what it promises, and gives its competitors the same work."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.feature_list import ITEMS, MONEY_SCALE
from benchmarks.feature_live import deques, events_of
from benchmarks.features import NAMES, payments
from tollgate.config import Config
from tollgate.features import FeatureEngine
from tollgate.features.plan import compile_plan
from tollgate.transaction import concatenate

ROOT = Path(__file__).parents[2]
KEYS = {
    "replay_per_s", "replay_vs_fastest_peer", "single_us_p50", "single_us_p999", "single_vs_river", "single_vs_redis",
    "single_vs_deque", "window_growth", "entity_growth", "bytes_per_event", "skew_bits",
}  # fmt: skip


def test_the_quick_run_ends_with_its_measures():
    """The last line is JSON with exactly the promised names, and live features are the replayed ones, bit for bit."""
    environment = {name: value for name, value in os.environ.items() if name != "POLARS_MAX_THREADS"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.features", "--quick"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    measures = json.loads(done.stdout.splitlines()[-1])
    assert set(measures) == KEYS
    assert measures["skew_bits"] == 0
    assert all(value is None or math.isfinite(value) for value in measures.values())
    assert measures["replay_per_s"] > 0


@pytest.mark.parametrize("rows", [3_000])
def test_a_competitor_computes_the_same_features(rows, tmp_path):
    """Plain deques find the values that the engine finds, so the comparison is between equals."""
    batch = concatenate(payments(rows, tmp_path))
    plan = compile_plan([item.feature for item in ITEMS], Config().table, MONEY_SCALE)
    features = FeatureEngine(plan, 2**28).observe(batch)
    observe, compared = deques(ITEMS), 0
    for row, event in enumerate(events_of(batch, list(NAMES))):
        items = [item for name in event.keys for item in sorted(ITEMS, key=lambda i: i.window_us) if item.key == name]
        values = observe(event)
        assert len(values) == len(items)
        for item, value in zip(items, values, strict=True):
            scale = MONEY_SCALE if item.aggregate in ("sum", "mean", "std", "max") else 1.0
            expected = math.nan if value is None else value / scale
            assert features[row, ITEMS.index(item)] == pytest.approx(expected, rel=1e-12, nan_ok=True), item
            compared += bool(value)
    assert compared > rows
