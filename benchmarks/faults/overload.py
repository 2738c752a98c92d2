"""Twice as much as the server can do."""

from __future__ import annotations

import time

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


def overload(ground: Ground, sizes: Sizes) -> Row:
    """Measure what the server can do, then send twice that, each request when it is due."""
    folder = ground.folder("overload")
    source = Source(ground.traffic, sizes=(ARRAY,))
    with Server(folder, core=cores().server) as server:

        def body() -> bytes:
            return source.body()[0]

        flood(server.port, body, _CLOSED_CONNECTIONS, _CALM_S)
        closed = flood(server.port, body, _CLOSED_CONNECTIONS, sizes.saturation_s)
        rate = sum(one.status == 200 for one in closed.seen) / closed.seconds
        ground.say(f"{rate * ARRAY:,.0f} transactions a second are what it can do; sending {_FACTOR:g} times that")
        found = flood(server.port, body, _OPEN_CONNECTIONS, sizes.overload_s, _FACTOR * rate, lambda: server.memory_mib)
        time.sleep(_CALM_S)
        client = server.client()
        after = [client.predict(source.body()[0]) for _ in range(_LAST)]
        client.close()
        alive = server.alive
    admitted = [one for one in found.seen if one.status == 200]
    shed = [one for one in found.seen if one.status == 503]
    other = len(found.seen) - len(admitted) - len(shed)
    done = len(admitted) / found.seconds * ARRAY
    bound_ms = interface.MAX_WAITING / max(done, 1) * _MS
    p50, p99 = np.quantile([one.s * _MS for one in admitted], (0.5, 0.99)) if admitted else (np.inf, np.inf)
    half = len(found.samples) // 2
    growth = found.samples[-1] / found.samples[half] - 1
    normal = all(one.status == 200 for one in after)
    held = (
        alive and shed and all(one.retry for one in shed) and not other and normal
        and p99 <= bound_ms * _BOUND_FACTOR and growth < _GROWTH
    )  # fmt: skip
    return Row(
        "overload",
        f"{_FACTOR:g} times what it can do for {sizes.overload_s:g} s, arrays of {ARRAY}, an open loop",
        f"shed with 503 and Retry-After; p99 of what is admitted within {_BOUND_FACTOR:g} x max_waiting / throughput; "
        f"memory grows less than {_GROWTH:.0%} over the second half; normal afterwards",
        f"{rate * ARRAY:,.0f} a second possible, {_FACTOR * rate * ARRAY:,.0f} sent ({found.held_back * ARRAY:,} held "
        f"back by busy connections): {done:,.0f} a second decided, {len(shed) * ARRAY:,} shed, {other} other; p50 "
        f"{p50:.0f} ms, p99 {p99:.0f} ms, max_waiting / throughput {bound_ms:.0f} ms; memory {growth:+.1%}; "
        f"{'normal' if normal else 'NOT NORMAL'} afterwards",
        held=bool(held),
        figures={"overload_p50_ms": float(p50), "overload_p99_ms": float(p99), "overload_bound_ms": bound_ms},
    )
