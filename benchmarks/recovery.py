"""How long a server takes to come up: `python -m benchmarks.recovery [--transactions 1000000 10000000]`.

A ledger as a busy server leaves it (64 decisions a commit, bodies of 15 fields, 40 features) is opened, replayed from
its beginning, saved as a snapshot and restored from it. Ends with one line of JSON; figures are those of the largest.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.feature_list import ITEMS
from benchmarks.payments import scenario
from benchmarks.serving.traffic import Traffic, traffic_of
from benchmarks.table import Progress, finish, show
from tollgate.features.plan import FeaturePlan, compile_plan
from tollgate.intake import TransactionReader
from tollgate.ledger import Counts, Group, Ledger
from tollgate.money import Money
from tollgate.recovery import Recovery, Snapshots
from tollgate.schema import payment_schema
from tollgate.simulate import simulate

GROUP = 64  # transactions that one commit holds under load
SIMULATED = 200_000  # payments that are different; then they come again, days later
KEY = b"the key of a benchmark, no secret"
_ANSWER = (
    b'{"transaction_id":"000000000000","outcome":"approve","score":0.001277731737272737,"confidence":0.9974445365254545,'
    b'"mode":"normal","reasons":[],"missing":["location_lat","location_lon"],"bundle":"0000000000000000"}'
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--work", type=Path, default=None, help="where the ledgers are made; a temporary folder")
    arguments = parser.parse_args()
    say = Progress()
    say(f"simulating {SIMULATED:,} payments")
    traffic = traffic_of(simulate(scenario(SIMULATED)), SIMULATED)
    plan = compile_plan([item.feature for item in ITEMS], payment_schema(), 100.0)
    rows = []
    for count in sorted(arguments.transactions):
        folder = Path(tempfile.mkdtemp(prefix="tollgate-recovery-", dir=arguments.work))
        try:
            measures = measure(count, traffic, plan, folder, say)
        finally:
            shutil.rmtree(folder)
        rows.append([f"{count:,}", *(f"{measures[name]:.3g}" for name in _COLUMNS)])
    show("Coming up", ["transactions", *_COLUMNS], rows)
    finish({"transactions": count, **measures})


_COLUMNS = ("ledger_gb", "open_s", "replay_s", "replay_per_s", "snapshot_gb", "save_s", "restore_s")


def measure(count: int, traffic: Traffic, plan: FeaturePlan, folder: Path, say: Progress) -> dict[str, float]:
    """Return how long each way of coming up takes with so many transactions in the ledger."""
    reader = TransactionReader(payment_schema(), Money("EUR"), KEY)
    url = f"sqlite:///{folder / 'tollgate.db'}"
    say(f"writing a ledger of {count:,} transactions")
    with Ledger(url, "os") as ledger:
        for group in _groups(count, traffic, reader, len(plan.features)):
            ledger.append(group)
    begun = time.perf_counter()
    with Ledger(url, "os") as ledger:
        opened = time.perf_counter()
        snapshots = Snapshots(folder / "tollgate.state", KEY)
        recovery = Recovery(plan, reader, ledger, snapshots)
        reader.warm_up()
        say("replaying it")
        started = time.perf_counter()
        arrivals = recovery.recover()
        replayed = time.perf_counter()
        assert arrivals.engine.observed == count
        recovery.save(arrivals)
        saved = time.perf_counter()
        del arrivals
        say("restoring the snapshot")
        restoring = time.perf_counter()
        assert recovery.recover().engine.observed == count
        restored = time.perf_counter()
    return {
        "ledger_gb": (folder / "tollgate.db").stat().st_size / 1e9,
        "open_s": opened - begun,
        "replay_s": replayed - started,
        "replay_per_s": count / (replayed - started),
        "snapshot_gb": snapshots.path.stat().st_size / 1e9,
        "save_s": saved - replayed,
        "restore_s": restored - restoring,
    }


def _groups(count: int, traffic: Traffic, reader: TransactionReader, width: int) -> Iterator[Group]:
    features = np.random.default_rng(0).normal(size=(GROUP, width))
    for start in range(0, count, GROUP):
        size = min(GROUP, count - start)
        rows = [reader.decode(traffic.body(serial))[1][0] for serial in range(start, start + size)]
        batch = reader.convert(rows).batch
        yield Group(
            ids=batch.ids,
            effective_us=batch.time_us,
            bodies=[reader.body(row) for row in rows],
            answers=[_ANSWER] * size,
            features=features[:size],
            observed_us=int(batch.time_us[-1]),
            bundle="0" * 16,
            counts=Counts(approve=size),
        )


if __name__ == "__main__":
    main()
