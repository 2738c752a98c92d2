"""Competitors one event at a time: river, redis-py over sorted sets, plain Python deques.

Each reads the windows first and then applies the event, as the engine does.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.feature_list import SMALL_MINOR, Item
from tollgate.transaction import Batch

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # river compares with times without a zone
_START_S = 10.0  # until a server must answer

Observe = Callable[["Event"], list[float | None]]
Moment = tuple[int, int, int]  # time in microseconds, minor units, the value that `distinct` tells apart


class Event(NamedTuple):
    """One transaction as plain Python: `keys` has no entry for an entity that is missing."""

    time_us: int
    minor: int
    keys: dict[str, int]


def events_of(batch: Batch, names: list[str]) -> list[Event]:
    """Return the transactions of a batch as plain values."""
    columns = [batch.key(name).tolist() for name in names]
    return [
        Event(t, int(minor), {name: key for name, key in zip(names, keys, strict=True) if key})
        for t, minor, *keys in zip(batch.time_us.tolist(), batch.value("amount").tolist(), *columns, strict=True)
    ]


def _grouped(items: list[Item]) -> dict[str, dict[int, list[str]]]:
    """Return the aggregates by entity and window, the shortest window first."""
    groups: dict[str, dict[int, list[str]]] = defaultdict(dict)
    for item in sorted(items, key=lambda item: item.window_us):
        groups[item.key].setdefault(item.window_us, []).append(item.aggregate)
    return groups


def _others(items: list[Item]) -> dict[str, str]:
    return {item.key: item.other for item in items if item.other}


def _aggregate(names: list[str], inside: list[Moment]) -> list[float | None]:
    amounts = [minor for _, minor, _ in inside]
    out: list[float | None] = []
    for name in names:
        match name:
            case "count":
                out.append(len(inside))
            case "small":
                out.append(sum(minor < SMALL_MINOR for minor in amounts))
            case "sum":
                out.append(sum(amounts))
            case "mean":
                out.append(sum(amounts) / len(amounts) if amounts else None)
            case "std":
                out.append(statistics.stdev(amounts) if len(amounts) > 1 else None)
            case "max":
                out.append(max(amounts, default=None))
            case _:
                out.append(len({other for _, _, other in inside if other}))
    return out


def deques(items: list[Item]) -> Observe:
    """Return plain Python: a deque an entity, scanned from its newest end for every window."""
    groups, others = _grouped(items), _others(items)
    longest = {key: max(windows) for key, windows in groups.items()}
    known: dict[tuple[str, int], deque[Moment]] = defaultdict(deque)

    def observe(event: Event) -> list[float | None]:
        out: list[float | None] = []
        for name, key in event.keys.items():
            moments = known[name, key]
            while moments and moments[0][0] <= event.time_us - longest[name]:
                moments.popleft()
            for window_us, aggregates in groups[name].items():
                inside, start = [], event.time_us - window_us
                for moment in reversed(moments):
                    if moment[0] <= start:
                        break
                    inside.append(moment)
                out += _aggregate(aggregates, inside)
            moments.append((event.time_us, event.minor, event.keys.get(others.get(name, ""), 0)))
        return out

    return observe


def river(items: list[Item]) -> Observe:
    """Return river's `TimeRolling`: sum and mean over each window, since it has no other of the aggregates."""
    from river import stats, utils  # noqa: PLC0415  # a peer need not be installed

    chosen = {
        name: [(kind, dt.timedelta(microseconds=us)) for us in windows for kind in (stats.Sum, stats.Mean)]
        for name, windows in _grouped(items).items()
    }
    known: dict[tuple[str, int], list[Any]] = {}

    def observe(event: Event) -> list[float | None]:
        now = _EPOCH + dt.timedelta(microseconds=event.time_us)
        out: list[float | None] = []
        for name, key in event.keys.items():
            if (name, key) not in known:
                known[name, key] = [utils.TimeRolling(kind, period=period) for kind, period in chosen[name]]
            for rolling in known[name, key]:
                out.append(rolling.get())
                rolling.update(event.minor, t=now)
        return out

    return observe


def redis(items: list[Item], port: int) -> Observe:
    """Return sorted sets in Redis: one pipeline an event, which fetches the longest window of each entity."""
    import redis as client  # noqa: PLC0415

    groups, others = _grouped(items), _others(items)
    longest = {key: max(windows) for key, windows in groups.items()}
    connection = client.Redis(host="127.0.0.1", port=port)
    counter = iter(range(2**62))

    def observe(event: Event) -> list[float | None]:
        with connection.pipeline(transaction=False) as pipeline:
            for name, key in event.keys.items():
                place = f"{name}:{key}"
                start = event.time_us - longest[name]
                pipeline.zremrangebyscore(place, "-inf", start)
                pipeline.zrange(place, 0, -1)
                member = f"{event.time_us}:{event.minor}:{event.keys.get(others.get(name, ''), 0)}:{next(counter)}"
                pipeline.zadd(place, {member: event.time_us})
            answers = pipeline.execute()
        out: list[float | None] = []
        for name, members in zip(event.keys, answers[1::3], strict=True):
            moments = [(int(t), int(minor), int(other)) for t, minor, other, _ in (m.split(b":") for m in members)]
            for window_us, aggregates in groups[name].items():
                start = event.time_us - window_us
                out += _aggregate(aggregates, [moment for moment in moments if moment[0] > start])
        return out

    return observe


@contextlib.contextmanager
def redis_server() -> Iterator[int | None]:
    """Run a Redis server without persistence on a free loopback port and yield the port; None where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([program, *options, "--dir", folder], stdout=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
