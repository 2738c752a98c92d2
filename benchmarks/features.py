"""How fast are exact sliding windows, and what would one pick instead?

    python -m benchmarks.features [--transactions N] [--quick]

40 features over 4 entities, windows of 1 minute to 30 days, on simulated payments and on the handbook data where it
is at hand; everything on one core. Competitors that are not installed are shown as absent.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks import feature_live, feature_replay
from benchmarks.feature_growth import EntityGrowth, by_entities, by_window, longest_call_ms
from benchmarks.feature_list import HANDBOOK_ITEMS, ITEMS, MONEY_SCALE, Item, history
from benchmarks.payments import DAYS, scenario
from benchmarks.table import Progress, finish, show
from tollgate.config import Config, read_config
from tollgate.duration import DAY_US
from tollgate.features import FeatureEngine
from tollgate.features.plan import FeaturePlan, compile_plan
from tollgate.files import CHUNK_ROWS, TransactionFile
from tollgate.intake import TransactionReader
from tollgate.simulate import simulate, write
from tollgate.transaction import Batch, concatenate

ROOT = Path(__file__).parents[1]
HANDBOOK = ROOT.parent / "shared" / "data" / "handbook" / "transactions.parquet"
NAMES = ("card_id", "merchant_id", "device_id", "ip")
SEED = 7
LONGEST_US = 30 * DAY_US

Floats = NDArray[np.float64]


class Sizes(NamedTuple):
    """How much of everything: rows, and numbers of entities."""

    transactions: int
    live: int  # timed one by one at the end of the stream
    peer: int  # rows that competitors replay
    peer_live: int  # rows that competitors take one by one, the last tenth timed
    river: int
    growth: int
    few: int
    many: int


FULL = Sizes(10_000_000, 200_000, 200_000, 20_000, 8_000, 1_000_000, 10_000, 10_000_000)
QUICK = Sizes(40_000, 4_000, 10_000, 2_000, 600, 50_000, 1_000, 100_000)


def one_core(arguments: list[str]) -> None:
    """Keep this process and its libraries on one core: start it anew, since Polars counts cores when it is imported."""
    if os.environ.get("POLARS_MAX_THREADS") == "1":
        return
    os.environ["POLARS_MAX_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks.features", *arguments])  # this program


def read(path: Path, config: Config, most: int | None = None) -> list[Batch]:
    """Return the batches of a file, ready to observe."""
    file = TransactionFile(path, TransactionReader(config.table, config.money, b"key of the benchmark"))
    batches, rows = [], 0
    for chunk in file.chunks(min(CHUNK_ROWS, max(file.rows // DAYS, 1))):  # a batch a day at most: memory is read off
        batches.append(chunk.batch)
        rows += len(chunk.batch)
        if most is not None and rows >= most:
            break
    return batches


def payments(transactions: int, folder: Path) -> list[Batch]:
    """Return simulated payments, as many a card and a merchant for any number of them."""
    path = folder / f"payments-{transactions}.parquet"
    write(simulate(scenario(transactions)), path)
    batches = read(path, Config())
    path.unlink()
    return batches


def replay(plan: FeaturePlan, batches: list[Batch], keep: int = 0) -> tuple[FeatureEngine, float, Floats, list[int]]:
    """Return the engine, events a second, the features of the last `keep` rows and the state's bytes by batch."""
    engine = FeatureEngine(plan)
    outs: list[Floats] = []
    sizes = []
    busy = 0.0
    rows = sum(len(batch) for batch in batches)
    seen = 0
    for batch in batches:
        start = time.perf_counter()
        out = engine.observe(batch)
        busy += time.perf_counter() - start
        seen += len(batch)
        sizes.append(engine.state_bytes)
        if seen > rows - keep:
            outs.append(out)
    kept = np.concatenate(outs)[-keep:] if keep else np.empty((0, len(plan.features)))
    return engine, rows / busy, kept, sizes


