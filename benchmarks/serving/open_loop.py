"""An open loop: requests leave when they are due, whatever the server does, and latency counts from then.

A closed loop asks a slow server less often and so hides the wait (coordinated omission). Here the whole schedule is
fixed before the first request; one that finds all connections busy waits in line, and its wait counts. The loop never
sleeps, so it needs a core of its own, and it says how late it was itself.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import cast

import msgspec
import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks.serving.traffic import Traffic

_GRACE_S = 5.0  # after the last request is due, for what is still on its way
_MAX_BURST = 64  # requests sent before answers are read: a late loop must not stop reading
_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_OK = b"200"
_MS = 1e3  # milliseconds in a second


class Open(msgspec.Struct, frozen=True):
    """What came of a schedule; latencies are from the time at which a request was due.

    Attributes:
        due: Requests of the schedule.
        answered: How many got an answer.
        refused: How many of these were no success.
        seconds: From the first due time to the last answer, or to where the run gave up.
        p50_ms: Median latency; a request without an answer counts as answered at the end.
        p99_ms: 99th percentile.
        p999_ms: 99.9th percentile.
        max_ms: The longest.
        late_p50_ms: How long after its time a request was sent, median of those that found a free connection: the
            loop's own share of the latency.
        late_p99_ms: 99th percentile of that.
        late_p999_ms: 99.9th percentile of that.
        waited: Requests that found all connections busy.
    """

    due: int
    answered: int
    refused: int
    seconds: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    late_p50_ms: float
    late_p99_ms: float
    late_p999_ms: float
    waited: int


def schedule(rate: float, seconds: float, rng: np.random.Generator | None) -> NDArray[np.float64]:
    """Return due times in seconds from the start, float64 (N,): Poisson arrivals, or evenly spaced without `rng`."""
    count = max(round(rate * seconds), 1)
    gaps = np.full(count, 1.0 / rate) if rng is None else rng.exponential(1.0 / rate, count)
    return np.cumsum(gaps)


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    def __init__(self, loop: _Loop) -> None:
        self._loop = loop
        self._received = b""
        self._place = -1
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    @property
    def waiting(self) -> bool:
        """Whether a request is on its way."""
        return self._place >= 0

    def send(self, place: int, request: bytes) -> None:
        self._place = place
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        data = self._received + data
        end = data.find(_END)
        if end >= 0:
            head = data[:end].lower()
            at = head.find(_LENGTH)
            size = int(head[at + len(_LENGTH) :].partition(b"\r\n")[0]) if at >= 0 else 0
            if len(data) >= end + len(_END) + size:
                self._received = b""
                place, self._place = self._place, -1
                self._loop.answered(self, place, data[9:12] == _OK)
                return
        self._received = data

    def connection_lost(self, _error: Exception | None) -> None:
        self._loop.lost(self)


class _Loop:
    """Sends what is due over whatever connection is free."""

    def __init__(self, request: Callable[[int], bytes], due_s: NDArray[np.float64]) -> None:
        self._request = request
        self._due_s = due_s.tolist()
        self._sent = 0
        self._open = 0
        self._free: deque[_Connection] = deque()
        self._running = asyncio.get_running_loop()
        self._over = self._running.create_future()
        self._start_s = self.end_s = 0.0
        self.waited = 0
        self._busy_s = -1.0  # when all connections were last seen busy
        self.refused = 0
        self.sent_s = np.full(len(due_s), np.nan)
        self.done_s = np.full(len(due_s), np.nan)
        self._left = len(due_s)

    async def run(self, host: str, port: int, connections: int) -> None:
        opened = [
            (await self._running.create_connection(lambda: _Connection(self), host, port))[1]
            for _ in range(connections)
        ]
        self._free.extend(opened)
        self._open = connections
        self._start_s = perf_counter()
        self._running.call_soon(self._turn)
        await self._over
        self.end_s = perf_counter() - self._start_s
        for connection in opened:
            connection.transport.abort()

    def _turn(self) -> None:
        if self._over.done():
            return
        try:
            self._send_due()
        except Exception as error:  # noqa: BLE001  # ends the run, where it is raised again
            self._over.set_exception(error)
            return
        self._running.call_soon(self._turn)  # not later: a timer of the loop is no finer than a millisecond

    def _send_due(self) -> None:
        now = perf_counter() - self._start_s
        due, place, last = self._due_s, self._sent, len(self._due_s)
        burst = 0
        while place < last and due[place] <= now and burst < _MAX_BURST:
            if not self._free:
                self._busy_s = now
                break
            self._free.popleft().send(place, self._request(place))
            now = perf_counter() - self._start_s
            if due[place] > self._busy_s:
                self.sent_s[place] = now
            else:
                self.waited += 1  # for a connection, by the server's doing: no lateness of this loop
            place += 1
            burst += 1
        self._sent = place
        if now > due[-1] + _GRACE_S or not self._open:
            self._over.set_result(None)

    def answered(self, connection: _Connection, place: int, success: bool) -> None:
        self.done_s[place] = perf_counter() - self._start_s
        self.refused += not success
        self._free.append(connection)
        self._settle()

    def lost(self, connection: _Connection) -> None:
        self._open -= 1
        if connection.waiting:
            self._settle()
        else:
            self._free.remove(connection)

    def _settle(self) -> None:
        self._left -= 1
        if not self._left and not self._over.done():
            self._over.set_result(None)


async def measure(
    host: str, port: int, request: Callable[[int], bytes], due_s: NDArray[np.float64], connections: int
) -> Open:
    """Send a schedule and return what came of it.

    Args:
        host: Address of the server.
        port: Its port.
        request: Returns the whole HTTP request of a number, counted from 0.
        due_s: When each is due, seconds from the start, ascending, float64 (N,).
        connections: Requests on their way at most; more wait in line.

    Raises:
        OSError: No connection could be made.
    """
    loop = _Loop(request, due_s)
    await loop.run(host, port, connections)
    answered = ~np.isnan(loop.done_s)
    latency_ms = (np.where(answered, loop.done_s, loop.end_s) - due_s) * _MS
    late_ms = (loop.sent_s - due_s)[~np.isnan(loop.sent_s)] * _MS
    p50, p99, p999, longest = _quantiles(latency_ms)
    late_p50, late_p99, late_p999, _ = _quantiles(late_ms)
    seconds = float(loop.end_s - due_s[0])
    return Open(
        len(due_s), int(answered.sum()), loop.refused, seconds, p50, p99, p999, longest, late_p50, late_p99, late_p999,
        loop.waited,
    )  # fmt: skip


def _quantiles(values: NDArray[np.float64]) -> tuple[float, float, float, float]:
    if not len(values):
        return (float("inf"),) * 4
    p50, p99, p999, longest = np.quantile(values, (0.5, 0.99, 0.999, 1.0)).tolist()
    return p50, p99, p999, longest


def main() -> None:
    """Load a server, and print what came of it as JSON: the benchmark runs this as a process with a core of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--traffic", type=Path, help="file of distinct transactions")
    parser.add_argument("--first", type=int, default=0, help="number of the first transaction")
    parser.add_argument("--fixed", type=Path, help="file with the one request that is sent every time")
    parser.add_argument("--header", action="append", default=[], help="header line of each transaction")
    parser.add_argument("--even", action="store_true", help="evenly spaced, not Poisson arrivals")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    gc.disable()  # a collection would stand in every latency; a run is short
    if (given.traffic is None) == (given.fixed is None):
        parser.error("expected --traffic or --fixed, one of them")
    due_s = schedule(given.rate, given.seconds, None if given.even else np.random.default_rng(given.seed))
    if given.fixed is not None:
        fixed = given.fixed.read_bytes()
        requests = [fixed] * len(due_s)
    else:
        traffic = Traffic.load(given.traffic)
        headers = b"".join(f"{line}\r\n".encode() for line in given.header)
        requests = [traffic.request(given.first + number, headers) for number in range(len(due_s))]
    result = uvloop.run(measure("127.0.0.1", given.port, requests.__getitem__, due_s, given.connections))
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
