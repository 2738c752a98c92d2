"""The internal port: metrics, documents, labels, champion, log level. It is for operators, not for payments."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from tollgate.bundle import Registry
from tollgate.control import ApiKey, Scope
from tollgate.errors import InputError, MalformedError, TollgateError, TooLargeError
from tollgate.keys import KeyRing, presented
from tollgate.label import Label, LabelResult
from tollgate.labelling import labelled, read_labels, refusal_of
from tollgate.ledger.controls import Controls
from tollgate.serve.logs import Logs
from tollgate.serve.message import Answer, Handler, Request, answer_json, refusal, refuse
from tollgate.serve.metrics import Metrics

LOG = logging.getLogger(__name__)

MAX_BODY_BYTES = 4096
_STATUS = {"no_bundle": 404, "no_predecessor": 409, "bad_level": 422}  # the request is wrong, not the server

_SCOPES = {"/labels": Scope.LABEL}  # of the other paths: admin

T = TypeVar("T", bound=msgspec.Struct)
Route = Callable[[Request, ApiKey], Awaitable[Answer]]
TakeLabels = Callable[[Sequence[Label], str], Awaitable[list[LabelResult]]]


class Promotion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of PUT /champion."""

    bundle: str


class LogLevel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of PUT /log-level."""

    level: str


class InternalApp:
    """Answers on the internal port.

    If there are keys, labels need one of scope `label`, and whatever else changes something one of scope `admin`.
    """

    def __init__(
        self,
        registry: Registry,
        controls: Controls,
        keys: Callable[[], KeyRing],
        metrics: Metrics,
        logs: Logs,
        document: Callable[[], bytes],
        health: Handler,
        clock_us: Callable[[], int],
        take_labels: TakeLabels,
        review: Handler | None = None,
    ) -> None:
        """Make the handler.

        Args:
            registry: Whose champion is changed; the server notices by itself.
            controls: Keeps the audit trail.
            keys: Gives the keys that are valid now.
            metrics: Of the server.
            logs: Of the process.
            document: Gives the OpenAPI document of the public port, as JSON.
            health: Answers the health paths, as on the public port.
            clock_us: Microseconds since 1970-01-01 UTC.
            take_labels: Records labels under who sent them, and returns what became of each once they are durable.
            review: Answers what is under /review: the analysts' pages, which ask for a key by themselves.
        """
        self._review = review
        self._registry = registry
        self._controls = controls
        self._keys = keys
        self._metrics = metrics
        self._logs = logs
        self._document = document
        self._health = health
        self._clock_us = clock_us
        self._take_labels = take_labels
        self._one_at_a_time = asyncio.Lock()  # a promotion reads the pointer, then writes it
        self._open: dict[str, Callable[[Request], Awaitable[Answer]]] = {
            "/metrics": self._expose,
            "/openapi.json": self._openapi,
            "/health": health,
            "/health/live": health,
            "/health/ready": health,
        }
        self._guarded: dict[str, dict[str, Route]] = {
            "/bundles": {"GET": self._bundles},
            "/champion": {"PUT": self._promote},
            "/champion/rollback": {"POST": self._rollback},
            "/labels": {"POST": self._label},
            "/log-level": {"GET": self._log_level, "PUT": self._set_log_level},
        }

    async def respond(self, request: Request) -> Answer:
        """Return the answer to a request; it never raises."""
        try:
            return await self._route(request)
        except TollgateError as error:
            status = _STATUS.get(error.code)
            return refusal(error) if status is None else refuse(status, **error.as_dict())
        except Exception:
            LOG.exception("an internal request failed", extra={"request_id": request.id, "path": request.path})
            return refuse(500, "internal_error", "the request failed; the log says why")

    async def _route(self, request: Request) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        if self._review is not None and (request.path == "/review" or request.path.startswith("/review/")):
            return await self._review(request)
        open_to_all = self._open.get(request.path)
        if open_to_all is not None:
            return await open_to_all(request) if method == "GET" else _not_allowed(request, ["GET"])
        methods = self._guarded.get(request.path)
        if methods is None:
            paths = ", ".join([*self._open, *self._guarded])
            return refuse(404, "not_found", f"expected one of {paths}, but got {request.path}")
        if method not in methods:
            return _not_allowed(request, list(methods))
        key = self._keys().check(presented(request.headers), _SCOPES.get(request.path, Scope.ADMIN), self._clock_us())
        return await methods[method](request, key)

    async def _expose(self, request: Request) -> Answer:
        accept = (request.header(b"accept") or b"").decode("latin-1")
        text, content_type = self._metrics.expose(accept)
        return Answer(200, text, ((b"content-type", content_type.encode()),))

    async def _openapi(self, _request: Request) -> Answer:
        return Answer(200, self._document())

    async def _bundles(self, _request: Request, _key: ApiKey) -> Answer:
        bundles = await asyncio.to_thread(self._registry.list)
        return answer_json({"champion": await asyncio.to_thread(self._registry.champion), "bundles": bundles})

    async def _promote(self, request: Request, key: ApiKey) -> Answer:
        bundle = _read(request.body, Promotion).bundle
        async with self._one_at_a_time:
            await asyncio.to_thread(self._registry.load, bundle)  # what does not load never comes to be tried
            before = await asyncio.to_thread(self._registry.champion)
            await self._change(key, "champion.promote", bundle, lambda: self._registry.promote(bundle), before=before)
        return answer_json({"champion": bundle})

    async def _rollback(self, _request: Request, key: ApiKey) -> Answer:
        async with self._one_at_a_time:
            before = await asyncio.to_thread(self._registry.champion)
            await self._change(key, "champion.rollback", before or "none", self._registry.rollback)
            return answer_json({"champion": await asyncio.to_thread(self._registry.champion)})

    async def _label(self, request: Request, key: ApiKey) -> Answer:
        many, labels = read_labels(request.body)
        self._keys().charge(key, len(labels) - 1)
        results = await self._take_labels(labels, f"key:{key.id}")
        if many:
            return answer_json([labelled(*pair) for pair in zip(labels, results, strict=True)])
        error = refusal_of(labels[0], results[0])
        if error is not None:
            raise error
        return answer_json(labelled(labels[0], results[0]))

    async def _log_level(self, _request: Request, _key: ApiKey) -> Answer:
        return answer_json({"level": self._logs.level})

    async def _set_log_level(self, request: Request, key: ApiKey) -> Answer:
        level, before = _read(request.body, LogLevel).level, self._logs.level
        self._logs.level = level
        try:
            await self._note(key, "log_level.set", level, before=before)
        except BaseException:
            self._logs.level = before
            raise
        return answer_json({"level": level})

    async def _change(self, key: ApiKey, action: str, subject: str, change: Callable[[], Any], **detail: Any) -> None:
        """Record what is about to be done, and then do it: what cannot be recorded is not done."""
        await self._note(key, action, subject, **detail)
        try:
            await asyncio.to_thread(change)
        except TollgateError as error:
            await self._note(key, f"{action}.failed", subject, code=error.code)
            raise

    async def _note(self, key: ApiKey, action: str, subject: str, **detail: Any) -> None:
        await asyncio.to_thread(self._controls.note, f"key:{key.id}", action, subject, self._clock_us(), **detail)
        LOG.warning("%s %s", action, subject, extra={"actor": key.id, **detail})


def _not_allowed(request: Request, methods: list[str]) -> Answer:
    allowed = ", ".join(methods)
    message = f"expected {allowed} {request.path}, but got {request.method}"
    return refuse(405, "method_not_allowed", message, (b"allow", allowed.encode()))


def _read(body: bytes, kind: type[T]) -> T:
    if len(body) > MAX_BODY_BYTES:
        raise TooLargeError("body_too_large", f"expected at most {MAX_BODY_BYTES} bytes, but got {len(body)}")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InputError("wrong_type", f"expected {{{', '.join(kind.__struct_fields__)}}}, but: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError("invalid_json", f"expected a JSON object: {error}") from None
