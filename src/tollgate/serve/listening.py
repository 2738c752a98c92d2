"""Binds ports and serves them until told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import uvloop

from tollgate.errors import CapacityError
from tollgate.serve.connection import Connection
from tollgate.serve.gate import Answered, Gate
from tollgate.serve.limits import Limits
from tollgate.serve.message import Application
from tollgate.serve.wire import Wire

DRAIN_S = 10  # how long a stopping server waits for the requests that it has
_GRACE_S = 0.1  # requests that were on their way when it was told to stop are still refused properly
_POLL_S = 0.02
_BACKLOG = 1024


def _unheeded(_latencies_s: Sequence[float], _statuses: Sequence[int]) -> None:
    """Count nothing."""


class Port(NamedTuple):
    """What is served where.

    Attributes:
        host: Address to bind, IPv4 or IPv6.
        port: 0 takes a free one.
        tls: None speaks plain HTTP.
        answered: Told, once a turn of the loop, the latencies in seconds and the statuses of what was answered.
    """

    application: Application
    host: str
    port: int
    tls: ssl.SSLContext | None = None
    limits: Limits = Limits()
    answered: Answered = _unheeded


class Server:
    """Several ports on one loop."""

    def __init__(
        self,
        ports: Sequence[Port],
        *,
        id_prefix: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Bind the ports; clients wait until it is started.

        Args:
            ports: What is served.
            id_prefix: Begins the ids of requests that come without one; no other process should have the same.
            clock: Seconds since 1970-01-01 UTC, for the dates of the answers.

        Raises:
            CapacityError: An address cannot be bound.
        """
        self._ports = ports
        self._id_prefix = id_prefix
        self._clock = clock
        self._gates: list[Gate] = []
        self._servers: list[asyncio.Server] = []
        self._listeners: list[socket.socket] = []
        try:
            for port in ports:
                self._listeners.append(_bind(port))
        except CapacityError:
            self.drop()
            raise

    @property
    def urls(self) -> list[str]:
        """Of the ports, in their order."""
        return [_url(port, listener) for port, listener in zip(self._ports, self._listeners, strict=True)]

    async def start(self) -> None:
        """Accept connections from now on."""
        loop = asyncio.get_running_loop()
        for port, listener in zip(self._ports, self._listeners, strict=True):
            wire = Wire(self._clock, secure=port.tls is not None)
            gate = Gate(port.application, port.limits, wire, port.answered, self._id_prefix, loop)
            gate.start()
            self._gates.append(gate)
            timeout_s = port.limits.header_timeout_s if port.tls is not None else None
            self._servers.append(
                await loop.create_server(
                    lambda gate=gate: Connection(gate), sock=listener, ssl=port.tls, ssl_handshake_timeout=timeout_s
                )
            )

    async def drain(self, timeout_s: float = DRAIN_S) -> None:
        """Accept and admit nothing more, wait for the requests that were admitted, and close."""
        for server in self._servers:
            server.close()
        for gate in self._gates:
            gate.stopping = True
        begun_s = time.monotonic()

        async def wait_while(busy: Callable[[float], bool]) -> None:
            while (waited_s := time.monotonic() - begun_s) < timeout_s and busy(waited_s):  # noqa: ASYNC110 - an event costs
                await asyncio.sleep(_POLL_S)

        await wait_while(lambda waited_s: waited_s < _GRACE_S or any(gate.admitted for gate in self._gates))
        for gate in self._gates:
            for connection in tuple(gate.connections):
                connection.finish()
        await wait_while(lambda _: any(gate.connections for gate in self._gates))
        self.drop()

    def drop(self) -> None:
        """Close all at once."""
        for server in self._servers:
            server.close()
        for listener in self._listeners:
            listener.close()
        for gate in self._gates:
            gate.stop()
            for connection in tuple(gate.connections):
                connection.drop()


def serve_forever(
    server: Server,
    on_bound: Callable[[str], None],
    on_start: Callable[[], Awaitable[None]],
    shutdown: Callable[[], Awaitable[None]],
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun; a second signal ends it at once.

    Args:
        server: Bound and not started.
        on_bound: Told the URL of each port once it accepts connections.
        on_start: Awaited before.
        shutdown: Awaited after the last answer.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(server, on_bound, on_start, shutdown))


async def _serve(
    server: Server,
    on_bound: Callable[[str], None],
    on_start: Callable[[], Awaitable[None]],
    shutdown: Callable[[], Awaitable[None]],
) -> None:
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    assert this is not None
    told = asyncio.Event()
    hurried = False

    def stop() -> None:
        nonlocal hurried
        if told.is_set():
            hurried = True
            this.cancel()
        told.set()

    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        await on_start()
        await server.start()
        for url in server.urls:
            on_bound(url)
        await told.wait()
        await server.drain()
        await shutdown()
    except asyncio.CancelledError:
        if not hurried:
            raise
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        server.drop()
        await asyncio.sleep(0)  # connections that were dropped are told in the next turn


def _bind(port: Port) -> socket.socket:
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    try:
        listener = socket.create_server((port.host, port.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CapacityError(
            "cannot_bind",
            f"could not listen on {port.host}:{port.port}: {error.strerror}; free it, or name another --port",
        ) from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the connections inherit it
    return listener


def _url(port: Port, listener: socket.socket) -> str:
    scheme = "http" if port.tls is None else "https"
    host = f"[{port.host}]" if ":" in port.host else port.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"