def live(plan: FeaturePlan, batches: list[Batch], count: int) -> tuple[NDArray[np.int64], Floats]:
    """Return nanoseconds of each of the last `count` transactions, observed alone after all before, and features."""
    engine = FeatureEngine(plan)
    rest = sum(len(batch) for batch in batches)
    place = 0
    while place < len(batches) and rest - len(batches[place]) >= count:
        engine.observe(batches[place])
        rest -= len(batches[place])
        place += 1
    whole = concatenate(batches[place:])
    engine.observe(whole.take(slice(0, len(whole) - count)))
    ones = [whole.take(slice(row, row + 1)) for row in range(len(whole) - count, len(whole))]
    spent, out = np.empty(count, dtype=np.int64), np.empty((count, len(plan.features)))
    clock = time.perf_counter_ns
    for row, one in enumerate(ones):
        start = clock()
        features = engine.observe(one)
        spent[row] = clock() - start
        out[row] = features[0]
    return spent, out


def differing_bits(a: Floats, b: Floats) -> int:
    """Return in how many bits two arrays differ; all NaN are one missing value."""
    words = [np.where(np.isnan(x), np.nan, x).view(np.uint64) for x in (a, b)]
    return int(np.bitwise_count(words[0] ^ words[1]).sum())


def bytes_per_event(batches: list[Batch], sizes: list[int]) -> tuple[float, float]:
    """Return how many bytes the state grew by an event inside the longest window: its first and second half."""
    ends = np.cumsum([len(batch) for batch in batches])
    start_us = int(batches[0].time_us[0])
    growth = []
    for low_us, high_us in ((0, LONGEST_US // 2), (LONGEST_US // 2, LONGEST_US)):
        low, high = (
            int(np.searchsorted([int(batch.time_us[-1]) for batch in batches], start_us + at))
            for at in (low_us, high_us)
        )
        low, high = min(low, len(batches) - 1), min(high, len(batches) - 1)
        rows = int(ends[high] - (ends[low] if low_us else 0))
        bytes_grown = sizes[high] - (sizes[low] if low_us else 0)
        growth.append(bytes_grown / rows if rows else float("nan"))
    return growth[0], growth[1]


def peer_replays(batches: list[Batch], items: list[Item], say: Progress) -> dict[str, float | None]:
    """Return events a second of each competitor over the same features; None where it is not installed."""
    batch = concatenate(batches)
    by_key = {key: [item for item in items if item.key == key] for key in dict.fromkeys(item.key for item in items)}
    prepared = [(history(batch, key, same), same) for key, same in by_key.items()]
    rates: dict[str, float | None] = {}
    for name, compute in feature_replay.PEERS.items():
        if not feature_replay.installed(name):
            rates[name] = None
            continue
        say(f"{name} over {len(batch):,} rows")
        start = time.perf_counter()
        for events, same in prepared:
            compute(events, same)
        rates[name] = len(batch) / (time.perf_counter() - start)
    return rates


def peer_lives(batches: list[Batch], sizes: Sizes, say: Progress) -> dict[str, float | None]:
    """Return the median of microseconds an event of each competitor, once histories are long; None where absent."""
    events = feature_live.events_of(concatenate(batches), list(NAMES))
    timed = max(len(events) // 10, 1)
    medians: dict[str, float | None] = {"deques": _median_us(feature_live.deques(ITEMS), events, timed)}
    medians["river"] = medians["redis"] = None
    if feature_replay.installed("river"):
        say(f"river over {sizes.river:,} events")
        medians["river"] = _median_us(feature_live.river(ITEMS), events[-sizes.river :], sizes.river // 10)
    if feature_replay.installed("redis"):
        with feature_live.redis_server() as port:
            if port is None:
                say("no redis-server on the path: its row stays empty")
            else:
                say(f"redis-py over {len(events):,} events")
                medians["redis"] = _median_us(feature_live.redis(ITEMS, port), events, timed)
    return medians


def _median_us(
    observe: Callable[[feature_live.Event], list[float | None]], events: list[feature_live.Event], timed: int
) -> float:
    spent = []
    for event in events:
        start = time.perf_counter_ns()
        observe(event)
        spent.append(time.perf_counter_ns() - start)
    return float(np.median(spent[-timed:])) / 1e3


def _ratio(value: float | None, over: float | None) -> float | None:
    return None if value is None or over is None else value / over


def _figure(value: float | None, form: str = ",.0f") -> str:
    return "absent" if value is None else format(value, form)


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}x"


class Replayed(NamedTuple):
    """A stream and how fast each went over it: events a second."""

    name: str
    rows: int
    ours: float
    peer_rows: int
    same_rows: float  # the engine over the competitors' rows
    peers: dict[str, float | None]

    def fastest(self) -> float | None:
        """The fastest competitor's rate."""
        return max((rate for rate in self.peers.values() if rate is not None), default=None)


def handbook(sizes: Sizes, say: Progress) -> list[Replayed]:
    """Return the replay of the handbook data; nothing where it is not at hand."""
    if not HANDBOOK.is_file():
        say(f"no handbook data in {HANDBOOK.parent}: its rows are left out")
        return []
    say("replaying the handbook data")
    config = read_config(ROOT / "examples" / "handbook" / "tollgate.toml")
    batches = read(HANDBOOK, config, sizes.transactions)
    plan = compile_plan([item.feature for item in HANDBOOK_ITEMS], config.table, MONEY_SCALE)
    rate = replay(plan, batches)[1]
    rows = min(sizes.peer // 2, sum(len(batch) for batch in batches))
    slice_ = [concatenate(batches).take(slice(0, rows))]
    return [
        Replayed(
            f"handbook, {len(HANDBOOK_ITEMS)} features",
            sum(len(batch) for batch in batches),
            rate,
            rows,
            replay(plan, slice_)[1],
            peer_replays(slice_, HANDBOOK_ITEMS, say),
        )
    ]


def show_replay(streams: list[Replayed]) -> None:
    rows = []
    for stream in streams:
        rows.append((f"tollgate, {stream.name}", f"{stream.rows:,}", _figure(stream.ours), ""))
        rows.append(("  over the competitors' rows", f"{stream.peer_rows:,}", _figure(stream.same_rows), ""))
        for name, rate in stream.peers.items():
            rows.append((f"  {name}", f"{stream.peer_rows:,}", _figure(rate), _times(_ratio(stream.ours, rate))))
    show("Replay (competitors: fewer rows, histories as long)", ("", "rows", "events/s", "tollgate is"), rows)


def show_live(spent: NDArray[np.int64], peers: dict[str, float | None]) -> None:
    p50, p999 = np.percentile(spent, (50, 99.9)) / 1e3
    rows = [("tollgate, 40 features", f"{p50:.2f}", f"{p999:.1f}", "")]
    notes = {"deques": "plain deques", "river": "river TimeRolling, sum and mean", "redis": "redis-py, sorted sets"}
    rows += [(notes[name], _figure(us, ".1f"), "", _times(_ratio(us, p50))) for name, us in peers.items()]
    show("One event at a time", ("", "median us", "p99.9 us", "tollgate is"), rows)


def show_growth(
    windows: tuple[float, float],
    entities: EntityGrowth,
    pauses_ms: tuple[float, float],
    sizes: Sizes,
    grown: tuple[float, float],
    bits: int,
) -> None:
    rows = [
        ("ns an event, windows of 1h / 30d", f"{windows[0]:.0f} / {windows[1]:.0f}", f"{windows[1] / windows[0]:.2f}x"),
        (
            f"ns an event, {sizes.few:,} / {sizes.many:,} entities",
            f"{entities.few_ns:.0f} / {entities.many_ns:.0f}",
            f"{entities.many_ns / entities.few_ns:.2f}x",
        ),
        (
            "  less the cache lines it must fetch",
            f"{entities.lines} x {entities.line_ns:.0f} ns",
            f"{entities.beyond_misses:.2f}x",
        ),
        (
            f"ms for 64 new entities, up to {sizes.many:,}: p99.9 / longest",
            f"{pauses_ms[0]:.2f} / {pauses_ms[1]:.2f}",
            "",
        ),
        ("bytes of state an event, days 1-15 / 16-30", f"{grown[0]:.0f} / {grown[1]:.0f}", ""),
        (f"bits that differ between live and replay, {sizes.live:,} events", f"{bits}", ""),
    ]
    show("Growth, memory, skew", ("", "", "ratio"), rows)


def measure(sizes: Sizes, folder: Path, say: Progress) -> dict[str, float | None]:
    """Run everything, print the tables, and return the measures."""
    plan = compile_plan([item.feature for item in ITEMS], Config().table, MONEY_SCALE)
    say("compiling the kernel")
    small = payments(max(sizes.peer, 1), folder)
    replay(plan, small)
    live(plan, small, 10)
    same_rows = replay(plan, small)[1]
    peers = peer_replays(small, ITEMS, say)
    lives = peer_lives(payments(sizes.peer_live, folder), sizes, say)
    say(f"simulating and reading {sizes.transactions:,} payments")
    batches = payments(sizes.transactions, folder)
    say("replaying them")
    _, rate, replayed, state = replay(plan, batches, sizes.live)
    say(f"replaying them again, the last {sizes.live:,} one by one")
    spent, alone = live(plan, batches, sizes.live)
    bits = differing_bits(replayed, alone)
    grown = bytes_per_event(batches, state)
    del batches
    stream = Replayed(f"{len(ITEMS)} features", sizes.transactions, rate, sizes.peer, same_rows, peers)
    streams = [stream, *handbook(sizes, say)]
    say("growth with windows")
    short, long = (by_window(np.random.default_rng(SEED), window, sizes.growth, 10_000) for window in ("1h", "30d"))
    say("growth with entities")
    entities = by_entities(np.random.default_rng(SEED), sizes.few, sizes.many, sizes.growth)
    pauses_ms = longest_call_ms(np.random.default_rng(SEED), sizes.many)
    show_replay(streams)
    show_live(spent, lives)
    show_growth((short, long), entities, pauses_ms, sizes, grown, bits)
    p50, p999 = np.percentile(spent, (50, 99.9)) / 1e3
    return {
        "replay_per_s": rate,
        "replay_vs_fastest_peer": _ratio(rate, stream.fastest()),
        "single_us_p50": p50,
        "single_us_p999": p999,
        "single_vs_river": _ratio(lives["river"], p50),
        "single_vs_redis": _ratio(lives["redis"], p50),
        "single_vs_deque": _ratio(lives["deques"], p50),
        "window_growth": long / short,
        "entity_growth": entities.many_ns / entities.few_ns,
        "bytes_per_event": grown[1],
        "skew_bits": bits,
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__)
    parser.add_argument("--transactions", type=int, help="simulated payments to replay; 10 million by default")
    parser.add_argument("--entities", type=int, help="the larger number of entities; 10 million by default")
    parser.add_argument("--quick", action="store_true", help="small everywhere, to see that it runs")
    options = parser.parse_args(arguments)
    one_core(arguments)
    sizes = QUICK if options.quick else FULL
    if options.transactions is not None:
        sizes = sizes._replace(
            transactions=options.transactions, live=max(min(sizes.live, options.transactions // 10), 1)
        )
    if options.entities is not None:
        sizes = sizes._replace(many=options.entities)
    say = Progress()
    say(f"one core, Polars threads: {pl.thread_pool_size()}")
    with tempfile.TemporaryDirectory() as folder:
        finish(measure(sizes, Path(folder), say))


if __name__ == "__main__":
    main(sys.argv[1:])
