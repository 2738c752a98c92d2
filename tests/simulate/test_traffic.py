"""Live traffic, against a small server on a real socket."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from tollgate.errors import ConfigError, InputError
from tollgate.simulate.connection import MAX_REPLY_BYTES
from tollgate.simulate.traffic import MAX_RETRIES, Failure, TrafficError, send

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
SHED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
BODIES = [b'{"n": %d}' % n for n in range(20)]
LONG_S = 30.0


class Server:
    """Reads requests and writes what `answer` returns for their body; an empty answer closes the connection."""

    def __init__(self, answer):
        self.answer = answer
        self.bodies = []
        self.heads = []
        self.connections = 0
        self.busy = self.most_busy = 0

    async def handle(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.heads.append(head)
                self.bodies.append(body)
                self.busy += 1
                self.most_busy = max(self.most_busy, self.busy)
                reply = await self.answer(body)
                self.busy -= 1
                if not reply:
                    break
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(answer):
    server = Server(answer)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    async with listener:
        host, port = listener.sockets[0].getsockname()
        yield server, f"http://{host}:{port}/predict", listener


async def always_ok(_body):
    return OK


async def close_after(_body):
    return OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def run(answer, bodies=BODIES, **options):
    """Returns the tally, the answers in the order in which they came, and the server."""
    answers = []

    async def main():
        async with serving(answer) as (server, url, _):
            settings = {"rate": None, "limit_s": LONG_S, "on_answer": answers.append, **options}
            return await send(url, iter(bodies), **settings), server

    tally, server = asyncio.run(main())
    assert tally.sent == sum(tally.statuses.values()) + sum(tally.failures.values()) + tally.unanswered
    return tally, answers, server


def test_every_body_is_sent_once_and_answered_over_kept_connections():
    tally, answers, server = run(always_ok, connections=4)
    assert sorted(server.bodies) == sorted(BODIES)
    assert server.connections <= 1 + 4  # one to see whether anybody is there
    assert tally.statuses == {200: 20}
    assert sorted(answer.index for answer in answers) == list(range(20))
    assert all(answer.body == b"{}" and answer.status == 200 for answer in answers)


def test_one_connection_sends_in_order():
    _, answers, server = run(always_ok, connections=1)
    assert server.bodies == BODIES
    assert [answer.index for answer in answers] == list(range(20))


def test_no_more_requests_are_on_their_way_than_there_are_connections():
    async def slowly(_body):
        await asyncio.sleep(0.01)
        return OK

    _, _, server = run(slowly, connections=3)
    assert server.most_busy == 3


def test_requests_are_http_with_the_headers_asked_for():
    _, _, server = run(always_ok, BODIES[:1], headers=[("X-Api-Key", "k")])
    lines = server.heads[0].split(b"\r\n")
    assert lines[0] == b"POST /predict HTTP/1.1"
    assert {b"Content-Type: application/json", b"X-Api-Key: k"} <= set(lines)
    assert any(line.startswith(b"Host: 127.0.0.1:") for line in lines)


def test_the_rate_is_kept_to():
    tally, _, _ = run(always_ok, rate=100.0)
    assert tally.elapsed_s >= 0.18  # the last of 20 is due after 0.19 s; less a clock's grain


def test_latency_counts_from_when_a_request_was_due_not_from_when_it_could_be_sent():
    async def first_slowly(body):
        if body == BODIES[0]:
            await asyncio.sleep(0.2)
        return OK

    _, answers, _ = run(first_slowly, rate=1000.0, connections=1)
    assert min(answer.latency_s for answer in answers[:5]) > 0.15  # all of these waited behind the first


def test_a_shed_request_is_sent_again_when_the_server_says_so():
    seen = set()

    async def second_time(body):
        if body in seen:
            return OK
        seen.add(body)
        return SHED

    tally, answers, server = run(second_time)
    assert tally.statuses == {200: 20}
    assert tally.retries == 20
    assert len(server.bodies) == 40
    assert len(answers) == 20


def test_a_server_that_sheds_for_ever_is_left_alone_after_some_retries():
    async def never(_body):
        return SHED

    tally, _, server = run(never, BODIES[:2])
    assert tally.statuses == {503: 2}
    assert len(server.bodies) == 2 * (1 + MAX_RETRIES)


def test_other_errors_are_answers_and_not_sent_again():
    async def refuse(_body):
        return b"HTTP/1.1 422 Unprocessable Entity\r\nContent-Length: 3\r\n\r\nbad"

    tally, answers, server = run(refuse, BODIES[:3])
    assert tally.statuses == {422: 3}
    assert len(server.bodies) == 3
    assert answers[0].body == b"bad"


def test_a_request_without_an_answer_in_time_fails_and_the_next_goes_on():
    async def one_never(body):
        if body == BODIES[1]:
            await asyncio.sleep(1)
        return OK

    tally, answers, _ = run(one_never, BODIES[:4], connections=1, timeout_s=0.1)
    assert tally.statuses == {200: 3}
    assert tally.failures == {Failure.TIMEOUT: 1}
    assert [(answer.index, answer.status) for answer in answers] == [(0, 200), (1, 0), (2, 200), (3, 200)]


def test_an_answer_that_is_not_http_is_a_failure():
    async def garbage(_body):
        return b"220 smtp.example ESMTP\r\n"

    tally, _, _ = run(garbage, BODIES[:2], connections=1)
    assert tally.failures == {Failure.BROKEN: 2}


def test_a_connection_that_the_server_closed_is_opened_again_unnoticed():
    closing = {BODIES[1]}

    async def close_once(body):
        if body in closing:
            closing.discard(body)
            return b""
        return OK

    tally, _, server = run(close_once, BODIES[:3], connections=1)
    assert tally.statuses == {200: 3}
    assert server.connections == 1 + 2


def test_a_server_that_says_close_gets_a_new_connection_each_time():
    tally, _, server = run(close_after, BODIES[:3], connections=1)
    assert tally.statuses == {200: 3}
    assert server.connections == 1 + 3


def test_when_the_time_is_up_what_is_on_its_way_is_counted_and_nothing_more_is_sent():
    async def hang(_body):
        await asyncio.sleep(1)
        return OK

    tally, answers, _ = run(hang, connections=2, limit_s=0.2)
    assert (tally.sent, tally.unanswered, answers) == (2, 2, [])


def test_bodies_due_after_the_time_is_up_are_not_sent():
    tally, _, _ = run(always_ok, rate=20.0, limit_s=0.27, connections=1)
    assert tally.statuses == {200: 6}  # due at 0, 0.05 ... 0.25 s


def test_a_server_that_goes_away_is_counted_and_traffic_goes_on():
    async def main():
        async with serving(close_after) as (_, url, listener):

            def leave(_answer):
                listener.close()

            return await send(url, iter(BODIES[:3]), rate=None, limit_s=LONG_S, connections=1, on_answer=leave)

    tally = asyncio.run(main())
    assert tally.statuses == {200: 1}
    assert tally.failures == {Failure.REFUSED: 2}


def test_nobody_there_at_the_start_is_an_error_that_says_what_to_do():
    async def main():
        async with serving(always_ok) as (_, url, _listener):
            pass
        await send(url, iter(BODIES), rate=None, limit_s=LONG_S)

    with pytest.raises(TrafficError, match="tollgate serve"):
        asyncio.run(main())


def test_an_error_of_the_bodies_comes_out_as_it_was_raised():
    def failing():
        yield BODIES[0]
        raise InputError("bad_row", "row 1")

    with pytest.raises(InputError, match="row 1"):
        run(always_ok, failing())


@pytest.mark.parametrize("url", ["https://h/predict", "h:80/predict", "http:///predict", "http://h:port/", ""])
def test_what_is_no_http_url_is_refused(url):
    with pytest.raises(ConfigError, match="expected a URL"):
        asyncio.run(send(url, [], rate=None, limit_s=1.0))


@pytest.mark.parametrize("option", ["rate", "limit_s", "connections", "timeout_s"])
def test_a_number_that_is_not_positive_is_refused_by_name(option):
    with pytest.raises(ConfigError, match=option):
        asyncio.run(send("http://127.0.0.1:1/", [], **{"rate": 1.0, "limit_s": 1.0, option: 0}))


def test_a_header_cannot_smuggle_in_a_second_one():
    with pytest.raises(ConfigError, match="line breaks"):
        asyncio.run(send("http://127.0.0.1:1/", [], rate=None, limit_s=1.0, headers=[("a", "b\r\nc: d")]))


def test_an_answer_in_pieces_is_put_together_and_one_without_end_is_given_up():
    async def in_chunks(_body):
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"

    async def too_large(_body):
        return b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * (MAX_REPLY_BYTES + 1)

    _, answers, _ = run(in_chunks, BODIES[:2], connections=1)
    assert [answer.body for answer in answers] == [b"{}", b"{}"]
    assert run(too_large, BODIES[:1])[0].failures == {Failure.BROKEN: 1}
