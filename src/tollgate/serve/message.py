"""What passes between the wire and the handlers: a whole request, and its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from tollgate.errors import RateError, TollgateError

RETRY_AFTER_S = 1
_ENCODE = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request that has come whole.

    Attributes:
        path: Without the query, its percent-encoding decoded once.
        headers: Names in lower case.
        id: Names the request in logs and in the answer: what the client sent as X-Request-Id, else a new one.
    """

    method: str
    path: str
    query: str
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    id: str

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header, by its name in lower case."""
        return next((value for key, value in self.headers if key == name), None)


class Answer(NamedTuple):
    """A response: status, body and the headers beside length and date; the body is JSON unless they say otherwise."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Request], Awaitable[Answer]]
Reply = Callable[[Answer], None]


class Application(Protocol):
    """What answers on a port."""

    def handle(self, request: Request, reply: Reply) -> None:
        """Take a request; called in the loop's thread, and returns at once.

        Args:
            request: What to answer.
            reply: Is to be called exactly once, now or later, in the same thread.
        """


def answer_json(value: Any, status: int = 200) -> Answer:
    """Return an answer that holds `value` as JSON."""
    return Answer(status, _ENCODE(value))


def refuse(status: int, code: str, message: str, *headers: tuple[bytes, bytes], **where: Any) -> Answer:
    """Return a refusal: `{"error": {"code", "message", ...}}`."""
    return Answer(status, _ENCODE({"error": {"code": code, "message": message, **where}}), headers)


def refusal(error: TollgateError) -> Answer:
    """Return the answer that a deliberate error stands for."""
    wait_s = error.retry_after_s if isinstance(error, RateError) else RETRY_AFTER_S
    headers = ((b"retry-after", str(wait_s).encode()),) if error.status in (429, 503) else ()
    return refuse(error.status, error.code, error.message, *headers, **error.where)
