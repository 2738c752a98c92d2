"""A closed loop by wrk: each connection sends its next request when it has its answer, so this finds saturation."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.serving.process import NotRunError, finished, pinned
from benchmarks.serving.traffic import LOAD_SCRIPT

_GRACE_S = 30  # wrk reads its file before, and waits for the last answers after
_MARK = "JSON "
_PRINTED = 200  # last characters of what it printed instead


class Closed(msgspec.Struct, frozen=True):
    """What wrk saw.

    Attributes:
        requests: Answers, whatever their status.
        seconds: For how long.
        p50_ms: Median latency.
        p99_ms: The 99th percentile; of a closed loop, so it leaves out what a slow server kept from being sent.
        refused: Answers that were no success.
        broken: Connections that failed, and requests without an answer.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int

    @property
    def per_s(self) -> float:
        """Successful answers a second."""
        return (self.requests - self.refused) / self.seconds


def closed_loop(url: str, arguments: Sequence[str], connections: int, seconds: float, core: int) -> Closed:
    """Load `url` from one core and return what came of it.

    Args:
        url: What to send to; `load.lua` makes the requests, so only its host and port matter.
        arguments: Of `load.lua`.
        connections: Requests on their way at once.
        seconds: For how long.
        core: That wrk runs on.

    Raises:
        NotRunError: wrk is not installed or failed.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise NotRunError("no wrk on the path (a Debian package)")
    length = f"{max(round(seconds), 1)}s"
    options = ["-t1", f"-c{connections}", "-d", length, "--timeout", "5s", "-s", str(LOAD_SCRIPT), url, "--"]
    printed = finished(pinned(core, [wrk, *options, *arguments]), "wrk", seconds + _GRACE_S)
    lines = [line for line in printed.splitlines() if line.startswith(_MARK)]
    if not lines:
        raise NotRunError(f"wrk printed no summary: {printed[-_PRINTED:]}")
    return msgspec.json.decode(lines[-1].removeprefix(_MARK), type=Closed)


def fixed_request(path: Path, request: bytes) -> list[str]:
    """Write the one request that a peer gets, and return the arguments with which `load.lua` sends it."""
    path.write_bytes(request)
    return [str(path)]


def transactions(path: Path, first: int, together: int = 1, headers: Sequence[str] = ()) -> list[str]:
    """Return the arguments with which `load.lua` sends distinct transactions, arrays of them if `together` is not 1."""
    return [str(path), str(first), str(together), *headers]
