"""What the connections of one port share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from tollgate.serve.head import Heads
from tollgate.serve.limits import Limits
from tollgate.serve.message import Application
from tollgate.serve.wire import Wire

SWEEP_S = 0.5

Answered = Callable[[Sequence[float], Sequence[int]], None]


class Kept(Protocol):
    """A connection, as its gate sees it."""

    def flush(self, now_s: float, latencies_s: list[float], statuses: list[int]) -> None:
        """Write the answers that are ready and next, and add what they were."""

    def sweep(self, now_s: float) -> None:
        """Do what is due."""

    def finish(self) -> None:
        """Close once all is written that was answered."""

    def drop(self) -> None:
        """Close at once."""


class Gate:
    """An application, its limits, its open connections, and what became ready in this turn of the loop.

    Answers that become ready in one turn are written at its end: one write for a connection, one call of the
    accounting. One timer serves all connections.

    Attributes:
        stopping: Set when no more requests are admitted.
        admitted: Requests that the application has and did not answer yet.
        connections: That are open.
        held_bytes: Of the bodies that have not come whole.
    """

    def __init__(
        self,
        application: Application,
        limits: Limits,
        wire: Wire,
        answered: Answered,
        id_prefix: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Make a gate that nobody stands at.

        Args:
            application: What answers.
            limits: Of this port.
            wire: Writes the answers.
            answered: Told, once a turn of the loop, N latencies in seconds and N statuses.
            id_prefix: Begins the ids of requests that come without one.
            loop: That all of this runs in.
        """
        self.handle = application.handle
        self.limits = limits
        self.heads = Heads(limits)
        self.wire = wire
        self.stopping = False
        self.admitted = 0
        self.connections: set[Kept] = set()
        self.held_bytes = 0
        self.time_s = loop.time
        self._answered = answered
        self._id_prefix = id_prefix
        self._named = 0
        self._loop = loop
        self._ready: list[Kept] = []
        self._timer: asyncio.TimerHandle | None = None

    def new_id(self) -> str:
        """Return an id that no other request of this process has."""
        self._named += 1
        return f"{self._id_prefix}{self._named:x}"

    def ready(self, connection: Kept) -> None:
        """Have a connection flushed at the end of this turn."""
        if not self._ready:
            self._loop.call_soon(self._flush)
        self._ready.append(connection)

    def start(self) -> None:
        """Begin to sweep."""
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)

    def stop(self) -> None:
        """End to sweep."""
        if self._timer is not None:
            self._timer.cancel()

    def _flush(self) -> None:
        ready, self._ready = self._ready, []
        now_s = self.time_s()
        latencies_s: list[float] = []
        statuses: list[int] = []
        for connection in ready:
            connection.flush(now_s, latencies_s, statuses)
        if statuses:
            self._answered(latencies_s, statuses)

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)
        self.wire.tick()
        now_s = self.time_s()
        for connection in tuple(self.connections):
            connection.sweep(now_s)
