"""Servers as processes of their own, each on one core, and every process of theirs ended by its id."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

START_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0
_PROBE_PAUSE_S = 0.1
_PROBE_LIMIT_S = 5.0
_LOG_TAIL = 300  # last characters of an output: they say why
_PARENT, _START = 1, 19  # fields of /proc/PID/stat after the name in brackets
_OK = 200


class NotRunError(Exception):
    """A row of the table that could not be measured here; the text says why."""


class Cores(NamedTuple):
    """The core of the servers and the core of the load; the same one where there is only one."""

    server: int
    load: int


class Probe(NamedTuple):
    """A request that a server answers with 200 once it is ready."""

    path: str
    body: bytes | None = None  # POST with it, else GET
    headers: Mapping[str, str] = {}


def cores() -> Cores:
    """Return two of the cores that this process may use."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    return Cores(usable[0], usable[-1])


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """Return a command that runs on one core, where the system can do that."""
    taskset = shutil.which("taskset")
    return list(command) if taskset is None else [taskset, "--cpu-list", str(core), *command]


def finished(command: Sequence[str], what: str, limit_s: float, environment: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        NotRunError: It failed or took longer than `limit_s`; `what` names it.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        raise NotRunError(f"{what} took longer than {limit_s:.0f} s") from None
    if done.returncode:
        raise NotRunError(f"{what} ended with {done.returncode}: {_end(done.stderr or done.stdout)}")
    return done.stdout


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running(
    command: Sequence[str], core: int, port: int, probe: Probe, log: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """Run a server on one core until the block ends, which begins once it is ready.

    Raises:
        NotRunError: It ended, or was not ready within `START_LIMIT_S`.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned(core, command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            start_new_session=True,
        )
    try:
        _await_ready(process, port, probe, log)
        yield
    finally:
        stop(process)


def _await_ready(process: subprocess.Popen[bytes], port: int, probe: Probe, log: Path) -> None:
    until = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise NotRunError(f"ended with {process.returncode}: {_tail(log)}")
        if _answers(port, probe):
            return
        time.sleep(_PROBE_PAUSE_S)
    raise NotRunError(f"not ready after {START_LIMIT_S:.0f} s: {_tail(log)}")


def _answers(port: int, probe: Probe) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PROBE_LIMIT_S)
    try:
        connection.request("GET" if probe.body is None else "POST", probe.path, probe.body, dict(probe.headers))
        return connection.getresponse().status == _OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: Path) -> str:
    return _end(log.read_text(errors="replace"))


def _end(text: str) -> str:
    return " ".join(text[-_LOG_TAIL:].split()) or "it wrote nothing"


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started: politely, then by force."""
    family = {process.pid, *_descendants(process.pid)}
    started = {pid: _started(pid) for pid in family}
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid in family - {process.pid}:  # some frameworks leave their workers behind
        if started[pid] is not None and _started(pid) == started[pid]:
            _kill(pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _stat(pid: int | str) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """Return when a process began, which tells it from a later one of the same id; None where it is gone."""
    fields = _stat(pid)
    return None if fields is None else fields[_START]


def _descendants(pid: int) -> set[int]:
    parents = {
        int(folder.name): int(fields[_PARENT])
        for folder in Path("/proc").glob("[0-9]*")
        if (fields := _stat(folder.name)) is not None
    }
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found
