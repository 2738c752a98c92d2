"""The head of a request: request line and headers, read strictly (RFC 9110, RFC 9112)."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from tollgate.errors import TollgateError
from tollgate.serve.limits import Limits

CHUNKED = -1  # the length of a body that says with each chunk how much follows

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/(\d)\.(\d)\r\n" % _TOKEN)
_NAME = re.compile(_TOKEN)
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z\-._~!$&'()*+,;=%]*)(?::\d*)?")
_ORIGIN = re.compile(r"https?://[^/?]+", re.IGNORECASE)  # of a target that a proxy was meant to read
_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_TEXT = bytes([9, 10, 13, *range(32, 127), *range(128, 256)])  # no other control characters
_LINE_BYTES = 64  # of a request line, beside its target
_LENGTH_DIGITS = 18
_FRAMING = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"x-request-id"}
_CACHED_HEADS = 1024
_CACHED_HEAD_BYTES = 2048
_CACHED_NAMES = 256
_CACHED_LINES = 256
_CACHED_LINE_BYTES = 256

Fields = tuple[tuple[bytes, bytes], ...]
_Start = tuple[str, str, str, bool]  # method, path, query, whether it is HTTP/1.0


class RefusedError(TollgateError):
    """What came is not a request that this server reads; where the next one would begin is not known."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code, message)
        self.status = status


class Head(NamedTuple):
    """A head that has been read.

    Attributes:
        path: Without the query, its percent-encoding decoded once.
        headers: Names in lower case.
        length: Of the body in bytes, or `CHUNKED`.
        persists: Whether the connection goes on after the answer.
        old: Whether it is HTTP/1.0.
        expects: Whether the client waits for `100 Continue` before it sends the body.
        id: What the client calls the request; None if it does not say.
    """

    method: str
    path: str
    query: str
    headers: Fields
    length: int
    persists: bool
    old: bool
    expects: bool
    id: str | None


