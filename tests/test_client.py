"""The client: decisions as structs, errors by their class, and retries that count nothing twice."""

import asyncio
import json
import threading
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.client import (
    FIRST_WAIT_S,
    LONGEST_RETRY_AFTER_S,
    LONGEST_WAIT_S,
    AnswerError,
    AsyncClient,
    Backoff,
    Client,
    UnreachableError,
)
from tollgate.decision import Decision, Mode, Outcome
from tollgate.errors import (
    AuthError,
    CapacityError,
    ConflictError,
    InputError,
    MalformedError,
    NotFoundError,
    RateError,
    ScopeError,
    TollgateError,
    TooLargeError,
)
from tollgate.label import Label, Labelled, LabelResult, LabelSource

PAYMENT = {"transaction_id": "t-1", "amount": 12.34}


def decide(row):
    return Decision(str(row["transaction_id"]), Outcome.APPROVE, 0.1, 0.9, Mode.NORMAL, (), (), "b" * 16)


class Server(ThreadingHTTPServer):
    """A small server that decides each id once, and misbehaves as the next item of `plan` says."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan = []  # "drop", or (status, headers, body)
        self.seen = []  # bodies as they came
        self.headers_seen = []
        self.connections = set()
        self.decided = {}
        self.counted = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in {"x-request-id": "r-1", "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, {}, b'{"status": "ready"}')

    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        server.seen.append(body)
        server.headers_seen.append(dict(self.headers))
        server.connections.add(self.client_address)
        fault = server.plan.pop(0) if server.plan else None
        if fault is not None and fault != "drop":
            self.answer(*fault)
            return
        sent = json.loads(body)
        rows = sent if isinstance(sent, list) else [sent]
        for row in rows:
            if row["transaction_id"] not in server.decided:
                server.decided[row["transaction_id"]] = decide(row)
                server.counted += 1
        if fault == "drop":  # after it is decided and before it is answered
            self.close_connection = True
            return
        decisions = [server.decided[row["transaction_id"]] for row in rows]
        self.answer(200, {}, msgspec.json.encode(decisions if isinstance(sent, list) else decisions[0]))


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture(params=["blocking", "asyncio"])
def call(request, server):
    """Calls a method of a new client of either kind, and notes what it waited."""
    waits = []

    def run(method, *args, url=None, **options):
        options = {"random": lambda: 0.5, "timeout_s": 5.0} | options
        if request.param == "blocking":
            with Client(url or server.url, sleep=waits.append, **options) as client:
                return getattr(client, method)(*args)

        async def sleep(seconds):
            waits.append(seconds)

        async def inside():
            async with AsyncClient(url or server.url, sleep=sleep, **options) as client:
                return await getattr(client, method)(*args)

        return asyncio.run(inside())

    run.waits = waits
    return run


def refusal(status, code="some_code", headers=None, **where):
    return status, headers or {}, json.dumps({"error": {"code": code, "message": "expected more", **where}}).encode()


def test_one_gets_a_decision_and_several_get_a_list(call):
    """The answer has the shape of the question, as structs."""
    assert call("predict", PAYMENT) == decide(PAYMENT)
    many = [PAYMENT, {"transaction_id": "t-2"}]
    assert call("predict", many) == [decide(row) for row in many]
    assert call("health") == {"status": "ready"}


def test_the_key_is_sent_as_a_bearer(call, server):
    """The key is in the header that the server reads, and only there."""
    call("predict", PAYMENT, api_key="tollgate_abc_def")
    (headers,) = server.headers_seen
    assert {name.lower(): value for name, value in headers.items()}["authorization"] == "Bearer tollgate_abc_def"
    assert b"tollgate_abc" not in server.seen[0]


def test_a_connection_that_is_dropped_after_deciding_counts_once(call, server):
    """The same bytes are sent again, and the decision is the one that was made first."""
    server.plan = ["drop", "drop"]
    assert call("predict", PAYMENT) == decide(PAYMENT)
    assert server.counted == 1
    assert len(server.seen) == 3
    assert len(set(server.seen)) == 1
    assert call.waits == [0.5 * FIRST_WAIT_S, 0.5 * 2 * FIRST_WAIT_S]


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_to_wait_is_waited_for(call, server, status):
    """Retry-After is the least that is waited."""
    server.plan = [refusal(status, headers={"retry-after": "3"}), refusal(status)]
    assert call("predict", PAYMENT) == decide(PAYMENT)
    assert call.waits == [3 + 0.5 * FIRST_WAIT_S, 0.5 * 2 * FIRST_WAIT_S]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, MalformedError), (401, AuthError), (403, ScopeError), (409, ConflictError), (413, TooLargeError),
        (422, InputError), (404, AnswerError), (500, AnswerError),
    ],
)  # fmt: skip
def test_a_refusal_is_raised_by_its_class_and_not_tried_again(call, server, status, kind):
    """Code, message, row, column and request id arrive; one attempt is enough."""
    server.plan = [refusal(status, row=3, column="amount")]
    with pytest.raises(TollgateError) as caught:
        call("predict", PAYMENT)
    assert type(caught.value) is kind
    assert caught.value.where["request_id"] == "r-1"
    assert "expected more" in str(caught.value)
    if kind is not AnswerError:
        assert caught.value.code == "some_code"
        assert (caught.value.where["row"], caught.value.where["column"]) == (3, "amount")
    assert len(server.seen) == 1


def test_labels_are_sent_and_their_results_come_back(call, server):
    """One, and several; of one that has no transaction a class of its own is raised."""
    label = Label("t-1", is_fraud=True, source=LabelSource.ANALYST)
    said = b'{"transaction_id":"t-1","result":"known"}'
    server.plan = [(200, {}, said), (200, {}, b"[" + said + b"]"), refusal(404, "unknown_transaction")]
    assert call("label", label) == Labelled("t-1", LabelResult.KNOWN)
    assert call("label", [label]) == [Labelled("t-1", LabelResult.KNOWN)]
    assert json.loads(server.seen[0]) == {
        "transaction_id": "t-1", "is_fraud": True, "source": "analyst", "available_us": None,
    }  # fmt: skip
    with pytest.raises(NotFoundError):
        call("label", label)


def test_after_the_last_attempt_the_refusal_is_raised(call, server):
    """A server that stays overloaded is told as such, and one that stays over the rate says when to come again."""
    server.plan = [refusal(503, "overloaded")] * 3
    with pytest.raises(CapacityError) as caught:
        call("predict", PAYMENT, retries=2)
    assert caught.value.code == "overloaded"
    assert len(server.seen) == 3
    server.plan = [refusal(429, "rate_exceeded", headers={"retry-after": "2"})]
    with pytest.raises(RateError) as caught:
        call("predict", PAYMENT, retries=0)
    assert caught.value.retry_after_s == 2


def test_a_server_that_asks_for_too_long_is_not_waited_for(call, server):
    """A wait beyond the limit is the caller's to decide."""
    server.plan = [refusal(503, headers={"retry-after": str(int(LONGEST_RETRY_AFTER_S) + 1)})]
    with pytest.raises(CapacityError):
        call("predict", PAYMENT)
    assert call.waits == []


