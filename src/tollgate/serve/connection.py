"""One connection: bytes in, requests to the application, answers out in the order of their requests."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import cast

from tollgate.serve.chunks import Chunks
from tollgate.serve.gate import Gate
from tollgate.serve.head import CHUNKED, Head, RefusedError, check_unfinished
from tollgate.serve.message import RETRY_AFTER_S, Answer, Request, refusal, refuse
from tollgate.serve.wire import CLOSE, CONTINUE, KEEP_ALIVE

LOG = logging.getLogger(__name__)

_SPARE_CONNECTIONS = 100  # over the limit, which still are told so
_RETRY = (b"retry-after", str(RETRY_AFTER_S).encode())
_STOPPING = refuse(503, "stopping", "the server is finishing what it has; send it again, to another one", _RETRY)
_FULL = refuse(503, "too_many_connections", "expected fewer open connections; close some, or come back later", _RETRY)
_FAILED = refuse(500, "internal_error", "the request failed; the log says why")
_PONG = Answer(204, b"")  # to OPTIONS *
_HEAD_END = b"\r\n\r\n"


class Exchange:
    """One request and its answer; it is the `reply` that the application is given."""

    __slots__ = ("_bodiless", "_connection", "_id", "_keep", "last", "started_s", "status", "wire")

    def __init__(self, connection: Connection, started_s: float, request_id: str, head: Head | None) -> None:
        self.wire: bytes | None = None
        self.status = 0
        self.started_s = started_s
        self.last = head is None or not head.persists
        self._connection = connection
        self._id = request_id
        self._bodiless = head is not None and head.method == "HEAD"
        self._keep = KEEP_ALIVE if head is not None and head.old else b""

    def __call__(self, answer: Answer) -> None:
        """Answer a request that the application was given."""
        self.settle(answer)
        self._connection.gate.admitted -= 1

    def settle(self, answer: Answer) -> None:
        """Have the answer written when its turn comes; if the client has gone, do nothing."""
        assert self.wire is None, "a request is answered once"
        connection = self._connection
        gate, waiting = connection.gate, connection.waiting
        if not waiting:
            self.wire = b""
            return
        if gate.stopping and waiting[-1] is self:
            self.last = True
            connection.end()
        self.status = answer.status
        self.wire = gate.wire.write(answer, self._id, CLOSE if self.last else self._keep, bodiless=self._bodiless)
        if waiting[0] is self:  # else it is written with those before it
            gate.ready(connection)


class Connection(asyncio.Protocol):
    """The server's end of a connection.

    Its states: reading a head, reading a body, held back (enough requests wait, or the client does not read its
    answers), ended (the last request was read; what still comes is thrown away), closing (the last answer is written).

    Attributes:
        waiting: Exchanges in the order of their requests, those that are answered and not yet written among them.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.waiting: deque[Exchange] = deque()
        self._limits = gate.limits
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._buffer = b""  # an unfinished head, or what came while held back
        self._head: Head | None = None  # of the body that is being read
        self._body = bytearray()
        self._chunks: Chunks | None = None
        self._in_head = False
        self._ended = False
        self._refused = False
        self._secure = False
        self._closing = False
        self._client_ended = False
        self._reading = True
        self._unread = False  # the client leaves its answers unread
        self._since_s = 0.0  # of the present state
        self._unread_since_s = 0.0
        self._drained_bytes = 0
        self._held_bytes = 0  # of the unfinished body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._secure = transport.get_extra_info("sslcontext") is not None
        self._since_s = self.gate.time_s()
        connections = self.gate.connections
        connections.add(self)
        excess = len(connections) - self._limits.max_connections
        if excess > _SPARE_CONNECTIONS:
            self._transport.abort()
        elif excess > 0:
            self._refuse(_FULL)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget the client; what the application still answers goes nowhere."""
        self.gate.connections.discard(self)
        self._ended = self._closing = True
        self.waiting.clear()
        self._buffer = b""
        self._release()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._ended:
            self._drained_bytes += len(data)
            if self._drained_bytes > self._limits.max_drained_bytes:
                self._read_on(reading=False)
        else:
            self._take(self._buffer + data if self._buffer else data)

    def eof_received(self) -> bool:
        """Answer what was asked before the client ended its side."""
        self._client_ended = True
        if self._closing or self._secure:  # TLS has no half-closed connections
            return False
        if self._held_back():
            return True
        self._ended = True  # a request that is not whole by now never will be
        return bool(self.waiting)

    def pause_writing(self) -> None:
        """Read no more requests from a client that does not read its answers."""
        self._unread = True
        self._unread_since_s = self.gate.time_s()
        self._steer()

    def resume_writing(self) -> None:
        """Go on."""
        self._unread = False
        self._go_on()

    def flush(self, now_s: float, latencies_s: list[float], statuses: list[int]) -> None:
        """Write the answers that are ready and next, and add what they were."""
        waiting = self.waiting
        ready: list[bytes] = []
        last = False
        while waiting and (wire := waiting[0].wire) is not None:
            exchange = waiting.popleft()
            ready.append(wire)
            last = exchange.last
            if exchange.status:
                latencies_s.append(now_s - exchange.started_s)
                statuses.append(exchange.status)
        if not ready:  # the client has gone
            return
        if self._head is None and not self._in_head:
            self._since_s = now_s
        self._transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if last or (self._ended and not waiting):
            self._close()
        elif self._buffer or self._client_ended or not self._reading:
            self._go_on()

    def sweep(self, now_s: float) -> None:
        """Refuse or close what has taken too long."""
        limits = self._limits
        if self._closing or self._unread:
            since_s = self._since_s if self._closing else self._unread_since_s
            if now_s - since_s > (limits.linger_timeout_s if self._closing else limits.write_timeout_s):
                self._transport.abort()
            return
        if self._ended or not self._reading:
            return  # the application is to answer
        age_s = now_s - self._since_s
        if self._head is not None or self._in_head:
            what, limit_s = ("headers", limits.header_timeout_s) if self._in_head else ("body", limits.body_timeout_s)
            if age_s > limit_s:
                message = f"expected the whole {what} within {limit_s} s, but they came more slowly"
                self._refuse(refuse(408, "request_timeout", message))
        elif not self.waiting and age_s > limits.idle_timeout_s:
            self.finish()

    def finish(self) -> None:
        """Read nothing more, and close once all is written that was asked."""
        self._ended = True
        if not self.waiting and not self._closing:
            self._closing = True
            self._since_s = self.gate.time_s()
            self._transport.close()

    def drop(self) -> None:
        """Close at once."""
        self._transport.abort()

    def end(self) -> None:
        """Read no more requests."""
        self._ended = True
        self._buffer = b""

    def _take(self, data: bytes) -> None:
        now_s = self.gate.time_s()
        at, size = 0, len(data)
        try:
            while at < size and not self._ended:
                if self._head is not None:
                    at = self._take_body(self._head, data, at, now_s)
                elif self._held_back():
                    break
                else:
                    before, at = at, self._take_head(data, at, now_s)
                    if at == before:
                        break
        except RefusedError as error:
            self._refuse(refusal(error))
        if self._ended:
            return
        self._buffer = data[at:]
        if self._buffer and not self._in_head and not self._held_back():
            self._in_head = True
            self._since_s = now_s
        self._steer()

    def _take_head(self, data: bytes, at: int, now_s: float) -> int:
        """Take a head, and its body where it is there; return where they end, or `at` if the head is not whole."""
        if data.startswith(b"\r\n", at):
            return at + 2  # an empty line before a request is let pass (RFC 9112, section 2.2)
        end = data.find(_HEAD_END, at)
        if end < 0:
            check_unfinished(data[at:], self._limits)
            return at
        head = self.gate.heads.read(data[at : end + 2])
        begin = end + 4
        if not head.length:
            self._dispatch(head, b"", now_s)
            return begin
        if not head.expects and 0 < head.length <= len(data) - begin:
            self._dispatch(head, data[begin : begin + head.length], now_s)
            return begin + head.length
        self._head = head
        self._chunks = Chunks(self._limits) if head.length == CHUNKED else None
        self._in_head = False
        self._since_s = now_s
        if head.expects:
            go_ahead = Exchange(self, now_s, "", head)
            go_ahead.last = False
            go_ahead.wire = CONTINUE
            self.waiting.append(go_ahead)
            if self.waiting[0] is go_ahead:
                self.gate.ready(self)
        return begin

    def _take_body(self, head: Head, data: bytes, at: int, now_s: float) -> int:
        """Take what there is of a body; return where that ends."""
        if self._chunks is not None:
            self._hold(len(data) - at)
            rest = self._chunks.feed(data[at:] if at else data)
            if rest is None:
                return len(data)
            body, at = bytes(self._chunks.body), len(data) - len(rest)
            self._chunks = None
        else:
            end = min(at + head.length - len(self._body), len(data))
            self._hold(end - at)
            self._body += data[at:end]
            if len(self._body) < head.length:
                return end
            body, at = bytes(self._body), end
            self._body = bytearray()
        self._head = None
        self._release()
        self._dispatch(head, body, now_s)
        return at

    def _hold(self, more_bytes: int) -> None:
        """Note that an unfinished body grows, if all of them together may."""
        gate, most = self.gate, self._limits.max_held_bytes
        if gate.held_bytes + more_bytes > most:
            raise RefusedError(503, "overloaded", f"unfinished bodies fill {most} bytes already; try again shortly")
        self._held_bytes += more_bytes
        gate.held_bytes += more_bytes

    def _release(self) -> None:
        self.gate.held_bytes -= self._held_bytes
        self._held_bytes = 0

    def _dispatch(self, head: Head, body: bytes, now_s: float) -> None:
        gate = self.gate
        request_id = head.id or gate.new_id()
        exchange = Exchange(self, now_s, request_id, head)
        self.waiting.append(exchange)
        self._in_head = False
        self._ended = exchange.last
        if gate.stopping:
            exchange.settle(_STOPPING)
            return
        if head.path == "*":
            exchange.settle(_PONG)
            return
        gate.admitted += 1
        try:
            gate.handle(Request(head.method, head.path, head.query, head.headers, body, request_id), exchange)
        except Exception:
            LOG.exception("a request failed", extra={"request_id": request_id, "path": head.path})
            if exchange.wire is None:
                exchange(_FAILED)

    def _refuse(self, answer: Answer) -> None:
        """Answer what is no request, after those that were; no more can be read."""
        self.end()
        self._refused = True
        self._head = self._chunks = None
        self._body = bytearray()
        self._release()
        exchange = Exchange(self, self.gate.time_s(), self.gate.new_id(), None)
        self.waiting.append(exchange)
        exchange.settle(answer)

    def _held_back(self) -> bool:
        return self._unread or len(self.waiting) >= self._limits.max_pipelined

    def _go_on(self) -> None:
        """Read again, from what is kept first, if nothing holds this back any more."""
        if self._ended or self._held_back():
            return
        if not self._reading:
            self._since_s = self.gate.time_s()  # what the client was kept from sending is not its delay
        if self._buffer and not self._in_head:
            self._take(self._buffer)
        if self._client_ended and not self._held_back():
            self.end()
            if not self.waiting:
                self._close()
        self._steer()

    def _steer(self) -> None:
        if not self._ended:
            self._read_on(reading=not self._held_back())

    def _read_on(self, *, reading: bool) -> None:
        if reading is self._reading or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _close(self) -> None:
        """Close after the last answer: while the client may still send, or the answer could be lost to a reset."""
        self._closing = True
        self._since_s = self.gate.time_s()
        if self._client_ended or (self._secure and not self._refused):
            self._transport.close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if self._drained_bytes <= self._limits.max_drained_bytes:
            self._read_on(reading=True)
