"""One HTTP/1.1 connection that is kept alive from request to request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools

from tollgate.errors import ConfigError

MAX_REPLY_BYTES = 16 * 2**20
_READ_BYTES = 65_536
_DEFAULT_PATH = "/predict"


class Target(NamedTuple):
    """Where requests go, and the head that each of them begins with."""

    host: str
    port: int
    head: bytes


def parse_target(url: str, headers: Sequence[tuple[str, str]] = ()) -> Target:
    """Return the target that `url` names; its path is `/predict` if it has none.

    Raises:
        ConfigError: It is not an `http://` URL with a host, or a header has a line break in it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise ConfigError("bad_url", f"expected a URL such as http://127.0.0.1:8080/predict: {error}") from error
    if parts.scheme != "http" or not host:
        raise ConfigError("bad_url", f"expected a URL such as http://127.0.0.1:8080/predict, but got {url!r}")
    path = (parts.path or _DEFAULT_PATH) + (f"?{parts.query}" if parts.query else "")
    name = f"[{host}]" if ":" in host else host
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {name}:{port}",
        "Content-Type: application/json",
        *(f"{key}: {value}" for key, value in headers),
    ]
    if any(character in line for line in lines for character in "\r\n"):
        raise ConfigError("bad_header", "expected headers without line breaks")
    return Target(host, port, "\r\n".join(lines).encode())


class Reply:
    """A response, filled in as its bytes come."""

    def __init__(self) -> None:
        self.status = 0
        self.retry_after_s: int | None = None
        self.complete = False
        self.keep_alive = False
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def body(self) -> bytes:
        """All of the body."""
        return b"".join(self._parts)

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            httptools.HttpParserError: They are not HTTP, or too many.
        """
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header from the parser."""
        if name.lower() == b"retry-after" and value.isdigit():  # a date in it is left alone
            self.retry_after_s = int(value)

    def on_body(self, part: bytes) -> None:
        """Take a part of the body from the parser."""
        self._size += len(part)
        if self._size > MAX_REPLY_BYTES:
            raise ValueError(f"the answer is over {MAX_REPLY_BYTES} bytes")
        self._parts.append(part)

    def on_message_complete(self) -> None:
        """Learn from the parser that the response has ended."""
        self.complete = True
        self.status = self._parser.get_status_code()
        self.keep_alive = self._parser.should_keep_alive()  # the parser forgets it after this call


class Connection:
    """A connection to `target`, opened when it is first used and again whenever it was closed."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            ConnectionRefusedError: No connection could be made.
        """
        try:
            self._streams = await asyncio.open_connection(self._target.host, self._target.port)
        except OSError as error:  # of several addresses, each may fail in its own way
            raise ConnectionRefusedError(error.strerror or str(error)) from error

    def close(self) -> None:
        """Drop the connection, with whatever was on its way."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def post(self, body: bytes) -> Reply:
        """Send `body` and return the reply. A kept connection that the server has closed meanwhile is reopened.

        Raises:
            ConnectionRefusedError: No connection could be made.
            OSError: The connection broke.
            httptools.HttpParserError: What came is not HTTP.
        """
        if self._streams is not None:
            try:
                return await self._exchange(body)
            except ConnectionError:  # it idled too long; sent again, a payment is not counted twice
                self.close()
        await self.open()
        return await self._exchange(body)

    async def _exchange(self, body: bytes) -> Reply:
        assert self._streams is not None
        reader, writer = self._streams
        reply = Reply()
        try:
            writer.write(b"%b\r\nContent-Length: %d\r\n\r\n%b" % (self._target.head, len(body), body))
            await writer.drain()
            while not reply.complete:
                reply.feed(await _read(reader))
        except BaseException:  # the rest of a half-read answer must not be taken for the next one
            self.close()
            raise
        if not reply.keep_alive:
            self.close()
        return reply


async def _read(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(_READ_BYTES)
    if not data:
        raise ConnectionResetError("the server closed the connection before it answered")
    return data
