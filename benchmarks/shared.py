"""What does it cost to keep feature state on Redis, and does a failover leave a wrong count?

    python -m benchmarks.shared [--transactions N] [--quick]

The 40 features of `benchmarks.features` and the default ones of a card payment, on one server on the loopback, against
the engine in memory on the same stream: bits, added latency of batches of 1 and 16, transactions a second. Then a
cluster of three primaries with a replica each, of which a primary is killed under load.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import redis_servers
from benchmarks.feature_list import ITEMS, MONEY_SCALE
from benchmarks.payments import scenario
from benchmarks.table import Progress, finish, show
from tollgate.config import Config
from tollgate.features import Expr, FeatureEngine
from tollgate.features.payments import PAYMENT_FEATURES
from tollgate.features.plan import compile_plan
from tollgate.features.shared.engine import ROUND_TRIP_ROWS, SharedEngine
from tollgate.features.shared.servers import Address
from tollgate.files import TransactionFile
from tollgate.intake import TransactionReader
from tollgate.simulate import simulate, write
from tollgate.transaction import Batch, concatenate

TRANSACTIONS, QUICK = 40_000, 4_000
SMALL, LARGE = 1, 16  # transactions a batch
TIMED = 1_000  # batches of each size
PATIENT_S = 5.0  # for an answer, where bits and times are measured
TIMEOUT_S = 0.1  # in the failover
KILLED_AT = 0.2  # of the stream
LAST = 1_000  # transactions that look at what all before have left
PAUSE_S = 0.01  # between batches of the failover: the stream must outlast it
MS = 1e3

Floats = NDArray[np.float64]


class Cost(NamedTuple):
    """Of one list of features.

    Attributes:
        entities: Histories that a transaction moves.
        added_ms: Median and p99 of what a batch of `SMALL` and of `LARGE` takes longer than in memory.
        per_s: Transactions a second in batches of a round trip.
        server_us: Processor time of the server for a transaction.
        event_bytes: Memory of the server for a transaction.
        differ: Values whose bits differ.
    """

    entities: int
    added_ms: tuple[float, float, float, float]
    per_s: float
    server_us: float
    event_bytes: float
    differ: int


def stream(transactions: int) -> Batch:
    """Return simulated payments in order of arrival."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "payments.parquet"
        write(simulate(scenario(transactions)), path)
        config = Config()
        file = TransactionFile(path, TransactionReader(config.table, config.money, b"key of the benchmark"))
        return concatenate([chunk.batch for chunk in file.chunks()])


def differing(got: Floats, want: Floats) -> int:
    """Return how many values differ in a bit; a missing value is a missing value."""
    same = (got.view(np.int64) == want.view(np.int64)) | (np.isnan(got) & np.isnan(want))
    return int(np.count_nonzero(~same))


def cost(features: Sequence[Expr], batch: Batch, folder: Path, timed: int) -> Cost:
    """Measure one list of features on a server of its own."""
    plan = compile_plan(features, Config().table, MONEY_SCALE)
    server = redis_servers.Server(folder)
    try:
        shared = SharedEngine(plan, Address((server.url,), timeout_s=PATIENT_S), "bench", "0", time.monotonic)
        embedded = FeatureEngine(plan)
        replayed = len(batch) - timed * (SMALL + LARGE)
        shared.observe(batch.take(slice(0, 1)))
        embedded.observe(batch.take(slice(0, 1)))
        cpu_s, begun = _cpu_s(server), time.perf_counter()
        got = [shared.observe(batch.take(slice(at, min(at + ROUND_TRIP_ROWS, replayed)))) for at in range(
            1, replayed, ROUND_TRIP_ROWS)]  # fmt: skip
        per_s = (replayed - 1) / (time.perf_counter() - begun)
        server_us = (_cpu_s(server) - cpu_s) / (replayed - 1) * 1e6
        event_bytes = server.client.info("memory")["used_memory_dataset"] / replayed
        differ = differing(np.concatenate(got), embedded.observe(batch.take(slice(1, replayed))))
        added: list[float] = []
        at = replayed
        for size in (SMALL, LARGE):
            times = []
            for _ in range(timed):
                part = batch.take(slice(at, at + size))
                start = time.perf_counter()
                mine = shared.observe(part)
                middle = time.perf_counter()
                want = embedded.observe(part)
                times.append((middle - start) - (time.perf_counter() - middle))
                differ += differing(mine, want)
                at += size
            added += [float(one) * MS for one in np.percentile(times, (50, 99))]
        entities = len(shared.library.tables)
        shared.close()
    finally:
        server.stop()
    return Cost(entities, tuple(added), per_s, server_us, event_bytes, differ)  # type: ignore[arg-type]


