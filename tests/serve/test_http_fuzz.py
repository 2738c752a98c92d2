"""The HTTP/1.1 server under any bytes and any cuts, with llhttp as a second opinion."""

import asyncio
import contextlib
import itertools
import json

import httptools
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serve.talking import Echo, answers
from tollgate.serve.connection import Connection
from tollgate.serve.gate import Gate
from tollgate.serve.limits import Limits
from tollgate.serve.wire import Wire

LIMITS = Limits(max_uri_bytes=64, max_header_bytes=256, max_headers=8, max_body_bytes=64, max_pipelined=3)
METHODS = {"GET", "POST", "HEAD", "OPTIONS"}
MAY_BE = {100, 200, 204, 400, 413, 414, 417, 431, 501, 505}


class Memory(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self):
        super().__init__()
        self.written = []
        self.closed = False
        self.reading = True

    def write(self, data):
        self.written.append(data)

    def is_closing(self):
        return self.closed

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.closed = True

    def close(self):
        self.closed = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


class Loop:
    """The two things that a gate wants of a loop, one turn at a time."""

    def __init__(self):
        self.calls = []

    def time(self):
        return 0.0

    def call_soon(self, call):
        self.calls.append(call)

    def turn(self):
        while self.calls:
            calls, self.calls = self.calls, []
            for call in calls:
                call()


def serve(pieces):
    """Return what is answered to these bytes, and the requests that the application got."""
    loop, application, transport = Loop(), Echo(), Memory()
    gate = Gate(application, LIMITS, Wire(lambda: 0, secure=False), lambda _latencies, _statuses: None, "", loop)
    connection = Connection(gate)
    connection.connection_made(transport)
    for piece in pieces:
        connection.data_received(piece)
        loop.turn()
    assert gate.admitted == 0
    return b"".join(transport.written), application.requests


def cut(data, places):
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


FIELDS = st.sampled_from(
    [
        b"Host: a",
        b"Host: b",
        b"X: y",
        b"X:",
        b"X:  y \t",
        b" X: y",
        b"X : y",
        b"X: \xff",
        b"X: " + b"y" * 120,
        b"Content-Length: 3",
        b"Content-Length: 5",
        b"content-length: 0",
        b"Content-Length: 99",
        b"Content-Length: -1",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: Chunked ",
        b"Transfer-Encoding: gzip, chunked",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Expect: 100-continue",
        b"Expect: money",
    ]
)
BODIES = st.sampled_from(
    [
        b"",
        b"abc",
        b"abcde",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3;x=y\r\nabc\r\n2\r\nde\r\n00\r\nX: y\r\n\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"40\r\n" + b"x" * 64 + b"\r\n0\r\n\r\n",
        b"41\r\n",
        b"fffffffff\r\n",
        b"0\r\nContent-Length: 3\r\n\r\n",
        b"\r\n",
    ]
)
LINES = st.sampled_from(
    [
        b"GET /a HTTP/1.1",
        b"POST /p?q=1 HTTP/1.1",
        b"HEAD /a HTTP/1.1",
        b"POST http://b/p HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"POST /p HTTP/1.0",
        b"GET /%41 HTTP/1.1",
        b"GET /" + b"a" * 63 + b" HTTP/1.1",
        b"GET /" + b"a" * 64 + b" HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET /a",
        b"G\xe4T /a HTTP/1.1",
    ]
)


@st.composite
def requests(draw):
    """Requests of which many are good, and bodies that often fit."""
    fields = [b"Host: a", *draw(st.lists(FIELDS, max_size=3))]
    raw = draw(LINES) + b"\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + draw(BODIES)
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=2)) + raw[at + draw(st.integers(0, 2)) :]
    return raw


STREAMS = st.lists(requests(), min_size=1, max_size=6).map(b"".join)
CUTS = st.lists(st.integers(0, 2000), max_size=12)


@given(STREAMS | st.binary(max_size=600), CUTS)
@settings(max_examples=500, deadline=None)
@example(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 10, [1, 2, 27])
@example(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 260, [0])
@example(b"a" * 200, list(range(200)))
def test_the_answers_are_the_same_however_the_bytes_are_cut(data, places):
    """Whole, cut anywhere and byte by byte, a stream gets the same answers, and none of them is a server's failure."""
    whole, asked = serve([data])
    assert serve(cut(data, places)) == (whole, asked)
    assert serve([data[at : at + 1] for at in range(len(data))]) == (whole, asked)
    assert {int(line[9:12]) for line in whole.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")} <= MAY_BE


class Opinion:
    """What llhttp reads."""

    def __init__(self, data):
        self.requests = []
        self.parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(httptools.HttpParserError):
            self.parser.feed_data(data)

    def on_message_begin(self):
        self.url, self.headers, self.body, self.whole = b"", [], b"", False

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        if not self.whole:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self):
        self.whole = True

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        if self.url != b"*":
            self.requests.append((self.parser.get_method().decode(), tuple(self.headers), self.body))


@given(STREAMS)
@settings(max_examples=500, deadline=None)
@example(b"GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n")
def test_llhttp_reads_what_is_read_here(data):
    """No request is seen that another strict parser does not see: the same methods, headers and bodies, in order."""
    _, asked = serve([data])
    known = itertools.takewhile(lambda request: request.method in METHODS, asked)  # llhttp has a list of methods
    read = [(request.method, request.headers, request.body) for request in known]
    assert Opinion(data).requests[: len(read)] == read


@given(st.lists(st.binary(max_size=64), min_size=1, max_size=8), CUTS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_good_requests_are_all_answered(bodies, places, chunked):
    """Pipelined requests with any bodies are answered one for one, whichever way they are framed and cut."""
    raw = b""
    for body in bodies:
        framed = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        if chunked:
            parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]) if part)
            framed = b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"
        raw += b"POST /p HTTP/1.1\r\nHost: a\r\n" + framed
    written, _ = serve(cut(raw, places))
    assert [json.loads(body)[3].encode("latin-1") for _, _, body in answers(written)] == bodies
