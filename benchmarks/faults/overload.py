"""Twice as much as the server can do."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks.faults import interface
from benchmarks.faults.flood import flood
from benchmarks.faults.ground import Ground, Source
from benchmarks.faults.row import Row, Sizes
from benchmarks.faults.server import Server
from benchmarks.serving.process import cores

ARRAY = 50  # transactions of a request: one thread of Python must be able to send twice what the server can do
_CLOSED_CONNECTIONS = 16
_OPEN_CONNECTIONS = 1_024  # with their arrays more than may wait
_FACTOR = 2.0
_GROWTH = 0.1  # of memory, over the second half
_BOUND_FACTOR = 2.0  # the longest latency, in units of max_waiting / throughput: a batch more, and a busy machine
_CALM_S = 1.0
_LAST = 50  # requests afterwards
_MS = 1e3
_MIB = 1 << 20


class Memory(NamedTuple):
    """Of a server: all of it, and what is kept of payments that were decided, MiB."""

    mib: float
    kept_mib: float

    @property
    def rest_mib(self) -> float:
        """What must not grow."""
        return self.mib - self.kept_mib


def overload(ground: Ground, sizes: Sizes) -> Row:
    """Measure what the server can do, then send twice that, each request when it is due, in two halves."""
    folder = ground.folder("overload")
    source = Source(ground.traffic, sizes=(ARRAY,))
    with Server(folder, core=cores().server) as server:

        def body() -> bytes:
            return source.body()[0]

        flood(server.port, body, _CLOSED_CONNECTIONS, _CALM_S)
        closed = flood(server.port, body, _CLOSED_CONNECTIONS, sizes.saturation_s)
        rate = sum(one.status == 200 for one in closed.seen) / closed.seconds
        ground.say(f"{rate * ARRAY:,.0f} transactions a second are what it can do; sending {_FACTOR:g} times that")
        halves, memory = [], []
        for _ in range(2):
            halves.append(flood(server.port, body, _OPEN_CONNECTIONS, sizes.overload_s / 2, _FACTOR * rate))
            memory.append(Memory(server.memory_mib, server.health().kept_bytes / _MIB))
        client = server.client()
        after = [client.predict(source.body()[0]) for _ in range(_LAST)]
        client.close()
        alive = server.alive
    seen = [one for half in halves for one in half.seen]
    admitted = [one for one in seen if one.status == 200]
    shed = [one for one in seen if one.status == 503]
    other = len(seen) - len(admitted) - len(shed)
    done = len(admitted) / sum(half.seconds for half in halves) * ARRAY
    bound_ms = interface.MAX_WAITING / max(done, 1) * _MS
    p50, p99 = np.quantile([one.s * _MS for one in admitted], (0.5, 0.99)) if admitted else (np.inf, np.inf)
    growth = memory[1].rest_mib / memory[0].rest_mib - 1
    normal = all(one.status == 200 for one in after)
    held = (
        alive and shed and all(one.retry for one in shed) and not other and normal
        and p99 <= bound_ms * _BOUND_FACTOR and growth < _GROWTH
    )  # fmt: skip
    held_back = sum(half.held_back for half in halves) * ARRAY
    return Row(
        "overload",
        f"{_FACTOR:g} times what it can do for {sizes.overload_s:g} s, arrays of {ARRAY}, an open loop",
        f"shed with 503 and Retry-After; p99 of what is admitted within {_BOUND_FACTOR:g} x max_waiting / throughput; "
        f"memory beside histories and ids of what was decided grows less than {_GROWTH:.0%} over the second half; "
        "normal afterwards",
        f"{rate * ARRAY:,.0f} a second possible, {_FACTOR * rate * ARRAY:,.0f} sent ({held_back:,} held "
        f"back by busy connections): {done:,.0f} a second decided, {len(shed) * ARRAY:,} shed, {other} other; p50 "
        f"{p50:.0f} ms, p99 {p99:.0f} ms, max_waiting / throughput {bound_ms:.0f} ms; memory in the second half "
        f"{memory[0].mib:.0f} to {memory[1].mib:.0f} MiB, of which histories and ids {memory[0].kept_mib:.0f} to "
        f"{memory[1].kept_mib:.0f}: the rest {growth:+.1%}; {'normal' if normal else 'NOT NORMAL'} afterwards",
        held=bool(held),
        figures={
            "overload_p50_ms": float(p50),
            "overload_p99_ms": float(p99),
            "overload_bound_ms": bound_ms,
            "overload_growth": growth,
        },
    )
