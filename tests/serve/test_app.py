"""The public interface: answers, refusals with stable codes, limits, health."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from deciding import NOW_US, READER, make_scorer, new_scorer, payment, scores
from tollgate import __version__
from tollgate.config import ServeConfig
from tollgate.control import Scope
from tollgate.decision import Decision
from tollgate.errors import LedgerError, ModelError
from tollgate.keys import KeyRing, new_key
from tollgate.ledger import Ledger
from tollgate.serve.accounting import account
from tollgate.serve.app import PredictApp
from tollgate.serve.batcher import Batcher
from tollgate.serve.canary import Canary
from tollgate.serve.health import Health
from tollgate.serve.message import Request
from tollgate.serve.metrics import Metrics


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


class Http:
    """Asks an application what the server would ask it."""

    def __init__(self, app, metrics):
        self.app, self.metrics = app, metrics

    async def send(self, method, path, body=b"", headers=()):
        answer = asyncio.get_running_loop().create_future()
        self.app.handle(Request(method, path, "", list(headers), body, "id-1"), answer.set_result)
        status, content, extra = await answer
        return SimpleNamespace(
            status_code=status,
            content=content,
            text=content.decode(),
            headers=dict(extra),
            json=lambda: json.loads(content),
        )

    async def get(self, path):
        return await self.send("GET", path)

    async def post(self, path, json=None, content=None, headers=()):
        return await self.send("POST", path, content if json is None else msgspec.json.encode(json), headers)


@asynccontextmanager
async def client(ledger, score=scores, keys=KeyRing([]), deadline_s=60.0, **limits):
    config = ServeConfig(**limits)
    scorer = new_scorer(ledger, score, deadline_s=deadline_s)
    batcher = Batcher(scorer, config.max_waiting, lambda decided: account(metrics, decided))
    canary = Canary(batcher, time.monotonic, 5.0, every_s=0.02)
    health = Health(scorer, ledger, canary, lambda: batcher.waiting, lambda: NOW_US)
    metrics = Metrics(__version__, health.readings)
    app = PredictApp(READER, batcher, health, lambda: keys, metrics, config, lambda: NOW_US, time.monotonic)
    batcher.start()
    canary.start()
    http = Http(app, metrics)
    while (await http.get("/health/live")).status_code != 200 or not scorer.ready:
        await asyncio.sleep(0.01)
    yield http
    canary.stop()
    await batcher.stop()
    scorer.judge.breaker.close()


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
    assert msgspec.json.encode(msgspec.json.decode(sent, type=Decision)) == sent


def test_requests_at_the_same_time_are_each_answered_with_their_own(ledger):
    async def scenario(http):
        return await asyncio.gather(*(http.post("/predict", json=payment(i)) for i in range(50)))

    answers = run(ledger, scenario)
    assert [a.json()["transaction_id"] for a in answers] == [f"t-{i}" for i in range(50)]
    assert ledger.transactions == 50


class LostLedger(Ledger):
    """A real ledger whose disk went away."""

    def replay(self, after=0):
        raise LedgerError("ledger_failed", f"nothing after {after} can be read")


def test_a_server_that_cannot_recover_can_be_stopped(open_ledger, tmp_path):
    lost = open_ledger(f"sqlite:///{tmp_path / 'lost.db'}", kind=LostLedger)

    async def scenario():
        scorer = new_scorer(lost)
        batcher = Batcher(scorer, 10)
        batcher.start()
        await asyncio.sleep(0.01)
        assert not scorer.ready
        await asyncio.wait_for(batcher.stop(), 30)
        scorer.judge.breaker.close()

    asyncio.run(scenario())


class SlowLedger(Ledger):
    """A real ledger on a disk that takes its time."""

    def append(self, group, hashes=None):
        time.sleep(0.05)
        super().append(group, hashes)


def test_a_batch_is_computed_while_the_one_before_becomes_durable_and_knows_its_ids(open_ledger, tmp_path):
    slow = open_ledger(f"sqlite:///{tmp_path / 'slow.db'}", kind=SlowLedger)

    async def scenario(http):
        first = asyncio.ensure_future(http.post("/predict", json=payment(0)))
        await asyncio.sleep(0.02)
        others = [payment(0), payment(0, amount=11.0), payment(1)]
        return [await first, *await asyncio.gather(*(http.post("/predict", json=row) for row in others))]

    first, again, other, new = run(slow, scenario)
    assert first.content == again.content
    assert other.status_code == 409
    assert new.json()["transaction_id"] == "t-1"
    counted = [np.frombuffer(features)[1] for _, _, features in slow.decided()]
    assert counted == [0, 1]


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
        (b"[" * 100_000, 422, "wrong_type", {}),
        (b'{"transaction_id": "\xff"}', 400, "invalid_json", {}),
        (json.dumps(payment(0, card_id=4111111111111111)).encode(), 422, "raw_pan", {"column": "card_id"}),
    ],
)
def test_bad_input_is_refused_and_nothing_is_recorded(ledger, body, status, code, where):
    async def scenario(http):
        return await http.post("/predict", content=body)

    answer = run(ledger, scenario, max_transactions=3)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert where.items() <= error.items()
    assert ledger.transactions == 0


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
    assert all(a.json()["error"]["code"] == "overloaded" and a.headers[b"retry-after"] == b"1" for a in shed)
    assert ledger.transactions == 10 * sum(a.status_code == 200 for a in answers)


def test_an_empty_array_gets_an_empty_array(ledger):
    async def scenario(http):
        return await http.post("/predict", content=b"[]")

    assert run(ledger, scenario).json() == []


def test_unknown_paths_and_methods_are_refused_by_name(ledger):
    async def scenario(http):
        return [await http.get("/metrics"), await http.get("/predict"), await http.send("HEAD", "/health/live")]

    missing, wrong, head = run(ledger, scenario)
    assert missing.status_code == 404
    assert "/predict" in missing.json()["error"]["message"]
    assert wrong.status_code == 405
    assert wrong.headers[b"allow"] == b"POST"
    assert head.status_code == 200


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


def test_a_model_that_breaks_degrades_its_batch_and_no_other(ledger):
    def broken(features):
        if (features[:, 0] == 666).any():
            raise ZeroDivisionError
        return scores(features)

    async def scenario(http):
        failed = await http.post("/predict", json=payment(0, amount=666))
        return failed.json(), (await http.post("/predict", json=payment(1))).json()

    failed, after = run(ledger, scenario, score=broken)
    assert (failed["mode"], failed["score"]) == ("degraded", None)
    assert after["mode"] == "normal"
    assert ledger.transactions == 2


def test_a_server_whose_canary_is_not_scored_is_not_ready_and_says_so(ledger):
    def dead(_features):
        raise ModelError("model_failed", "the session is gone")

    async def scenario(http):
        return await http.get("/health/ready"), await http.get("/health")

    ready, health = run(ledger, scenario, score=dead)
    assert (ready.status_code, ready.json()) == (503, {"status": "impaired"})
    assert health.status_code == 200


def test_with_keys_a_request_needs_one_that_may_score_and_pays_for_each_transaction(ledger):
    text, key = new_key("shop", [Scope.SCORE], 10.0, 0, lambda n: bytes(range(n)))
    label_text, label_key = new_key("back", [Scope.LABEL], 10.0, 0, lambda n: bytes(range(1, n + 1)))

    def bearing(one):
        return [(b"authorization", b"Bearer " + one.encode())]

    async def scenario(http):
        return [
            await http.post("/predict", json=payment(0)),
            await http.post("/predict", json=payment(0), headers=[(b"x-api-key", b"tollgate_no_such")]),
            await http.post("/predict", json=payment(0), headers=bearing(label_text)),
            await http.post("/predict", json=[payment(i) for i in range(20)], headers=bearing(text)),
            await http.post("/predict", json=payment(30), headers=bearing(text)),
        ], http.metrics.expose(None)[0].decode()

    answers, metrics = run(ledger, scenario, keys=KeyRing([key, label_key]))
    assert [a.status_code for a in answers] == [401, 401, 403, 200, 429]
    assert int(answers[4].headers[b"retry-after"]) >= 1
    assert 'tollgate_shed_total{reason="rate_exceeded"} 1.0' in metrics
    assert ledger.transactions == 20


def test_what_was_decided_is_in_the_metrics(ledger):
    async def scenario(http):
        await http.post("/predict", json=[payment(0), payment(1, amount=900)])
        await http.post("/predict", json=payment(0))
        await asyncio.sleep(0)
        return http.metrics.expose(None)[0].decode()

    metrics = run(ledger, scenario)
    assert 'tollgate_transactions_total{mode="normal",outcome="approve"} 1.0' in metrics
    assert 'tollgate_transactions_total{mode="normal",outcome="block"} 1.0' in metrics
    assert "tollgate_batch_transactions_sum 2.0" in metrics
    assert np.isclose(float(metrics.split("tollgate_score_count ")[1].split()[0]), 2)
