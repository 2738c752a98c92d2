"""What it costs to make decisions durable: `python -m benchmarks.ledger [--seconds 5]`.

Group commits of 1, 16 and 256 transactions (bodies of 15 fields, 40 features), each synced: into SQLite, and into
PostgreSQL on the same machine, as its one writer and as one of several. Latencies are those of a group, with the look
for its ids. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.database import Database
from benchmarks.table import Progress, finish, show
from tollgate.ledger import Counts, Group, History, Ledger, SharedLedger

SIZES = (1, 16, 256)
WRITERS = 4  # that share one ledger, in processes of their own
FEATURES = 40
IMPORTED = 100_000
_BODY = (
    b'{"amount":31.07,"card_id":"c0a1b2c3d4e5f607","channel":"ecom","country":"DE","currency":"EUR","customer_id":'
    b'"u0012345678","device_id":"d9f8e7d6c5b4a392","effective_time":"2026-01-01T00:00:00Z","ip":"203.0.113.77",'
    b'"location_lat":52.52,"location_lon":13.405,"mcc":"5812","merchant_id":"m000123456","transaction_id":"%s"}'
)
_ANSWER = (
    b'{"transaction_id":"%s","outcome":"approve","score":0.001277731737272737,"confidence":0.9974445365254545,'
    b'"mode":"normal","reasons":[],"missing":["location_lat","location_lon"],"bundle":"0000000000000000"}'
)


@dataclass(frozen=True)
class Timed:
    """Seconds that each group commit took, and all of them."""

    groups_s: list[float]
    whole_s: float

    def per_s(self, size: int) -> float:
        """Return transactions a second."""
        return len(self.groups_s) * size / self.whole_s

    def ms(self, share: float) -> float:
        """Return a quantile of the latencies, in milliseconds."""
        return float(np.quantile(self.groups_s, share)) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure")
    parser.add_argument("--work", type=Path, default=None, help="where the SQLite ledger is made; a temporary folder")
    given = parser.parse_args()
    say = Progress()
    folder = Path(tempfile.mkdtemp(prefix="tollgate-ledger-", dir=given.work))
    rows: list[list[str]] = []
    measures: dict[str, float | str | None] = {}
    try:
        with Database() as database:
            for size in SIZES:
                for name, url, kind, writers in (
                    ("sqlite", f"sqlite:///{folder / f'{size}.db'}", "one", 1),
                    ("postgres", database.ledger(), "one", 1),
                    ("postgres_shared", database.ledger(), "many", 1),
                    (f"postgres_shared_{WRITERS}", database.ledger(), "many", WRITERS),
                ):
                    say(f"{name}, groups of {size}")
                    timed = measured(url, kind, size, given.seconds, writers)
                    rows.append(
                        [name, str(size), f"{timed.per_s(size):,.0f}", f"{timed.ms(0.5):.2f}", f"{timed.ms(0.99):.2f}"]
                    )
                    measures |= {
                        f"{name}_{size}_per_s": timed.per_s(size),
                        f"{name}_{size}_p50_ms": timed.ms(0.5),
                        f"{name}_{size}_p99_ms": timed.ms(0.99),
                    }
            for name, url in (("sqlite", f"sqlite:///{folder / 'import.db'}"), ("postgres", database.ledger())):
                say(f"{name}, import of {IMPORTED:,}")
                measures[f"{name}_import_per_s"] = imported_per_s(url)
                rows.append([f"{name}, import", "1024", f"{measures[f'{name}_import_per_s']:,.0f}", "", ""])
    finally:
        shutil.rmtree(folder)
    show("Group commits", ["ledger", "transactions a group", "a second", "p50 ms", "p99 ms"], rows)
    finish(measures)


def measured(url: str, kind: str, size: int, seconds: float, writers: int) -> Timed:
    """Return how long group commits take, over all writers."""
    with _opened(url, kind, 0):
        pass  # it is there before anybody is timed
    if writers == 1:
        return written(url, kind, size, seconds, 0)
    context = multiprocessing.get_context("spawn")
    with context.Pool(writers) as pool:
        parts = pool.starmap(written, [(url, kind, size, seconds, place) for place in range(writers)])
    return Timed([one for part in parts for one in part.groups_s], max(part.whole_s for part in parts))


def _opened(url: str, kind: str, place: int) -> Ledger:
    return Ledger(url) if kind == "one" else SharedLedger(url, writer=str(place))


def written(url: str, kind: str, size: int, seconds: float, place: int) -> Timed:
    """Append groups for so long, as one writer, and return how long each took."""
    took: list[float] = []
    with _opened(url, kind, place) as ledger:
        groups = _groups(size, place)
        for _ in range(20):
            ledger.append(next(groups))
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds:
            group = next(groups)
            start = time.perf_counter()
            hashes = ledger.hashes(group.ids)
            ledger.find(group.ids, hashes)
            ledger.record(group, hashes)
            took.append(time.perf_counter() - start)
        return Timed(took, time.perf_counter() - begun)


def imported_per_s(url: str) -> float:
    """Return how many past transactions a second are imported, in chunks as the command has them."""
    with Ledger(url) as ledger:
        chunks = [_past(start, 20_000) for start in range(0, IMPORTED, 20_000)]
        begun = time.perf_counter()
        for chunk in chunks:
            ledger.import_history(chunk, [], "benchmark")
        return IMPORTED / (time.perf_counter() - begun)


def _past(start: int, count: int) -> Sequence[History]:
    names = [f"{number:012}" for number in range(start, start + count)]
    return [History(name, 1, 1, _BODY % name.encode()) for name in names]


def _groups(size: int, place: int) -> Iterator[Group]:
    features = np.random.default_rng(0).normal(size=(size, FEATURES))
    times = np.full(size, 1_767_225_600_000_000)
    number = 0
    while True:
        names = [f"{place:02}{one:010}" for one in range(number, number + size)]
        number += size
        raw = [name.encode() for name in names]
        yield Group(
            names, times, [_BODY % one for one in raw], [_ANSWER % one for one in raw], features, 1_767_225_600_000_000,
            "0" * 16, Counts(approve=size),
        )  # fmt: skip


if __name__ == "__main__":
    main()
