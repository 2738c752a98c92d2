"""The public HTTP interface, as a plain ASGI application: no framework in the hot path."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tollgate import __version__
from tollgate.config import ServeConfig
from tollgate.errors import InputError, TollgateError, TooLargeError
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger
from tollgate.scorer import Scorer, Submission
from tollgate.serve.batcher import Batcher
from tollgate.serve.message import Answer, answer_json, refusal, refuse

LOG = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_DRAINED_LIMITS = 4  # of a body that is too long, this many limits are read before the connection is given up
_JSON = (b"content-type", b"application/json")


class _DisconnectedError(Exception):
    """The client left before its request was whole."""


class PredictApp:
    """`POST /predict`, `GET /health`, `/health/live` and `/health/ready`; nothing else."""

    def __init__(
        self,
        reader: TransactionReader,
        scorer: Scorer,
        ledger: Ledger,
        config: ServeConfig,
        clock_us: Callable[[], int],
    ) -> None:
        """Make the application; it starts to recover when the server starts it."""
        self._reader = reader
        self._scorer = scorer
        self._ledger = ledger
        self._config = config
        self._clock_us = clock_us
        self._batcher = Batcher(scorer, config.max_waiting)
        self._started_us = clock_us()
        self._routes: dict[str, tuple[str, Callable[[Message, Receive], Awaitable[Answer]]]] = {
            "/predict": ("POST", self._predict),
            "/health": ("GET", self._health),
            "/health/live": ("GET", self._live),
            "/health/ready": ("GET", self._ready),
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection event of the ASGI server."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            answer = await self._respond(scope, receive)
        except _DisconnectedError:
            return
        length = (b"content-length", str(len(answer.body)).encode())
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [_JSON, length, *answer.headers],
            }
        )
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    async def _respond(self, scope: Message, receive: Receive) -> Answer:
        route = self._routes.get(scope["path"])
        if route is None:
            paths = ", ".join(self._routes)
            return refuse(404, "not_found", f"expected one of {paths}, got {scope['path']}")
        method, handle = route
        if scope["method"] != method and not (method == "GET" and scope["method"] == "HEAD"):
            message = f"expected {method} {scope['path']}, but got {scope['method']}"
            return refuse(405, "method_not_allowed", message, (b"allow", method.encode()))
        try:
            return await handle(scope, receive)
        except TollgateError as error:
            return refusal(error)
        except _DisconnectedError:
            raise
        except Exception:
            LOG.exception("a request failed")
            return refuse(500, "internal_error", "the request failed; the log says why")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._batcher.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._batcher.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _predict(self, scope: Message, receive: Receive) -> Answer:
        body = await self._body(scope, receive)
        many, rows = self._reader.decode(body, self._config.max_transactions)
        if not rows:
            return Answer(200, b"[]")
        batch = self._reader.from_rows(rows)
        latest = self._clock_us() + self._config.max_ahead_us
        if int(batch.time_us.max()) > latest:
            row = int((batch.time_us > latest).argmax())
            raise InputError(
                "time_ahead",
                f"expected a time at most {self._config.max_ahead} ahead of this server's clock: a wrong clock would "
                "empty the windows of every entity that it touches",
                row=row if many else None,
                column="effective_time",
            )
        decisions = await self._batcher.submit(Submission(batch, [self._reader.body(row) for row in rows]))
        return answer_json(decisions if many else decisions[0])

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        limit = self._config.max_body_bytes
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        size = int(declared)  # the server has checked that it is a number
        parts: list[bytes] = []
        received, more = 0, size <= limit * _DRAINED_LIMITS
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _DisconnectedError
            part = message.get("body", b"")
            received += len(part)
            if max(size, received) <= limit:
                parts.append(part)
            # What is too long is read to its end and thrown away: a client that is still sending reads no answer.
            more = message.get("more_body", False) and received <= limit * _DRAINED_LIMITS
        if max(size, received) > limit:
            raise TooLargeError(
                "body_too_large",
                f"expected a body of at most {limit} bytes; send fewer transactions at a time",
            )
        return b"".join(parts)

    async def _live(self, _scope: Message, _receive: Receive) -> Answer:
        return answer_json({"status": "live"})

    async def _ready(self, _scope: Message, _receive: Receive) -> Answer:
        ready = self._scorer.ready
        return answer_json({"status": "ready" if ready else "recovering"}, 200 if ready else 503)

    async def _health(self, _scope: Message, _receive: Receive) -> Answer:
        scorer = self._scorer
        state = {}
        if scorer.ready:
            engine = scorer.engine
            state = {
                "transactions": engine.observed,
                "entities": engine.entities,
                "late_events": engine.late,
                "state_bytes": engine.state_bytes,
            }
        report = {
            "status": "ready" if scorer.ready else "recovering",
            "version": __version__,
            "bundle": scorer.bundle,
            "uptime_s": (self._clock_us() - self._started_us) // 1_000_000,
            "ledger_transactions": self._ledger.transactions,
            "decisions": {outcome.value: count for outcome, count in scorer.counts.items()},
            "degraded": scorer.degraded,
            "features": state,
        }
        return answer_json(report)
