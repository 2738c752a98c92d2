"""Arrays of transactions as fast as the server takes them, or faster: a closed and an open loop on one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple, cast

import uvloop

from benchmarks.serving.traffic import head

_END = b"\r\n\r\n"
_LENGTH, _RETRY = b"content-length:", b"retry-after:"
_TURN_S = 0.001  # between looks at what is due
_GRACE_S = 10.0  # after the last request, for answers


class Seen(NamedTuple):
    """One answer.

    Attributes:
        status: 0 where none came.
        retry: Whether it said when to come again.
        s: From when the request was due.
    """

    status: int
    retry: bool
    s: float


class Flooded(NamedTuple):
    """What came of a load.

    Attributes:
        seen: Of each request that was sent.
        held_back: Requests that were due while all connections were busy, and were never sent.
        seconds: Of sending.
    """

    seen: list[Seen]
    held_back: int
    seconds: float


class _Connection(asyncio.Protocol):
    """A keep-alive connection with at most one request on its way."""

    def __init__(self, free: Callable[[_Connection], None], seen: list[Seen]) -> None:
        self._free, self._seen = free, seen
        self._received = bytearray()
        self._due = 0.0
        self._waiting = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def send(self, body: bytes, due: float) -> None:
        self._due, self._waiting = due, True
        self.transport.write(head(len(body)) + body)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(_END)
        if end < 0:
            return
        top = bytes(self._received[:end]).lower()
        at = top.find(_LENGTH)
        size = int(top[at + len(_LENGTH) :].partition(b"\r\n")[0]) if at >= 0 else 0
        if len(self._received) >= end + len(_END) + size:
            self._received.clear()
            self._waiting = False
            self._seen.append(Seen(int(top[9:12]), _RETRY in top, perf_counter() - self._due))
            self._free(self)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._waiting:
            self._seen.append(Seen(0, retry=False, s=perf_counter() - self._due))


async def _flood(
    port: int,
    body: Callable[[], bytes],
    connections: int,
    seconds: float,
    rate: float | None,
) -> Flooded:
    loop = asyncio.get_running_loop()
    seen: list[Seen] = []
    free: list[_Connection] = []
    opened = [
        (await loop.create_connection(lambda: _Connection(free.append, seen), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    free.extend(opened)
    begun = perf_counter()
    due = sent = held_back = 0
    while (now := perf_counter() - begun) < seconds:
        due = len(free) + sent if rate is None else int(now * rate)
        while sent + held_back < due:
            if not free:
                held_back = due - sent
                break
            at = begun + now if rate is None else begun + (sent + held_back) / rate
            free.pop().send(body(), at)
            sent += 1
        await asyncio.sleep(0 if rate is None else _TURN_S)
    spent = perf_counter() - begun
    until = perf_counter() + _GRACE_S
    while len(seen) < sent and perf_counter() < until:  # noqa: ASYNC110  # an event a request would cost more
        await asyncio.sleep(_TURN_S)
    for one in opened:
        one.transport.abort()
    await asyncio.sleep(0)
    return Flooded(seen, held_back, spent)


def flood(
    port: int,
    body: Callable[[], bytes],
    connections: int,
    seconds: float,
    rate: float | None = None,
) -> Flooded:
    """Load a server and return what came of it.

    Args:
        port: Of the server.
        body: Makes the next body.
        connections: Requests on their way at most.
        seconds: For how long.
        rate: Requests a second, due whatever the server does; None sends the next when an answer has come.
    """
    return uvloop.run(_flood(port, body, connections, seconds, rate))
