"""The HTTP interface: answers, refusals with stable codes, limits, health."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest

from deciding import NOW_US, READER, judge, make_scorer, payment, recovery, scores
from tollgate.config import ServeConfig
from tollgate.scorer import Scorer
from tollgate.serve import PredictApp


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


@asynccontextmanager
async def client(ledger, score=scores, **limits):
    scorer = Scorer(recovery(ledger), judge(score), ledger, lambda: NOW_US)
    app = PredictApp(READER, scorer, ledger, ServeConfig(**limits), lambda: NOW_US)
    inbox, outbox = asyncio.Queue(), asyncio.Queue()
    lifespan = asyncio.create_task(app({"type": "lifespan"}, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    await outbox.get()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tollgate") as http:
        while (await http.get("/health/ready")).status_code != 200:
            await asyncio.sleep(0.01)
        yield http
    await inbox.put({"type": "lifespan.shutdown"})
    await lifespan


def run(ledger, scenario, **options):
    async def inside():
        async with client(ledger, **options) as http:
            return await scenario(http)

    return asyncio.run(inside())


def test_one_transaction_gets_one_decision_and_an_array_gets_an_array(ledger):
    async def scenario(http):
        return (await http.post("/predict", json=payment(0))), (await http.post("/predict", json=[payment(1)]))

    one, many = run(ledger, scenario)
    assert one.status_code == many.status_code == 200
    assert one.headers["content-type"] == "application/json"
    assert set(one.json()) == {
        "transaction_id", "outcome", "score", "confidence", "mode", "reasons", "missing", "bundle",
    }  # fmt: skip
    assert [d["transaction_id"] for d in many.json()] == ["t-1"]
    assert ledger.transactions == 2


def test_an_answer_is_in_the_ledger_as_it_was_sent(ledger):
    async def scenario(http):
        return (await http.post("/predict", json=payment(0, amount=900))).content

    sent = run(ledger, scenario)
    assert ledger.find(["t-0"])["t-0"].answer == sent


def test_requests_at_the_same_time_are_each_answered_with_their_own(ledger):
    async def scenario(http):
        return await asyncio.gather(*(http.post("/predict", json=payment(i)) for i in range(50)))

    answers = run(ledger, scenario)
    assert [a.json()["transaction_id"] for a in answers] == [f"t-{i}" for i in range(50)]
    assert ledger.transactions == 50


@pytest.mark.parametrize(
    ("body", "status", "code", "where"),
    [
        (b"{", 400, "invalid_json", {}),
        (b"{}", 422, "missing_field", {"column": "transaction_id"}),
        (json.dumps(payment(0, amount="x")).encode(), 422, "wrong_type", {"column": "amount"}),
        (json.dumps([payment(0), payment(1, colour=1)]).encode(), 422, "unknown_field", {"row": 1, "column": "colour"}),
        (json.dumps([payment(0), payment(0)]).encode(), 422, "duplicate_id", {"row": 1}),
        (json.dumps(payment(0, effective_time="2026-01-03T00:00:00Z")).encode(), 422, "time_ahead", {}),
        (json.dumps([payment(i) for i in range(4)]).encode(), 413, "too_many", {}),
        (b" " * 2000, 413, "body_too_large", {}),
    ],
)
def test_bad_input_is_refused_and_nothing_is_recorded(ledger, body, status, code, where):
    async def scenario(http):
        return await http.post("/predict", content=body)

    answer = run(ledger, scenario, max_body_bytes=1999, max_transactions=3)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert where.items() <= error.items()
    assert ledger.transactions == 0


def test_a_body_without_a_length_is_cut_off_at_the_limit(ledger):
    async def chunks():
        for _ in range(100):
            yield b"x" * 100

    async def scenario(http):
        return await http.post("/predict", content=chunks())

    assert run(ledger, scenario, max_body_bytes=1000).status_code == 413


def test_a_conflict_is_409(ledger):
    async def scenario(http):
        await http.post("/predict", json=payment(0))
        return await http.post("/predict", json=payment(0, amount=99))

    answer = run(ledger, scenario)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "conflicting_transaction"


def test_what_is_over_the_limit_of_waiting_is_shed_with_retry_after(ledger):
    async def scenario(http):
        rows = [[payment(10 * i + j) for j in range(10)] for i in range(20)]
        return await asyncio.gather(*(http.post("/predict", json=part) for part in rows))

    answers = run(ledger, scenario, max_waiting=30)
    shed = [a for a in answers if a.status_code == 503]
    assert shed
    assert all(a.json()["error"]["code"] == "overloaded" and a.headers["retry-after"] == "1" for a in shed)
    assert ledger.transactions == 10 * sum(a.status_code == 200 for a in answers)


def test_an_empty_array_gets_an_empty_array(ledger):
    async def scenario(http):
        return await http.post("/predict", content=b"[]")

    assert run(ledger, scenario).json() == []


def test_unknown_paths_and_methods_are_refused_by_name(ledger):
    async def scenario(http):
        return [await http.get("/metrics"), await http.get("/predict"), await http.head("/health/live")]

    missing, wrong, head = run(ledger, scenario)
    assert missing.status_code == 404
    assert "/predict" in missing.json()["error"]["message"]
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    assert head.status_code == 200
    assert head.content == b""


def test_health_tells_what_is_counted(ledger):
    make_scorer(ledger)

    async def scenario(http):
        await http.post("/predict", json=payment(0, amount=900))
        return (await http.get("/health")).json()

    health = run(ledger, scenario)
    assert health["status"] == "ready"
    assert health["bundle"] == "bundle-1"
    assert health["decisions"] == {"approve": 0, "review": 0, "block": 1}
    assert health["features"]["transactions"] == health["ledger_transactions"] == 1


def test_an_unexpected_failure_shows_no_trace_and_is_rolled_back(ledger):
    def broken(features):
        if features[0, 0] == 666:
            raise ZeroDivisionError
        return scores(features)

    async def scenario(http):
        failed = await http.post("/predict", json=payment(0, amount=666))
        while (await http.get("/health/ready")).status_code != 200:
            await asyncio.sleep(0.01)
        return failed, await http.post("/predict", json=payment(1))

    failed, after = run(ledger, scenario, score=broken)
    assert failed.status_code == 500
    assert "Traceback" not in failed.text
    assert after.status_code == 200
    assert ledger.transactions == 1
