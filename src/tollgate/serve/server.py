"""Binds the port and runs the application until it is told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from tollgate.errors import CapacityError
from tollgate.serve.app import PredictApp

DRAIN_S = 10  # how long a stopping server waits for the requests that it has


def serve(app: PredictApp, host: str, port: int, on_bound: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun.

    Args:
        app: What answers.
        host: Address to bind.
        port: Port to bind; 0 takes a free one.
        on_bound: Told the URL once it accepts connections.

    Raises:
        CapacityError: The address cannot be bound.
    """
    try:
        listener = socket.create_server((host, port), backlog=1024)
    except OSError as error:
        raise CapacityError(
            "cannot_bind",
            f"could not listen on {host}:{port}: {error.strerror}; free it, or name another --port",
        ) from error
    on_bound(f"http://{host}:{listener.getsockname()[1]}")
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )
    uvicorn.Server(config).run(sockets=[listener])
