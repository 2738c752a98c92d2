"""A chunked body (RFC 9112, section 7.1), taken apart as it comes."""

from __future__ import annotations

import re
from enum import Enum, auto

from tollgate.serve.head import RefusedError, too_long
from tollgate.serve.limits import Limits

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t\x20-\x7e\x80-\xff]*")
_NO_TRAILERS = {b"content-length", b"transfer-encoding", b"host"}  # they came too late to mean anything good
_MAX_SIZE_LINE_BYTES = 256  # of a chunk's size with its extensions, which nobody uses
_END = b"\r\n"


class _Next(Enum):
    """What follows when no data of a chunk is left to come."""

    SIZE = auto()
    END_OF_DATA = auto()
    TRAILER = auto()


class Chunks:
    """Collects one body; the same whichever way its bytes are cut.

    Attributes:
        body: What has come so far.
    """

    __slots__ = ("_count", "_kept", "_left", "_limits", "_next", "_trailer_bytes", "body")

    def __init__(self, limits: Limits) -> None:
        self.body = bytearray()
        self._limits = limits
        self._kept = b""  # the beginning of a line
        self._left = 0  # bytes of this chunk that are still to come
        self._next = _Next.SIZE
        self._count = 0
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; return those behind the end of the body, or None while it goes on.

        Raises:
            RefusedError: They are no chunks, or a limit is reached.
        """
        if self._kept:
            data, self._kept = self._kept + data, b""
        at = 0
        while at < len(data):
            if self._left:
                part = data[at : at + self._left]
                self.body += part
                self._left -= len(part)
                at += len(part)
            elif self._next is _Next.END_OF_DATA:
                end = data[at : at + 2]
                if end != _END:
                    if end == b"\r":
                        break
                    raise _bad()
                self._next = _Next.SIZE
                at += 2
            else:
                end_at = data.find(_END, at)
                self._check_line((end_at if end_at >= 0 else len(data) - 1) - at)
                if end_at < 0:
                    break
                if end_at == at and self._next is _Next.TRAILER:
                    return data[at + 2 :]
                self._take_line(data[at:end_at])
                at = end_at + 2
        self._kept = data[at:]
        return None

    def _check_line(self, size: int) -> None:
        if self._next is _Next.SIZE:
            if size > _MAX_SIZE_LINE_BYTES:
                raise _bad()
        elif self._trailer_bytes + size > self._limits.max_header_bytes:
            message = f"expected at most {self._limits.max_header_bytes} bytes of trailers"
            raise RefusedError(431, "headers_too_large", message)

    def _take_line(self, line: bytes) -> None:
        if self._next is _Next.TRAILER:  # nobody reads them: whatever they say must not change the request
            trailer = _TRAILER.fullmatch(line)
            if trailer is None or trailer[1].lower() in _NO_TRAILERS:
                raise _bad()
            self._trailer_bytes += len(line) + len(_END)
            return
        match = _SIZE.fullmatch(line)
        if match is None:
            raise _bad()
        self._left = int(match[1], 16)
        self._count += 1
        if len(self.body) + self._left > self._limits.max_body_bytes or self._count > self._limits.max_chunks:
            raise too_long(self._limits)
        self._next = _Next.END_OF_DATA if self._left else _Next.TRAILER


def _bad() -> RefusedError:
    return RefusedError(400, "bad_request", "expected a chunked body: a size in hexadecimal, the data, and so on to 0")
