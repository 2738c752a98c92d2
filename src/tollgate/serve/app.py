"""The public HTTP interface: `POST /predict` and the health paths; nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tollgate.admission import Submission
from tollgate.config import ServeConfig
from tollgate.control import Scope
from tollgate.errors import TollgateError
from tollgate.intake import TransactionReader
from tollgate.keys import KeyRing, presented
from tollgate.serve.batcher import Batcher, Result
from tollgate.serve.health import PATHS, Health
from tollgate.serve.message import Answer, Reply, Request, refusal, refuse
from tollgate.serve.metrics import Metrics

LOG = logging.getLogger(__name__)

PREDICT = "/predict"
_SHED = (429, 503)


class PredictApp:
    """Answers on the public port."""

    def __init__(
        self,
        reader: TransactionReader,
        batcher: Batcher,
        health: Health,
        keys: Callable[[], KeyRing],
        metrics: Metrics,
        config: ServeConfig,
        clock_us: Callable[[], int],
        clock_s: Callable[[], float],
    ) -> None:
        """Make the application.

        Args:
            reader: Reads bodies.
            batcher: Has them decided.
            health: Answers the health paths.
            keys: Gives the keys that are valid now.
            metrics: Of the server.
            config: Its limits.
            clock_us: Microseconds since 1970-01-01 UTC.
            clock_s: A clock that runs on: `time.monotonic`.
        """
        self._reader = reader
        self._batcher = batcher
        self._health = health
        self._keys = keys
        self._metrics = metrics
        self._config = config
        self._clock_us = clock_us
        self._clock_s = clock_s

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer a request, now or when it is decided; `reply` gets the answer."""
        try:
            if request.path == PREDICT and request.method == "POST":
                self._predict(request, reply)
            else:
                reply(self._other(request))
        except TollgateError as error:
            reply(self._refused(error))
        except Exception:
            LOG.exception("a request failed", extra={"request_id": request.id, "path": request.path})
            reply(refuse(500, "internal_error", "the request failed; the log says why"))

    def _predict(self, request: Request, reply: Reply) -> None:
        ring = self._keys()
        key = None if ring.is_open else ring.check(presented(request.headers), Scope.SCORE, self._clock_us())
        many, rows = self._reader.decode(request.body, self._config.max_transactions)
        if not rows:
            reply(Answer(200, b"[]"))
            return
        if key is not None and len(rows) > 1:
            ring.charge(key, len(rows) - 1)

        def answer(result: Result) -> None:
            if isinstance(result, TollgateError):
                reply(self._refused(result))
            else:
                reply(Answer(200, b"[" + b",".join(result) + b"]" if many else result[0]))

        self._batcher.submit(Submission(rows, many, self._clock_s()), answer)

    def _refused(self, error: TollgateError) -> Answer:
        if error.status in _SHED:
            self._metrics.shed(error.code)
        return refusal(error)

    def _other(self, request: Request) -> Answer:
        path, method = request.path, request.method
        if path in PATHS:
            if method in ("GET", "HEAD"):
                return self._health.answer(path)
            allowed = "GET"
        elif path == PREDICT:
            allowed = "POST"
        else:
            return refuse(404, "not_found", f"expected one of {PREDICT}, {', '.join(PATHS)}, but got {path}")
        return refuse(
            405, "method_not_allowed", f"expected {allowed} {path}, but got {method}", (b"allow", allowed.encode())
        )
