"""`tollgate serve` as a process that can be killed and started again on the same folder."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from benchmarks.faults import interface
from benchmarks.faults.client import LIMIT_S, Answer, BrokenError, Client
from benchmarks.serving.material import environment
from benchmarks.serving.process import NotRunError, free_port, pinned, stop

READY_LIMIT_S = 90.0
COMPILE_LIMIT_S = 300.0
_PAUSE_S, _PROBE_LIMIT_S = 0.05, 5.0
_LOG_TAIL = 500  # last characters
_KIB_IN_MIB = 1 << 10


class Server:
    """A server on a folder with a configuration; as a context it is ready, and ended at the end."""

    def __init__(self, folder: Path, *, core: int | None = None, extra: Mapping[str, str] | None = None) -> None:
        """Say what to serve; `start` does.

        Args:
            folder: With `tollgate.toml`.
            core: To run on; any without one.
            extra: Of the environment.
        """
        self.folder = folder
        self.port, self.internal_port = free_port(), free_port()
        self._core = core
        self._extra = dict(extra or {})
        self._log = folder / "server.log"
        self._log_start = 0
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            NotRunError: It ended or was not ready in time.
        """
        self.spawn()
        until = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < until:
            if not self.alive:
                raise NotRunError(f"the server ended while it started: {self.log[-_LOG_TAIL:]}")
            if self.ready() == 200:
                return
            time.sleep(_PAUSE_S)
        raise NotRunError(f"the server was not ready after {READY_LIMIT_S:.0f} s: {self.log[-_LOG_TAIL:]}")

    def spawn(self, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start it and do not wait; `before` is a command that runs the one after it."""
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        command = interface.serve_command(self.folder / "tollgate.toml", self.port, self.internal_port)
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [*before, *(command if self._core is None else pinned(self._core, command))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment(), **self._extra},
                start_new_session=True,
            )
        return self.process

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has written since it was last started."""
        return self._log.read_bytes()[self._log_start :].decode(errors="replace")

    @property
    def memory_mib(self) -> float:
        """Resident memory, without the pages of files that are mapped: those are the system's to take back."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")) / _KIB_IN_MIB

    def client(self, limit_s: float = LIMIT_S, headers: Mapping[str, str] | None = None) -> Client:
        """Return a new client of the public port."""
        return Client(self.port, limit_s, headers)

    def internal(self) -> Client:
        """Return a new client of the internal port."""
        return Client(self.internal_port)

    def ready(self) -> int:
        """Return the status of /health/ready, 0 where nothing answers."""
        with self.client(_PROBE_LIMIT_S) as client:
            try:
                return client.get("/health/ready").status
            except BrokenError:
                return 0

    def health(self) -> interface.Health:
        """Return what it counts."""
        with self.client() as client:
            return interface.health(client)

    def predict(self, body: bytes, limit_s: float = LIMIT_S) -> Answer:
        """Return the answer to one body, over a connection of its own."""
        with self.client(limit_s) as client:
            return client.predict(body)

    def kill(self) -> None:
        """End it as a power cut does for the process: SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        stop(self.process)

    def stop(self) -> None:
        """End it politely."""
        if self.process is not None:
            stop(self.process)


def warm_up(folder: Path, body: bytes) -> None:
    """Let a server decide once, so that compiled code is there for all others; on a new checkout that takes a minute.

    Raises:
        NotRunError: It decided nothing in time.
    """
    with Server(folder) as server:
        try:
            answer = server.predict(body, COMPILE_LIMIT_S)
        except BrokenError as error:
            raise NotRunError(f"the first decision: {error}") from None
        if answer.status != 200:
            raise NotRunError(f"the first decision: expected 200, but got {answer.status} {answer.code}")
