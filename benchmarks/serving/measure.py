"""One server started, warmed up, loaded and stopped: what of it a round measures."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.serving.closed_loop import Closed, closed_loop, fixed_request, transactions
from benchmarks.serving.material import environment
from benchmarks.serving.open_loop import Open
from benchmarks.serving.process import Cores, NotRunError, finished, free_port, pinned, running
from benchmarks.serving.stacks import Ground, Stack

CONNECTIONS = (16, 64, 256)
ARRAY = 1_000  # transactions in one request
_ARRAY_CONNECTIONS = 4  # one is decided while the others are sent and read
_OPEN_CONNECTIONS = 256  # on their way at once, so that a stall of the server does not become one of the load
_OPEN_GRACE_S = 120  # to make the requests before, and for the last answers after


class Round(NamedTuple):
    """What one round measured of one server: by number of connections, and with arrays, decisions a second."""

    closed: dict[int, Closed]
    arrays_per_s: float | None


class Server:
    """A running server and the load that is made for it."""

    def __init__(self, ground: Ground, port: int, core: int, fixed: Path | None) -> None:
        self._ground = ground
        self._port = port
        self._core = core
        self._fixed = fixed
        self._serial = 0  # of the next transaction: none is sent twice

    def closed(self, connections: int, seconds: float, together: int = 1) -> Closed:
        """Load it by wrk, arrays of `together` transactions a request."""
        url = f"http://127.0.0.1:{self._port}/predict"
        result = closed_loop(url, self._arguments(together), connections, seconds, self._core)
        self._advance((result.requests + connections + result.broken + 1) * together)
        return result

    def _arguments(self, together: int) -> Sequence[str]:
        if self._fixed is not None:
            return [str(self._fixed)]
        return transactions(self._ground.material.traffic_file, self._serial, together)

    def _advance(self, sent: int) -> None:
        """Go on at the start of a round of the traffic, after whatever was sent."""
        count = len(self._ground.material.traffic.tails)
        self._serial = -(-(self._serial + sent) // count) * count

    def open(self, rate: float, seconds: float) -> Open:
        """Load it at a fixed rate, from a process of its own."""
        if self._fixed is not None:
            what = ["--fixed", str(self._fixed)]
        else:
            what = ["--traffic", str(self._ground.material.traffic_file), "--first", str(self._serial)]
        command = [
            sys.executable, "-m", "benchmarks.serving.open_loop", "--port", str(self._port), "--rate", str(rate),
            "--seconds", str(seconds), "--connections", str(_OPEN_CONNECTIONS), *what,
        ]  # fmt: skip
        printed = finished(pinned(self._core, command), "the open loop", seconds + _OPEN_GRACE_S, environment())
        self._advance(round(rate * seconds) + 1)
        return msgspec.json.decode(printed, type=Open)


@contextmanager
def served(stack: Stack, ground: Ground, cores: Cores) -> Iterator[Server]:
    """Run a server on its core until the block ends.

    Raises:
        NotRunError: It cannot be installed or did not start.
    """
    folder = ground.material.folder / "runs" / stack.key
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = free_port()
    launch = stack.prepare(ground, folder, port)
    fixed = None if launch.request is None else Path(fixed_request(folder / "request.http", launch.request)[0])
    log = folder / "server.log"
    with running(launch.command, cores.server, port, launch.probe, log, launch.environment):
        yield Server(ground, port, cores.load, fixed)


def measure_round(stack: Stack, ground: Ground, cores: Cores, seconds: float, warm_s: float) -> Round:
    """Start a server, load it with each number of connections, and with arrays if it is Tollgate's; stop it.

    Raises:
        NotRunError: It cannot be installed, did not start, or answered nothing with success.
    """
    with served(stack, ground, cores) as server:
        server.closed(CONNECTIONS[0], warm_s)
        closed = {connections: server.closed(connections, seconds) for connections in CONNECTIONS}
        if not any(one.per_s for one in closed.values()):
            raise NotRunError("it answered no request with success")
        arrays = server.closed(_ARRAY_CONNECTIONS, seconds, ARRAY).per_s * ARRAY if stack.own else None
    return Round(closed, arrays)
