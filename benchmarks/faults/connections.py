"""Connections that do not do what clients do."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmarks.faults.client import Answer, raw
from benchmarks.faults.ground import Ground, array_of
from benchmarks.faults.row import Row, Sizes
from benchmarks.faults.server import Server
from benchmarks.serving.traffic import head

_SLOW_HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: " + b"x" * 200
_BYTE_S = 1.0
_READ = 65_536
_HALF_CLOSED, _LEAVERS, _UNREAD = 20, 200, 8  # connections
_PIPELINED = 40  # requests on a connection that reads nothing
_UNREAD_ARRAY = 1_000  # transactions of each: in all more answers than the kernel's buffers hold
_SEND_S = 2.0  # that such a connection tries to send
_BUSY_LIMIT_S = 60.0  # in which what they asked for is decided
_MEMORY_MIB = 256.0  # that those who do not read may cost
_SETTLE_S = 1.0
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends a reset


def slowloris(ground: Ground, sizes: Sizes) -> Row:
    """Open many connections that send a byte a second, and see who else is served."""
    folder = ground.folder("slowloris")
    with Server(folder) as server:
        chooser = selectors.DefaultSelector()
        slow: dict[socket.socket, int] = {}
        for _ in range(sizes.slow_connections):
            one = raw(server.port)
            one.setblocking(False)
            chooser.register(one, selectors.EVENT_READ)
            slow[one] = 0
        ends: Counter[str] = Counter()
        client, others = server.client(), []
        begun, turn = time.monotonic(), 0
        while slow and time.monotonic() - begun < sizes.slow_s:
            for one in [key.fileobj for key, _ in chooser.select(0)]:
                assert isinstance(one, socket.socket)
                _end(one, chooser, slow, ends)
            if time.monotonic() - begun >= turn * _BYTE_S:
                for one in list(slow):
                    with contextlib.suppress(OSError):
                        one.send(_SLOW_HEAD[turn : turn + 1])
                turn += 1
            others.append(client.predict(ground.traffic.body(len(others))))
            time.sleep(0.01)
        took = time.monotonic() - begun
        left = len(slow)
        for one in list(slow):
            chooser.unregister(one)
            one.close()
        chooser.close()
        client.close()
    served, p99 = _served(others)
    return Row(
        "slow clients (slowloris)",
        f"{sizes.slow_connections} connections that send a byte a second",
        f"all are closed, or told 408, within {sizes.slow_s:g} s; others are served meanwhile",
        f"{', '.join(f'{n} {how}' for how, n in sorted(ends.items())) or 'none ended'}, {left} still open after "
        f"{took:.0f} s; {served} of {len(others)} others served, p99 {p99:.1f} ms",
        held=not left and served == len(others),
        figures={"slowloris_p99_ms": p99},
    )


def _served(others: Sequence[Answer]) -> tuple[int, float]:
    """Return how many of the others were served meanwhile, and the 99th percentile of their latencies, ms."""
    return sum(one.status == 200 for one in others), float(np.quantile([one.ms for one in others], 0.99))


def _end(
    one: socket.socket, chooser: selectors.BaseSelector, slow: dict[socket.socket, int], ends: Counter[str]
) -> None:
    """See what a slow connection was told, and close it."""
    try:
        told = one.recv(_READ)
    except OSError:
        told = b""
    ends[told[9:12].decode() if told else "closed"] += 1
    chooser.unregister(one)
    one.close()
    del slow[one]


def half_closed(ground: Ground, _sizes: Sizes) -> Row:
    """Send a request and say that nothing more will come."""
    folder = ground.folder("half-closed")
    with Server(folder) as server:
        answered = 0
        for place in range(_HALF_CLOSED):
            with raw(server.port) as one:
                one.sendall(ground.traffic.request(place))
                one.shutdown(socket.SHUT_WR)
                answered += _read_all(one).startswith(b"HTTP/1.1 200")
    return Row(
        "half-closed connections",
        f"{_HALF_CLOSED} clients shut their writing side after the request",
        "each gets its answer",
        f"{answered} of {_HALF_CLOSED} answered",
        held=answered == _HALF_CLOSED,
    )


def _read_all(one: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(OSError):
        while part := one.recv(_READ):
            parts.append(part)
    return b"".join(parts)


def leavers(ground: Ground, _sizes: Sizes) -> Row:
    """Leave before the answer, and ask again."""
    folder = ground.folder("leavers")
    with Server(folder) as server:
        for place in range(_LEAVERS):
            with raw(server.port) as one:
                one.sendall(ground.traffic.request(place))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        time.sleep(_SETTLE_S)
        client = server.client()
        answers = [client.predict(ground.traffic.body(place)) for place in range(_LEAVERS)]
        again = [client.predict(ground.traffic.body(place)).body for place in range(_LEAVERS)]
        recorded = server.health().ledger_transactions
        client.close()
    good = sum(one.status == 200 and one.body == body for one, body in zip(answers, again, strict=True))
    return Row(
        "clients leave before the answer",
        f"{_LEAVERS} clients reset the connection after the request, and ask again",
        "each transaction is decided once",
        f"{good} of {_LEAVERS} decided, {recorded} in the ledger",
        held=good == recorded == _LEAVERS,
        figures={"doubled": max(recorded - _LEAVERS, 0)},
    )


def unread(ground: Ground, sizes: Sizes) -> Row:
    """Ask for much, and read nothing."""
    folder = ground.folder("unread")
    body = array_of(ground.traffic, 0, _UNREAD_ARRAY)
    with Server(folder) as server, contextlib.ExitStack() as stack:
        server.predict(body)
        before = server.memory_mib
        for _ in range(_UNREAD):
            one = stack.enter_context(raw(server.port, _SEND_S))
            with contextlib.suppress(OSError):  # the server stops reading: that is what is asked of it
                for _ in range(_PIPELINED):
                    one.sendall(head(len(body)) + body)
        client, others = server.client(_BUSY_LIMIT_S), []
        client.predict(ground.traffic.body(_UNREAD_ARRAY))
        begun = time.monotonic()
        while time.monotonic() - begun < sizes.unread_s:
            others.append(client.predict(ground.traffic.body(_UNREAD_ARRAY + len(others))))
            time.sleep(0.02)
        client.close()
        grown = server.memory_mib - before
        alive = server.alive
    served, p99 = _served(others)
    return Row(
        "clients that never read",
        f"{_UNREAD} connections ask for up to {_PIPELINED} arrays of {_UNREAD_ARRAY} each and read nothing",
        f"others are served meanwhile; at most {_MEMORY_MIB:.0f} MiB more memory",
        f"{served} of {len(others)} others served, p99 {p99:.1f} ms; {grown:+.0f} MiB",
        held=alive and served == len(others) and grown <= _MEMORY_MIB,
    )