def _cpu_s(server: redis_servers.Server) -> float:
    used = server.client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


class Failover(NamedTuple):
    """What a killed primary did.

    Attributes:
        transactions: In the stream.
        degraded: Of them, those that were decided without histories.
        longest_ms: The longest call.
        seconds: From the kill until a batch had its histories again.
        wrong: Features that differed, of all that came, and of the last transactions, when nothing waits any more.
        applied: Transactions that count in the end.
    """

    transactions: int
    degraded: int
    longest_ms: float
    seconds: float
    wrong: int
    applied: int


def failover(batch: Batch, folder: Path) -> Failover:
    """Kill a primary under load, and compare all features with those of an engine in memory."""
    plan = compile_plan([item.feature for item in ITEMS], Config().table, MONEY_SCALE)
    want = FeatureEngine(plan).observe(batch)
    cluster = redis_servers.Cluster(folder)
    try:
        engine = SharedEngine(
            plan, Address(cluster.urls, cluster=True, timeout_s=TIMEOUT_S), "bench", "0", time.monotonic
        )
        position = degraded = wrong = 0
        longest_s, killed_s, back_s = 0.0, None, None
        victim = cluster.primaries[0]
        last = len(batch) - LAST
        while position < last:
            if killed_s is None and position >= KILLED_AT * len(batch):
                victim.kill()
                killed_s = time.monotonic()
            part = slice(position, min(position + LARGE, last))
            begun = time.monotonic()
            got = engine.observe(batch.take(part))
            ended = time.monotonic()
            longest_s = max(longest_s, ended - begun)
            if engine.lacked():
                degraded += len(got)
            else:
                wrong += differing(got, want[part])
                if killed_s is not None and back_s is None and degraded:
                    back_s = ended
            position += LARGE
            time.sleep(PAUSE_S)
        engine.settle()
        wrong += differing(engine.observe(batch.take(slice(last, len(batch)))), want[last:])
        applied = engine.observed - engine.behind
        engine.close()
    finally:
        cluster.stop()
    seconds = np.nan if back_s is None or killed_s is None else back_s - killed_s
    return Failover(len(batch), degraded, longest_s * MS, seconds, wrong, applied)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transactions", type=int, default=TRANSACTIONS)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if not redis_servers.installed():
        raise SystemExit(f"needs {redis_servers.PACKAGE}")
    count = QUICK if options.quick else options.transactions
    timed = min(TIMED, count // (4 * (SMALL + LARGE)))
    say = Progress()
    say(f"simulating {count:,} payments")
    batch = stream(count)
    lists = {
        "40 windows over 4 entities": [item.feature for item in ITEMS],
        "default payment features": PAYMENT_FEATURES,
    }
    with tempfile.TemporaryDirectory() as folder:
        costs = {}
        for place, (name, features) in enumerate(lists.items()):
            say(name)
            costs[name] = cost(features, batch, Path(folder) / str(place), timed)
        say("a primary is killed under load")
        after = failover(batch, Path(folder) / "cluster")
    show(
        f"Feature state on one Redis server, {len(batch):,} payments",
        ("features", "entities", "1: p50 ms", "p99", "16: p50 ms", "p99", "per s", "server us", "bytes", "differ"),
        [
            (name, str(one.entities), *(f"{ms:.2f}" for ms in one.added_ms), f"{one.per_s:,.0f}",
             f"{one.server_us:.0f}", f"{one.event_bytes:,.0f}", str(one.differ))
            for name, one in costs.items()
        ],
    )  # fmt: skip
    show(
        "A primary of three is killed under load",
        ("transactions", "degraded", "longest ms", "until whole s", "wrong features", "applied"),
        [(f"{after.transactions:,}", f"{after.degraded:,}", f"{after.longest_ms:.0f}", f"{after.seconds:.1f}",
          str(after.wrong), f"{after.applied:,}")],
    )  # fmt: skip
    first = next(iter(costs.values()))
    finish({
        "redis_p99_added_ms": first.added_ms[1], "redis_p99_added_16_ms": first.added_ms[3],
        "per_s_per_shard": first.per_s, "bits_differ": sum(one.differ for one in costs.values()),
        "failover_s": after.seconds, "failover_degraded": after.degraded, "failover_wrong": after.wrong,
        "failover_lost_or_doubled": abs(after.applied - after.transactions),
    })  # fmt: skip


if __name__ == "__main__":
    main()
