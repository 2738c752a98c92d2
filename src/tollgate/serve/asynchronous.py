"""Coroutines as an application: for the internal port, where a request may take a task of its own."""

from __future__ import annotations

import asyncio
import logging

from tollgate.serve.message import Answer, Handler, Reply, Request, refuse

LOG = logging.getLogger(__name__)


class Asynchronous:
    """An application whose every request is one task."""

    def __init__(self, handler: Handler) -> None:
        """Make it of what returns the answer to a request. Whatever it raises is logged, and answered with 500."""
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()  # the loop alone would not keep them alive

    def handle(self, request: Request, reply: Reply) -> None:
        """Begin to answer a request."""
        task = asyncio.get_running_loop().create_task(self._run(request, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, request: Request, reply: Reply) -> None:
        reply(await self._answer(request))

    async def _answer(self, request: Request) -> Answer:
        try:
            return await self._handler(request)
        except Exception:
            LOG.exception("a request failed", extra={"request_id": request.id, "path": request.path})
            return refuse(500, "internal_error", "the request failed; the log says why")


def asynchronous(handler: Handler) -> Asynchronous:
    """Return an application of an async handler."""
    return Asynchronous(handler)