class Heads:
    """Reads heads, and knows again those that have come before.

    A client that keeps its connection sends the same head with most of its requests. To look it up costs a tenth of
    reading it. Only what was accepted is kept, in bounded space.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[bytes, Head] = {}
        self._names: dict[bytes, bytes] = {}  # of headers: as they were sent, to lower case
        self._starts: dict[bytes, _Start] = {}

    def read(self, raw: bytes) -> Head:
        """Return what a head says: the bytes from the request line to the end of the last header line.

        Raises:
            RefusedError: It is not HTTP/1.1 or 1.0, it is ambiguous, or a limit is reached.
        """
        head = self._known.get(raw)
        if head is None:
            end = raw.find(b"\n") + 1
            head = _head(self._start(raw[:end]), _fields(raw[end:], self._limits, self._names), self._limits)
            if len(raw) <= _CACHED_HEAD_BYTES:
                if len(self._known) >= _CACHED_HEADS:
                    self._known.clear()
                self._known[raw] = head
        return head

    def _start(self, line: bytes) -> _Start:
        start = self._starts.get(line)
        if start is None:
            start = _start(line, self._limits)
            if len(line) <= _CACHED_LINE_BYTES and len(self._starts) < _CACHED_LINES:
                self._starts[line] = start
        return start


def check_unfinished(raw: bytes, limits: Limits) -> None:
    """Refuse a head that has not come whole as soon as it never can be accepted: the same refusal as if it had.

    Raises:
        RefusedError: The request line is wrong, or a limit is reached.
    """
    end = raw.find(b"\n") + 1
    if not end:
        if len(raw) > limits.max_uri_bytes + _LINE_BYTES:
            raise _long_target(limits)
        return
    _start(raw[:end], limits)
    if len(raw) - end - 1 > limits.max_header_bytes:
        raise _too_large(f"{limits.max_header_bytes} bytes of headers")


def _head(start: _Start, headers: Fields, limits: Limits) -> Head:
    method, path, query, old = start
    framing: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _FRAMING:
            framing.setdefault(name, []).append(value)
    hosts = framing.get(b"host", ())
    if len(hosts) > 1 or not (hosts or old) or (hosts and _HOST.fullmatch(hosts[0]) is None):
        raise _bad(f"expected one Host header with a name and perhaps a port, but got {len(hosts)} or another form")
    length = _length(framing, limits, old=old)
    options: set[bytes] = set()
    for value in framing.get(b"connection", ()):
        options.update(option.strip().lower() for option in value.split(b","))
    expects = b",".join(framing.get(b"expect", ())).lower()
    if expects not in (b"", b"100-continue") and not old:
        raise RefusedError(417, "expectation_failed", "expected no Expect header but 100-continue")
    ids = framing.get(b"x-request-id", ())
    return Head(
        method,
        path,
        query,
        headers,
        length,
        persists=b"close" not in options and (not old or b"keep-alive" in options),
        old=old,
        expects=bool(expects) and not old and length != 0,
        id=ids[0].decode() if ids and _ID.fullmatch(ids[0]) else None,
    )


def _start(line: bytes, limits: Limits) -> _Start:
    if len(line) > limits.max_uri_bytes + _LINE_BYTES:
        raise _long_target(limits)
    match = _LINE.fullmatch(line)
    if match is None:
        raise _bad("expected a request line like `POST /predict HTTP/1.1`, and each line to end with CR LF")
    method, target, major, minor = match.groups()
    if len(target) > limits.max_uri_bytes:
        raise _long_target(limits)
    if (major, minor) not in ((b"1", b"1"), (b"1", b"0")):
        raise RefusedError(505, "unknown_version", "expected HTTP/1.1 or HTTP/1.0")
    path, query = _split(method.decode(), target.decode())
    return method.decode(), path, query, minor == b"0"


def _fields(block: bytes, limits: Limits, names: dict[bytes, bytes]) -> Fields:
    if len(block) > limits.max_header_bytes:
        raise _too_large(f"{limits.max_header_bytes} bytes of headers")
    lines = block.split(b"\r\n")
    del lines[-1]  # nothing: the block ends with CR LF
    if len(lines) > limits.max_headers:
        raise _too_large(f"{limits.max_headers} headers")
    if block.translate(None, _TEXT) or not block.count(b"\r") == block.count(b"\n") == len(lines):
        raise _bad("expected no control characters in headers, and each line to end with CR LF")
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        lower = names.get(name)
        if not colon or (lower is None and _NAME.fullmatch(name) is None):
            raise _bad("expected each header on one line, like `Name: value`, without a space before the colon")
        if lower is None:
            lower = name.lower()
            if len(names) < _CACHED_NAMES:
                names[name] = lower
        fields.append((lower, value.strip(b" \t")))
    return tuple(fields)


def _split(method: str, target: str) -> tuple[str, str]:
    if method == "CONNECT":
        raise RefusedError(501, "not_implemented", "expected a request for this server, which is no proxy")
    if target == "*" and method == "OPTIONS":
        return "*", ""
    origin = _ORIGIN.match(target)
    if origin is not None:
        target = target[origin.end() :]
        target = target if target.startswith("/") else f"/{target}"
    if not target.startswith("/") or "#" in target:
        raise _bad("expected a target like `/path` or `/path?query`")
    path, _, query = target.partition("?")
    return unquote(path) if "%" in path else path, query


def _length(framing: dict[bytes, list[bytes]], limits: Limits, *, old: bool) -> int:
    lengths, encodings = framing.get(b"content-length", ()), framing.get(b"transfer-encoding")
    if encodings is not None:
        codings = [coding.strip().lower() for coding in b",".join(encodings).split(b",")]
        if lengths or old or codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
            raise _bad("expected a body's length once: Content-Length, or in HTTP/1.1 Transfer-Encoding: chunked")
        if len(codings) > 1:
            raise RefusedError(501, "not_implemented", "expected no Transfer-Encoding but chunked")
        return CHUNKED
    if not lengths:
        return 0
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise _bad("expected one Content-Length, a number of bytes")
    if len(lengths[0]) > _LENGTH_DIGITS or int(lengths[0]) > limits.max_body_bytes:
        raise too_long(limits)
    return int(lengths[0])


def too_long(limits: Limits) -> RefusedError:
    """Return the refusal of a body that is over the limit."""
    message = f"expected a body of at most {limits.max_body_bytes} bytes; send fewer transactions at a time"
    return RefusedError(413, "body_too_large", message)


def _long_target(limits: Limits) -> RefusedError:
    return RefusedError(414, "uri_too_long", f"expected a target of at most {limits.max_uri_bytes} bytes")


def _too_large(limit: str) -> RefusedError:
    return RefusedError(431, "headers_too_large", f"expected at most {limit}; send fewer or shorter ones")


def _bad(message: str) -> RefusedError:
    return RefusedError(400, "bad_request", message)
