"""A client of the HTTP interface, for programs that send payments: blocking, and for asyncio.

A request without an answer is sent again. That is safe: a transaction_id that was decided before gets the stored
decision and counts nothing. So nothing is sent without one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar, overload

import msgspec

from tollgate.decision import Decision
from tollgate.errors import (
    AuthError,
    CapacityError,
    ConflictError,
    InputError,
    MalformedError,
    NotFoundError,
    RateError,
    ScopeError,
    TollgateError,
    TooLargeError,
)
from tollgate.label import Label, Labelled, LabelResult

try:
    import httpx
except ImportError as error:  # the one seam of the extra
    raise ImportError("the client needs httpx: pip install 'tollgate[client]'") from error

TIMEOUT_S = 2.0  # of one attempt
RETRIES = 4
FIRST_WAIT_S = 0.05  # the most that is waited after the first attempt; twice as much after each further one
LONGEST_WAIT_S = 2.0
LONGEST_RETRY_AFTER_S = 30.0  # a server that asks for more is not waited for
MAX_CONNECTIONS = 100

_AGAIN = frozenset({429, 503})
_ENCODE = msgspec.json.Encoder(decimal_format="number").encode
_ONE = msgspec.json.Decoder(Decision)
_MANY = msgspec.json.Decoder(list[Decision])
_LABELLED = msgspec.json.Decoder(Labelled)
_ALL_LABELLED = msgspec.json.Decoder(list[Labelled])
_ERRORS: dict[int, type[TollgateError]] = {
    kind.status: kind
    for kind in (MalformedError, AuthError, ScopeError, ConflictError, TooLargeError, InputError, CapacityError)
}

Transaction = Mapping[str, Any]
Random = Callable[[], float]
T = TypeVar("T")


class UnreachableError(CapacityError):
    """No attempt got an answer. What was sent may have been decided: the same request finds out."""


class AnswerError(TollgateError):
    """The answer is none of this interface: another server, or a proxy, has answered.

    Attributes:
        status_code: Its HTTP status.
    """

    def __init__(self, message: str, status_code: int, **where: Any) -> None:
        super().__init__("unexpected_answer", message, **where)
        self.status_code = status_code


class Backoff(NamedTuple):
    """How often and when a request is sent again: exponential back-off with full jitter (Brooker, AWS, 2015).

    Attributes:
        retries: Attempts after the first.
        random: Gives numbers in [0, 1).
    """

    retries: int = RETRIES
    random: Random = random.random

    def wait_s(self, attempt: int, result: httpx.Response | httpx.TransportError) -> float | None:
        """Return the seconds to wait after attempt number `attempt`, from 0, or None if there shall be no other."""
        if attempt >= self.retries or isinstance(result, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            return None
        least_s = 0.0
        if isinstance(result, httpx.Response):
            if result.status_code not in _AGAIN:
                return None
            least_s = _retry_after_s(result)
            if least_s > LONGEST_RETRY_AFTER_S:
                return None
        return least_s + self.random() * min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**attempt)


class Client:
    """A blocking client. It may be shared by threads, and keeps its connections until it is closed."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        id_field: str = "transaction_id",
        random: Random = random.random,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make a client; nothing is sent yet.

        Args:
            url: Of the server: `https://tollgate.example`.
            api_key: A key of scope `score`.
            timeout_s: Of one attempt, in seconds.
            retries: Attempts after the first.
            id_field: The field that your schema reads transaction_id from.
            random: Gives numbers in [0, 1), for the waits.
            sleep: Waits so many seconds.
        """
        self._http = httpx.Client(**_options(url, api_key, timeout_s))
        self._backoff = Backoff(retries, random)
        self._id_field = id_field
        self._sleep = sleep

    @overload
    def predict(self, transaction: Transaction) -> Decision: ...

    @overload
    def predict(self, transaction: Sequence[Transaction]) -> list[Decision]: ...

    def predict(self, transaction: Transaction | Sequence[Transaction]) -> Decision | list[Decision]:
        """Return the decision on a transaction, or those on several, which are decided all or none.

        Raises:
            InputError: A transaction cannot be used; with another class for another status: `ConflictError`, 409.
            AuthError: The key is missing or not good (401); `ScopeError` (403) if it may not score.
            RateError: The key is over its rate, still after the last attempt.
            CapacityError: The server cannot decide now, still after the last attempt.
            UnreachableError: No attempt got an answer.
            AnswerError: Something else answered.
        """
        body = _body(transaction, self._id_field)
        answer = self._send("POST", "/predict", body)
        return _decode(answer, _ONE) if isinstance(transaction, Mapping) else _decode(answer, _MANY)

    @overload
    def label(self, label: Label) -> Labelled: ...

    @overload
    def label(self, label: Sequence[Label]) -> list[Labelled]: ...

    def label(self, label: Label | Sequence[Label]) -> Labelled | list[Labelled]:
        """Record a label, or several; of a client whose URL is that of the internal port, with a key of scope `label`.

        Several stand each for itself: the answers say in their order what became of them.

        Raises:
            NotFoundError: The one label is of no transaction that is recorded.
            ConflictError: Its source has said the opposite for the same moment.
            TollgateError: As `predict`.
        """
        answer = self._send("POST", "/labels", _ENCODE(label))
        return _decode(answer, _LABELLED) if isinstance(label, Label) else _decode(answer, _ALL_LABELLED)

    def health(self) -> dict[str, Any]:
        """Return what `GET /health` tells.

        Raises:
            TollgateError: As `predict`.
        """
        return _decode(self._send("GET", "/health", b""), _HEALTH)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _send(self, method: str, path: str, body: bytes) -> httpx.Response:
        attempt = 0
        while True:
            result: httpx.Response | httpx.TransportError
            try:
                result = self._http.request(method, path, content=body)
            except httpx.TransportError as error:
                result = error
            wait_s = self._backoff.wait_s(attempt, result)
            if wait_s is None:
                return _settle(result, attempt + 1)
            self._sleep(wait_s)
            attempt += 1


class AsyncClient:
    """The same for asyncio. It belongs to one event loop."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        id_field: str = "transaction_id",
        random: Random = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Make a client; the arguments are those of `Client`."""
        self._http = httpx.AsyncClient(**_options(url, api_key, timeout_s))
        self._backoff = Backoff(retries, random)
        self._id_field = id_field
        self._sleep = sleep

    @overload
    async def predict(self, transaction: Transaction) -> Decision: ...

    @overload
    async def predict(self, transaction: Sequence[Transaction]) -> list[Decision]: ...

    async def predict(self, transaction: Transaction | Sequence[Transaction]) -> Decision | list[Decision]:
        """Return the decision on a transaction, or those on several; see `Client.predict`."""
        body = _body(transaction, self._id_field)
        answer = await self._send("POST", "/predict", body)
        return _decode(answer, _ONE) if isinstance(transaction, Mapping) else _decode(answer, _MANY)

    @overload
    async def label(self, label: Label) -> Labelled: ...

    @overload
    async def label(self, label: Sequence[Label]) -> list[Labelled]: ...

    async def label(self, label: Label | Sequence[Label]) -> Labelled | list[Labelled]:
        """Record a label, or several; see `Client.label`."""
        answer = await self._send("POST", "/labels", _ENCODE(label))
        return _decode(answer, _LABELLED) if isinstance(label, Label) else _decode(answer, _ALL_LABELLED)

    async def health(self) -> dict[str, Any]:
        """Return what `GET /health` tells; see `Client.health`."""
        return _decode(await self._send("GET", "/health", b""), _HEALTH)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def _send(self, method: str, path: str, body: bytes) -> httpx.Response:
        attempt = 0
        while True:
            result: httpx.Response | httpx.TransportError
            try:
                result = await self._http.request(method, path, content=body)
            except httpx.TransportError as error:
                result = error
            wait_s = self._backoff.wait_s(attempt, result)
            if wait_s is None:
                return _settle(result, attempt + 1)
            await self._sleep(wait_s)
            attempt += 1


class _Told(msgspec.Struct):
    """The part of a refusal that every server of this interface sends."""

    code: str
    message: str
    row: int | None = None
    column: str | None = None


class _Refusal(msgspec.Struct):
    error: _Told


_HEALTH = msgspec.json.Decoder(dict[str, Any])


def _options(url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    headers = {"content-type": "application/json"}
    if api_key is not None:
        headers["authorization"] = f"Bearer {api_key}"
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
    return {"base_url": url, "headers": headers, "timeout": timeout_s, "limits": limits}


def _body(transaction: Transaction | Sequence[Transaction], id_field: str) -> bytes:
    """Return the body to send, the same at each attempt."""
    rows = [transaction] if isinstance(transaction, Mapping) else transaction
    for place, row in enumerate(rows):
        if row.get(id_field) in (None, ""):
            raise InputError(
                "missing_field",
                f"expected a value for '{id_field}', but there is none; without it a request that is sent again "
                "would count twice",
                row=None if isinstance(transaction, Mapping) else place,
                column="transaction_id",
            )
    return _ENCODE(transaction)


def _settle(result: httpx.Response | httpx.TransportError, attempts: int) -> httpx.Response:
    """Return an answer of status 200; raise what any other, or none, stands for."""
    if isinstance(result, httpx.TransportError):
        raise UnreachableError(
            "unreachable",
            f"no answer after {attempts} attempts: {result or type(result).__name__}; the same request may be sent "
            "again at any time",
        ) from result
    if result.status_code == 200:
        return result
    request_id = result.headers.get("x-request-id")
    try:
        told = msgspec.json.decode(result.content, type=_Refusal).error
    except msgspec.DecodeError:
        raise _odd(result) from None
    if result.status_code == 429:
        raise RateError(told.code, told.message, int(_retry_after_s(result)))
    kind = NotFoundError if told.code == LabelResult.UNKNOWN_TRANSACTION else _ERRORS.get(result.status_code)
    if kind is None:
        raise AnswerError(f"{told.code}: {told.message}", result.status_code, request_id=request_id)
    raise kind(told.code, told.message, row=told.row, column=told.column, request_id=request_id)


def _decode(answer: httpx.Response, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(answer.content)
    except msgspec.DecodeError:
        raise _odd(answer) from None


def _odd(answer: httpx.Response) -> AnswerError:
    return AnswerError(
        f"expected an answer of Tollgate, but got status {answer.status_code} with "
        f"{answer.headers.get('content-type', 'no content type')}; is {answer.url} the public port?",
        answer.status_code,
        request_id=answer.headers.get("x-request-id"),
    )


def _retry_after_s(answer: httpx.Response) -> float:
    """Return what Retry-After says, in seconds; 0 without it, or where it is a date, which nothing here sends."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0