def test_nothing_is_sent_without_an_id(call, server):
    """A transaction without its id could be counted twice, so it never leaves."""
    for rows, row in (({"amount": 1}, None), ([PAYMENT, {"transaction_id": ""}], 1), ([{"transaction_id": None}], 0)):
        with pytest.raises(InputError, match="would count twice") as caught:
            call("predict", rows)
        assert caught.value.where.get("row") == row
    with pytest.raises(InputError, match="'ref'"):
        call("predict", PAYMENT, id_field="ref")
    assert server.seen == []


def test_a_server_that_is_not_there_is_unreachable(call):
    """All attempts are made, and the error says so."""
    with pytest.raises(UnreachableError, match="after 3 attempts"):
        call("predict", PAYMENT, url="http://127.0.0.1:9", retries=2)
    assert len(call.waits) == 2


@pytest.mark.parametrize("fault", [(200, {}, b"<html>"), (200, {}, b'{"a": 1}'), (502, {}, b"bad gateway")])
def test_another_server_is_recognised(call, server, fault):
    """What is no answer of Tollgate is told with its status, never taken for a decision."""
    server.plan = [fault]
    with pytest.raises(AnswerError, match="expected an answer of Tollgate") as caught:
        call("predict", PAYMENT)
    assert caught.value.status_code == fault[0]


def test_connections_are_kept(server):
    """Several calls of one client use one connection."""
    with Client(server.url) as client:
        for number in range(5):
            client.predict({"transaction_id": str(number)})
    assert len(server.connections) == 1


def test_an_amount_may_be_a_decimal(call, server):
    """A decimal is sent as the number that it is, digit by digit."""
    call("predict", PAYMENT | {"amount": Decimal("0.10")})
    assert b'"amount":0.10' in server.seen[0]


@given(st.integers(0, 60), st.floats(0, 1, exclude_max=True), st.sampled_from([None, "0", "7", "-1", "soon", "1e9"]))
def test_waits_are_bounded_and_not_below_what_was_asked(attempt, chance, asked):
    """Full jitter between 0 and a doubling limit, on top of Retry-After; a senseless header is none."""
    result = httpx.Response(503, headers={"retry-after": asked} if asked else {})
    least = 7 if asked == "7" else 0
    wait_s = Backoff(100, lambda: chance).wait_s(attempt, result)
    assert wait_s == least + chance * min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt)
    assert Backoff(attempt).wait_s(attempt, result) is None
