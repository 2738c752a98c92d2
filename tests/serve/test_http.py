"""The HTTP/1.1 server over real sockets: conformance, limits, order, endings."""

import asyncio
import json
import logging
import re
import socket
import threading
import time

import httpx
import pytest

from serve.talking import HOST, Echo, answers, codes, read_all, read_until, send_on, serving, statuses
from tollgate.errors import CapacityError
from tollgate.serve.asynchronous import asynchronous
from tollgate.serve.limits import Limits
from tollgate.serve.listening import Port, Server
from tollgate.serve.message import Answer

GET = b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /p HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BAD = (400, "bad_request")
OK = (200, "")


@pytest.fixture(scope="module")
def running():
    with serving() as running:
        yield running


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(GET, [OK], id="get"),
        pytest.param(b"\r\n\r\n" + GET + b"\r\n" + GET, [OK, OK], id="empty lines before a request"),
        pytest.param(b"GET /a HTTP/1.1\r\nhOsT:a:80\r\n\r\n", [OK], id="no space, any case"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: [::1]:80\r\nX:\r\n\r\n", [OK], id="IPv6 host, empty value"),
        pytest.param(b"GET /a HTTP/1.1\r\n\r\n" + GET, [BAD], id="no host"),
        pytest.param(b"GET /a HTTP/1.1\r\n" + HOST + HOST + b"\r\n", [BAD], id="two hosts"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", [BAD], id="host with a space"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: a@b\r\n\r\n", [BAD], id="host with a user"),
        pytest.param(b"GET /a HTTP/1.0\r\n\r\n", [OK], id="1.0 without a host"),
        pytest.param(b"GET /a HTTP/1.0\r\n\r\n" + GET, [OK], id="1.0 closes"),
        pytest.param(b"GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" + GET, [OK, OK], id="1.0 kept"),
        pytest.param(b"GET /a HTTP/1.1\r\nConnection: x, Close\r\n" + HOST + b"\r\n" + GET, [OK], id="close"),
        pytest.param(b"GET /a HTTP/2.0\r\n" + HOST + b"\r\n", [(505, "unknown_version")], id="2.0"),
        pytest.param(b"GET /a HTTP/0.9\r\n\r\n", [(505, "unknown_version")], id="0.9"),
        pytest.param(b"GET /a HTTP/1.2\r\n" + HOST + b"\r\n", [(505, "unknown_version")], id="1.2"),
        pytest.param(b"GET /a\r\n\r\n", [BAD], id="no version"),
        pytest.param(b"GET /a RTSP/1.0\r\n\r\n", [BAD], id="another protocol"),
        pytest.param(b"GET  /a HTTP/1.1\r\n" + HOST + b"\r\n", [BAD], id="two spaces"),
        pytest.param(b"GET /\xc3\xa4 HTTP/1.1\r\n" + HOST + b"\r\n", [BAD], id="a target that is not ASCII"),
        pytest.param(b"GET /a HTTP/1.1\n" + HOST + b"\n\n", [BAD], id="bare LF after the line"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", [BAD], id="bare LF between headers"),
        pytest.param(b"GET /a HTTP/1.1\r\nX: a\rb\r\n" + HOST + b"\r\n", [BAD], id="bare CR"),
        pytest.param(b"GET /a HTTP/1.1\r\nX: a\0b\r\n" + HOST + b"\r\n", [BAD], id="NUL"),
        pytest.param(b"GET /a HTTP/1.1\r\nX: a\r\n b\r\n" + HOST + b"\r\n", [BAD], id="folded"),
        pytest.param(b"GET /a HTTP/1.1\r\n X: a\r\n" + HOST + b"\r\n", [BAD], id="folded first"),
        pytest.param(b"GET /a HTTP/1.1\r\nX : a\r\n" + HOST + b"\r\n", [BAD], id="space before the colon"),
        pytest.param(b"GET /a HTTP/1.1\r\nX\r\n" + HOST + b"\r\n", [BAD], id="no colon"),
        pytest.param(b"GET /a HTTP/1.1\r\n: a\r\n" + HOST + b"\r\n", [BAD], id="no name"),
        pytest.param(b"GET a HTTP/1.1\r\n" + HOST + b"\r\n", [BAD], id="relative target"),
        pytest.param(b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", [BAD], id="fragment"),
        pytest.param(b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", [BAD], id="asterisk with GET"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n" + GET, [(204, ""), OK], id="asterisk"),
        pytest.param(b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n" + GET, [(501, "not_implemented")], id="CONNECT"),
        pytest.param(POST + b"Content-Length: 3\r\n\r\nabc" + GET, [OK, OK], id="body"),
        pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", [BAD], id="length twice"),
        pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", [BAD], id="two lengths"),
        pytest.param(POST + b"Content-Length: 3, 3\r\n\r\nabc", [BAD], id="length as a list"),
        pytest.param(POST + b"Content-Length: +3\r\n\r\nabc", [BAD], id="length with a sign"),
        pytest.param(POST + b"Content-Length: 0x3\r\n\r\nabc", [BAD], id="length in hexadecimal"),
        pytest.param(POST + b"Content-Length:\r\n\r\n", [BAD], id="empty length"),
        pytest.param(POST + b"Content-Length: 4194305\r\n\r\n", [(413, "body_too_large")], id="declared too long"),
        pytest.param(POST + b"Content-Length: " + b"9" * 99 + b"\r\n\r\n", [(413, "body_too_large")], id="huge"),
        pytest.param(CHUNKED + b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n" + GET, [OK, OK], id="chunks"),
        pytest.param(CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", [BAD], id="chunk longer than said"),
        pytest.param(CHUNKED + b"-1\r\nabc\r\n0\r\n\r\n", [BAD], id="chunk of negative size"),
        pytest.param(CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", [BAD], id="space after the size"),
        pytest.param(CHUNKED + b"3\nabc\r\n0\r\n\r\n", [BAD], id="bare LF after the size"),
        pytest.param(CHUNKED + b"400001\r\n", [(413, "body_too_large")], id="chunk too long"),
        pytest.param(CHUNKED + b"1" * 300, [BAD], id="size without end"),
        pytest.param(CHUNKED + b"0\r\nX y\r\n\r\n", [BAD], id="bad trailer"),
        pytest.param(CHUNKED + b"0\r\nContent-Length: 3\r\n\r\n", [BAD], id="length as a trailer"),
        pytest.param(CHUNKED + b"0\r\nX: " + b"y" * 17000, [(431, "headers_too_large")], id="long trailer"),
        pytest.param(
            POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [BAD], id="both"
        ),
        pytest.param(
            POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", [(501, "not_implemented")], id="coded"
        ),
        pytest.param(POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", [BAD], id="chunked not last"),
        pytest.param(POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", [BAD], id="chunked twice"),
        pytest.param(POST + b"Transfer-Encoding: identity\r\n\r\n", [BAD], id="identity"),
        pytest.param(POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", [BAD], id="vertical tab"),
        pytest.param(b"POST /p HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [BAD], id="chunked in 1.0"),
        pytest.param(POST + b"Expect: money\r\nContent-Length: 3\r\n\r\n", [(417, "expectation_failed")], id="expect"),
        pytest.param(
            POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc" + GET, [OK, OK], id="upgrade"
        ),
        pytest.param(b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n" + HOST + b"\r\n", [(414, "uri_too_long")], id="long"),
        pytest.param(b"GET /" + b"a" * 8191 + b" HTTP/1.1\r\n" + HOST + b"\r\n", [OK], id="just not too long"),
        pytest.param(b"a" * 9000, [(414, "uri_too_long")], id="a line without end"),
        pytest.param(
            b"GET /a HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 17000, [(431, "headers_too_large")], id="header without end"
        ),
        pytest.param(
            b"GET /a HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100 + b"\r\n", [(431, "headers_too_large")], id="101 headers"
        ),
        pytest.param(b"GET /a HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 99 + b"\r\n", [OK], id="100 headers"),
        pytest.param(b"GET /a HTTP/1.1\r\nHo", [], id="an end before the request is whole"),
        pytest.param(GET + POST + b"Content-Length: 3\r\n\r\nab", [OK], id="an end within the second request"),
        pytest.param(bytes.fromhex("16030100f5010000f10303") + b"\n", [BAD], id="TLS to a plain port"),
    ],
)
def test_what_comes_is_answered_as_the_standard_says(running, raw, expected):
    """Each stream gets these answers, whole and byte by byte, and after a refusal nothing more is read."""
    assert codes(running.talk(raw)) == expected
    if len(raw) < 300:
        assert codes(running.talk(*(raw[at : at + 1] for at in range(len(raw))))) == expected


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/p?a=1?b%20c", "/p", "a=1?b%20c"),
        ("/a%252Fb%2Fc", "/a%2Fb/c", ""),
        ("http://other/x?y", "/x", "y"),
        ("HTTPS://other:80", "/", ""),
        ("http://other?y", "/", "y"),
        ("//x", "//x", ""),
    ],
)
def test_a_target_is_split_and_decoded_once(running, target, path, query):
    """The path is decoded once, the query is left as it came, and the host of an absolute target is dropped."""
    raw = running.talk(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert json.loads(answers(raw)[0][2]) == ["GET", path, query, ""]


def test_an_answer_carries_what_every_answer_carries(running):
    """Type, length, date, id and security headers are there, and nothing names the server."""
    ((status, headers, body),) = answers(running.talk(GET.replace(b"Host", b"X-Request-Id: r-7\r\nHost")))
    assert (status, headers) == (
        200,
        {
            "date": "Tue, 14 Nov 2023 22:13:20 GMT",
            "content-type": "application/json",
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
            "x-request-id": "r-7",
            "content-length": str(len(body)),
        },
    )
    assert running.application.requests[-1].id == "r-7"


def test_a_request_without_a_usable_id_gets_one(running):
    """Ids are new for each request, and what could break a log's line is not taken over."""
    raw = running.talk(GET + GET.replace(b"Host", b"X-Request-Id: a b\r\nHost"))
    first, second = (headers["x-request-id"] for _, headers, _ in answers(raw))
    assert re.fullmatch(r"t-[0-9a-f]+", first)
    assert re.fullmatch(r"t-[0-9a-f]+", second)
    assert first != second


def test_the_connection_header_says_what_happens_to_it(running):
    """A closing answer says so, and one to a kept HTTP/1.0 client too."""
    kept = answers(running.talk(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET))
    assert [headers.get("connection") for _, headers, _ in kept] == ["keep-alive", None]
    for raw in (b"GET /a HTTP/1.0\r\n\r\n", b"nonsense\r\n", GET.replace(b"Host", b"Connection: close\r\nHost")):
        assert answers(running.talk(raw, end=False))[0][1]["connection"] == "close"


def test_head_is_answered_without_its_body(running):
    """HEAD gets the length that GET would get, no body, and the next answer follows at once."""
    raw = running.talk(GET.replace(b"GET", b"HEAD") + GET)
    (_, head, nothing), (_, get, body) = answers(raw, ("HEAD",))
    assert (nothing, int(head["content-length"])) == (b"", len('["HEAD", "/a", "", ""]'))
    assert int(get["content-length"]) == len(body)


def test_an_answer_without_content_has_no_length(running):
    """204 carries neither length nor type."""
    ((status, headers, _),) = answers(running.talk(GET.replace(b"/a", b"/nothing")))
    assert status == 204
    assert not {"content-length", "content-type"} & headers.keys()


def test_an_application_may_name_its_type(running):
    """An answer's own content type takes the place of JSON, once."""
    ((_, headers, body),) = answers(running.talk(GET.replace(b"/a", b"/large")))
    assert (headers["content-type"], len(body)) == ("text/plain", 1 << 20)


def test_a_client_that_waits_is_told_to_go_on(running):
    """100 comes after the headers and before the body, in the order of the requests, and only for a good request."""
    head = POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    with running.connect() as client:
        client.sendall(GET + head)
        assert statuses(read_until(client, b"100 Continue\r\n\r\n")) == [200, 100]
        client.sendall(b"abc")
        assert json.loads(answers(read_until(client, b"]"))[0][2]) == ["POST", "/p", "", "abc"]
    assert statuses(running.talk(head + b"abc")) == [100, 200]
    too_long = head.replace(b": 3", b": 9999999")
    assert codes(running.talk(too_long, end=False)) == [(413, "body_too_large")]
    assert statuses(running.talk(head.replace(b": 3", b": 0"))) == [200]


def test_answers_come_in_the_order_of_their_requests():
    """Requests of one connection that are answered out of order are written in order."""
    with serving() as running:
        paths = [b"/later?1", b"/later?2", b"/a?3", b"/later?4", b"/release?5"]
        raw = running.talk(b"".join(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in paths))
        assert [json.loads(body)[2] for _, _, body in answers(raw)] == ["1", "2", "3", "4", "5"]
        assert running.statuses == [200] * 5


def test_what_is_ready_in_one_turn_is_written_and_counted_at_once():
    """Answers that one callback gives are accounted in one call: latencies and statuses of equal number."""
    with serving() as running, running.connect() as client:
        client.sendall(GET.replace(b"/a", b"/later") * 20)
        while len(running.application.later) < 20:
            time.sleep(0.001)
        running.call(running.application.release)
        assert client.recv(1 << 20).count(b"HTTP/1.1 200 OK") == 20
        assert (running.flushes, len(running.latencies)) == (1, 20)
        assert all(latency >= 0 for latency in running.latencies)


def test_only_so_many_requests_of_a_connection_wait():
    """No more than `max_pipelined` are handed to the application; the others follow, and all are answered."""
    with serving(limits=Limits(max_pipelined=3)) as running:
        later = running.application.later
        with running.connect() as client:
            client.sendall(GET.replace(b"/a", b"/later") * 10 + GET)
            client.shutdown(socket.SHUT_WR)
            for waiting in (3, 3, 3, 1):
                while len(later) < waiting:
                    time.sleep(0.001)
                time.sleep(0.02)
                assert len(later) == waiting
                running.call(running.application.release)
            assert statuses(read_all(client)) == [200] * 11


def test_a_failed_request_is_answered_without_details(running, caplog):
    """What an application raises is logged, and the client learns nothing of it; the connection goes on."""
    with caplog.at_level(logging.ERROR, "tollgate"):
        raw = running.talk(GET.replace(b"/a", b"/boom") + GET)
    assert codes(raw) == [(500, "internal_error"), OK]
    assert b"secret" not in raw
    assert "a secret" in caplog.text


def test_an_answer_that_cannot_be_written_is_a_failed_request(running, caplog):
    """A status that HTTP does not know reaches no client: it is logged, and 500 is answered once."""
    with caplog.at_level(logging.ERROR, "tollgate"):
        raw = running.talk(GET.replace(b"/a", b"/impossible") + GET)
    assert codes(raw) == [(500, "internal_error"), OK]
    assert "599" in caplog.text


def test_coroutines_can_answer(caplog):
    """An async handler answers, and what it raises is 500 without details."""

    async def handler(request):
        await asyncio.sleep(0)
        if request.path == "/boom":
            raise ValueError("a secret")
        return Answer(200, request.path.encode())

    with caplog.at_level(logging.ERROR, "tollgate"), serving(asynchronous(handler)) as running:
        raw = running.talk(GET + GET.replace(b"/a", b"/boom") + GET)
    assert statuses(raw) == [200, 500, 200]
    assert b"secret" not in raw
    assert "a secret" in caplog.text


def test_a_client_that_goes_is_forgotten():
    """Replies to a client that has gone do nothing, and the next client is served."""
    with serving() as running:
        with running.connect() as client:
            client.sendall(GET.replace(b"/a", b"/later"))
            assert running.application.arrived.wait(5)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closes with a reset
        time.sleep(0.05)
        running.call(running.application.release)
        assert statuses(running.talk(GET)) == [200]
        assert running.statuses == [200]


def test_a_body_that_is_too_long_is_drained_so_that_the_answer_is_read():
    """A client that sends all of a body over the limit before it reads still reads 413."""
    with serving(limits=Limits(max_body_bytes=1000)) as running:
        declared = POST + b"Content-Length: 4000000\r\n\r\n" + b"x" * 4_000_000
        chunked = CHUNKED + (b"100\r\n" + b"x" * 256 + b"\r\n") * 10_000
        for raw in (declared, chunked):
            assert codes(running.talk(raw)) == [(413, "body_too_large")]


def test_unfinished_bodies_are_bounded_together_and_give_back_what_they_held():
    """Many slow clients do not fill the memory; once one is done another may send."""
    head = POST + b"Content-Length: 600\r\n\r\n"
    with serving(limits=Limits(max_held_bytes=1000)) as running:
        with running.connect() as slow:
            slow.sendall(head + b"x" * 500)
            while running.server._gates[0].held_bytes != 500:
                time.sleep(0.01)
            with running.connect() as other:
                other.sendall(head)
                time.sleep(0.05)
                other.sendall(b"x" * 550)
                assert codes(read_all(other)) == [(503, "overloaded")]
            slow.sendall(b"x" * 100)
            slow.shutdown(socket.SHUT_WR)
            assert codes(read_all(slow)) == [OK]
        assert running.server._gates[0].held_bytes == 0
        assert codes(running.talk(head + b"x" * 600)) == [OK]


def test_what_is_drained_is_bounded():
    """A client that goes on sending after the last answer is dropped."""
    with (
        serving(limits=Limits(max_body_bytes=10, max_drained_bytes=1000, linger_timeout_s=0.1)) as running,
        running.connect() as client,
    ):
        client.sendall(POST + b"Content-Length: 11\r\n\r\n")
        with pytest.raises(ConnectionError):
            send_on(client, b"x" * 100_000)


@pytest.mark.parametrize(
    ("raw", "limits", "expected"),
    [
        (b"GET /a HTTP/1.1\r\nHo", Limits(header_timeout_s=0.1), [(408, "request_timeout")]),
        (GET + b"GET", Limits(header_timeout_s=0.1), [OK, (408, "request_timeout")]),
        (POST + b"Content-Length: 3\r\n\r\nab", Limits(body_timeout_s=0.1), [(408, "request_timeout")]),
        (CHUNKED + b"3\r\nab", Limits(body_timeout_s=0.1), [(408, "request_timeout")]),
        (GET, Limits(idle_timeout_s=0.1), [OK]),
        (b"", Limits(idle_timeout_s=0.1), []),
    ],
)
def test_a_client_that_is_too_slow_is_refused(raw, limits, expected):
    """Headers, bodies and silence each have their time; a request that has begun is told so."""
    with serving(limits=limits) as running:
        assert codes(running.talk(raw, end=False)) == expected


def test_a_trickle_does_not_move_the_deadline():
    """A byte now and then does not keep a request alive that never ends."""
    with serving(limits=Limits(header_timeout_s=0.3)) as running, running.connect() as client:
        client.settimeout(0.05)
        client.sendall(b"GET /a HTTP/1.1\r\n")
        for _ in range(200):
            client.sendall(b"a")
            try:
                raw = client.recv(1 << 16)
                break
            except TimeoutError:
                continue
        assert statuses(raw) == [408]


def test_a_client_that_does_not_read_is_dropped():
    """With its buffer full of unread answers, a connection is read no more, and dropped after `write_timeout_s`."""
    with serving(limits=Limits(write_timeout_s=0.1)) as running, running.connect() as client:
        with pytest.raises(ConnectionError):
            send_on(client, GET.replace(b"/a", b"/large") * 10)
        assert len(running.application.requests) < 1000


def test_a_client_that_reads_late_gets_everything(running):
    """Answers larger than all buffers come whole and in order once they are read."""
    with running.connect() as client:
        client.sendall(GET.replace(b"/a", b"/large") * 40 + GET)
        client.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        assert [len(body) for _, _, body in answers(read_all(client))] == [1 << 20] * 40 + [
            len('["GET", "/a", "", ""]')
        ]


def test_one_connection_too_many_is_told_so():
    """Over `max_connections` the answer is 503 with Retry-After, and a place that gets free is used."""
    with serving(limits=Limits(max_connections=1)) as running:
        with running.connect() as first:
            first.sendall(GET)
            read_until(first, b"]")
            raw = running.talk(b"", end=False)
            assert codes(raw) == [(503, "too_many_connections")]
            assert answers(raw)[0][1]["retry-after"] == "1"
        time.sleep(0.05)
        assert statuses(running.talk(GET)) == [200]


def test_a_port_that_is_taken_says_so(running):
    """Binding a port twice raises CapacityError with what to do."""
    with pytest.raises(CapacityError, match="name another --port"):
        Server([Port(Echo(), *running.address)], id_prefix="")


def test_httpx_keeps_its_connections():
    """Three hundred requests at a time over twenty kept connections are each answered with their own body."""

    async def ask(url):
        limits = httpx.Limits(max_connections=20, max_keepalive_connections=20)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            bodies = [f"body {number}" for number in range(300)]
            got = await asyncio.gather(*(client.post(f"{url}/x?n={body[5:]}", content=body) for body in bodies))
            assert [response.json()[3] for response in got] == bodies

            async def parts():
                yield b"one, "
                yield b"two"

            chunked = await client.post(url, content=parts())
            assert chunked.json()[3] == "one, two"

    with serving() as running:
        asyncio.run(ask(running.url))
        assert running.statuses == [200] * 301


def test_stopping_finishes_what_was_begun():
    """A stopping server answers what it admitted, refuses what comes on kept connections, and accepts no more."""
    with serving() as running, running.connect() as busy, running.connect() as idle:
        idle.sendall(GET)
        read_until(idle, b"]")
        busy.sendall(GET.replace(b"/a", b"/later"))
        assert running.application.arrived.wait(5)
        running.begin_to_stop()
        while True:
            try:
                running.connect().close()
            except ConnectionError:
                break
        idle.sendall(GET)
        raw = read_all(idle)
        assert codes(raw) == [(503, "stopping")]
        assert answers(raw)[0][1]["connection"] == "close"
        running.call(running.application.release)
        ((status, headers, _),) = answers(read_all(busy))
        assert (status, headers["connection"]) == (200, "close")


def test_threads_of_clients_are_served_together(running):
    """Connections do not mix: each of ten clients gets its own answers."""
    failed = []

    def client(number):
        raw = running.talk(b"".join(b"GET /%d/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (number, each) for each in range(50)))
        if [json.loads(body)[1] for _, _, body in answers(raw)] != [f"/{number}/{each}" for each in range(50)]:
            failed.append(number)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
