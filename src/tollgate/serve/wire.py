"""Answers as the bytes of HTTP/1.1."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from tollgate.serve.message import Answer

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"connection: close\r\n"
KEEP_ALIVE = b"connection: keep-alive\r\n"  # to a client of HTTP/1.0, which asked for it

_JSON = b"content-type: application/json\r\n"
_SECURITY = b"x-content-type-options: nosniff\r\ncache-control: no-store\r\n"
_HSTS = b"strict-transport-security: max-age=31536000\r\n"  # a year
_WITHOUT_BODY = (204, 304)


class Wire:
    """Writes the answers of one port. All that is the same for a second is put together once."""

    def __init__(self, clock: Callable[[], float], *, secure: bool) -> None:
        """Begin.

        Args:
            clock: Seconds since 1970-01-01 UTC.
            secure: Whether the port speaks TLS.
        """
        self._clock = clock
        self._secure = secure
        self._second = 0
        self._json: dict[int, bytes] = {}
        self._other: dict[int, bytes] = {}
        self.tick()

    def tick(self) -> None:
        """Look at the clock: called at least once a second."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._json.clear()
            self._other.clear()

    def write(self, answer: Answer, request_id: str, connection: bytes, *, bodiless: bool) -> bytes:
        """Return an answer as bytes.

        Args:
            answer: What to say.
            request_id: Of the request.
            connection: `CLOSE`, `KEEP_ALIVE` or nothing.
            bodiless: Whether the request was HEAD: the length of the body is told, and the body is not sent.
        """
        status, body, headers = answer
        if headers:
            connection += b"".join([b"%b: %b\r\n" % header for header in headers])
            typed = any(name.lower() == b"content-type" for name, _ in headers)
        else:
            typed = False
        if status in _WITHOUT_BODY:
            return b"%b%bx-request-id: %b\r\n\r\n" % (self._start(status, b""), connection, request_id.encode())
        start = self._start(status, b"") if typed else self._json.get(status) or self._start(status, _JSON)
        return b"%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
            start,
            connection,
            request_id.encode(),
            len(body),
            b"" if bodiless else body,
        )

    def _start(self, status: int, content_type: bytes) -> bytes:
        known = self._json if content_type else self._other
        start = known.get(status)
        if start is None:
            reason = HTTPStatus(status).phrase
            date = formatdate(self._second, usegmt=True)
            first = f"HTTP/1.1 {status} {reason}\r\ndate: {date}\r\n".encode()
            start = known[status] = first + content_type + _SECURITY + (_HSTS if self._secure else b"")
        return start
