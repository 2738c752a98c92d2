"""What one port accepts: each limit has a name, a default and a refusal that says which one was reached."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one port.

    Attributes:
        max_body_bytes: Of a body, declared or in chunks; 413 `body_too_large`.
        max_held_bytes: Of all bodies together that have not come whole; 503 `overloaded`.
        max_drained_bytes: Read and thrown away after the last request of a connection, so that a client that is still
            sending gets to read why; then it is no longer listened to.
        max_uri_bytes: Of the target in the request line; 414 `uri_too_long`.
        max_header_bytes: Of all header lines, and of the trailers of a chunked body; 431 `headers_too_large`.
        max_headers: Header lines; 431 `headers_too_large`.
        max_chunks: Of one chunked body, for a chunk costs as much as a request; 413 `body_too_large`.
        header_timeout_s: From the first byte of a request to the end of its headers; 408 `request_timeout`.
        body_timeout_s: From the end of the headers to the end of the body; 408 `request_timeout`.
        idle_timeout_s: Between requests; then the connection is closed.
        write_timeout_s: That a client may leave a full buffer of answers unread; then the connection is dropped.
        linger_timeout_s: That a client has to close its side after the last answer; then the connection is dropped.
        max_connections: Open at once; 503 `too_many_connections`.
        max_pipelined: Requests of one connection that wait for an answer; no more are read until one is answered.
    """

    max_body_bytes: int = 4 << 20
    max_held_bytes: int = 512 << 20
    max_drained_bytes: int = 16 << 20
    max_uri_bytes: int = 8 << 10
    max_header_bytes: int = 16 << 10
    max_headers: int = 100
    max_chunks: int = 1 << 16
    header_timeout_s: float = 10
    body_timeout_s: float = 30
    idle_timeout_s: float = 75
    write_timeout_s: float = 30
    linger_timeout_s: float = 2
    max_connections: int = 10_000
    max_pipelined: int = 64
