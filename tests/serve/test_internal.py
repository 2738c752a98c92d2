"""The internal port: what it answers, who may change what, and that each change is in the audit trail."""

import asyncio
import io
import json
import logging

import pytest

from tollgate.bundle import MODEL, Manifest, Registry, Training
from tollgate.config import PolicyConfig, ServeConfig, TrainConfig
from tollgate.control import Scope
from tollgate.errors import LedgerError
from tollgate.keys import KeyRing, new_key
from tollgate.label import Label, LabelResult, LabelSource
from tollgate.ledger.controls import Controls
from tollgate.model.calibration import Calibration
from tollgate.money import Money
from tollgate.redaction import redact
from tollgate.schema import payment_schema
from tollgate.serve.internal import MAX_BODY_BYTES, InternalApp
from tollgate.serve.logs import Logs
from tollgate.serve.message import Request, answer_json
from tollgate.serve.metrics import Metrics, Readings
from tollgate.serve.openapi import internal_document, public_document

NOW_US = 1_767_225_600_000_000


def manifest(number):
    return Manifest(
        created_us=NOW_US + number, tollgate="1", schema_=payment_schema(), money=Money("EUR"), plan={"features": []},
        train=TrainConfig(), calibration=Calibration(1.0, 0.0), policy=PolicyConfig(), metrics={},
        training=Training(0, 1, 1, 0, ""), profiles=(),
    )  # fmt: skip


async def health(request):
    return answer_json({"status": "ready", "path": request.path})


class Port:
    """An internal port over a real registry and a real ledger."""

    def __init__(self, folder):
        self.registry = Registry(folder / "bundles")
        self.first, self.second = (self.registry.store(manifest(n), {MODEL: b"onnx"}) for n in range(2))
        self.registry.promote(self.first)
        self.controls = Controls(f"sqlite:///{folder / 'ledger.db'}")
        self.keys = KeyRing([])
        self.taken, self.results = [], {}
        self.logs = Logs(io.StringIO(), redact, root="tollgate_internal_test")
        self.metrics = Metrics("1.2.3", lambda: Readings(ready=True, breaker_open=False, champion=self.first))
        document = public_document(payment_schema(), Money("EUR"), ServeConfig())
        self.app = InternalApp(
            self.registry, self.controls, lambda: self.keys, self.metrics, self.logs, lambda: document, health,
            lambda: NOW_US, self.take,
        )  # fmt: skip

    async def take(self, labels, by):
        self.taken += [(by, one) for one in labels]
        return [self.results.get(one.transaction_id, LabelResult.RECORDED) for one in labels]

    def ask(self, method, path, body=b"", **headers):
        sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return asyncio.run(self.app.respond(Request(method, path, "", sent, content, "r-1")))

    def code(self, *args, **headers):
        answer = self.ask(*args, **headers)
        return answer.status, json.loads(answer.body)["error"]["code"]

    def trail(self):
        return [(one.actor, one.action, one.subject) for one in self.controls.audit()]


@pytest.fixture
def port(tmp_path):
    made = Port(tmp_path)
    yield made
    made.logs.close()
    made.controls.close()


def test_a_promotion_moves_the_champion_and_is_in_the_trail(port):
    """The pointer of the registry moves, and who moved it from where is recorded."""
    answer = port.ask("PUT", "/champion", {"bundle": port.second})
    assert (answer.status, json.loads(answer.body)) == (200, {"champion": port.second})
    assert port.registry.champion() == port.second
    (record,) = port.controls.audit()
    assert (record.actor, record.action, record.subject) == ("key:anyone", "champion.promote", port.second)
    assert record.detail == {"before": port.first}
    assert record.at_us == NOW_US


def test_a_rollback_goes_back_once(port):
    """The champion before comes back; where there is none the answer is 409 and the trail says that it failed."""
    port.ask("PUT", "/champion", {"bundle": port.second})
    assert json.loads(port.ask("POST", "/champion/rollback").body) == {"champion": port.first}
    assert port.registry.champion() == port.first
    assert port.code("POST", "/champion/rollback") == (409, "no_predecessor")
    assert [action for _, action, _ in port.trail()] == [
        "champion.promote", "champion.rollback", "champion.rollback", "champion.rollback.failed",
    ]  # fmt: skip


def test_promotions_at_the_same_time_are_all_kept(port):
    """None of two that overlap is forgotten in the history."""

    async def both():
        requests = [
            Request("PUT", "/champion", "", [], json.dumps({"bundle": one}).encode(), "r")
            for one in (port.second, port.first, port.second)
        ]
        return await asyncio.gather(*map(port.app.respond, requests))

    assert {answer.status for answer in asyncio.run(both())} == {200}
    assert [port.registry.rollback() for _ in range(3)] == [port.first, port.second, port.first]


def test_what_cannot_be_recorded_is_not_done(port):
    """Without the trail the champion and the log level stay."""

    def broken(*args, **detail):
        raise LedgerError("ledger_failed", "the disk is full")

    port.controls.note = broken
    assert port.code("PUT", "/champion", {"bundle": port.second}) == (503, "ledger_failed")
    assert port.code("PUT", "/log-level", {"level": "debug"}) == (503, "ledger_failed")
    assert port.registry.champion() == port.first
    assert port.logs.level == "info"


def test_a_damaged_bundle_is_not_promoted(port):
    """A bundle that does not load is refused before anything is recorded."""
    (port.registry.load(port.second).path / MODEL).write_bytes(b"other")
    assert port.code("PUT", "/champion", {"bundle": port.second}) == (503, "damaged_bundle")
    assert port.trail() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("PUT", "/champion", b"{", (400, "invalid_json")),
        ("PUT", "/champion", b"\xff", (400, "invalid_json")),
        ("PUT", "/champion", {"bundle": 3}, (422, "wrong_type")),
        ("PUT", "/champion", {"bundle": "a", "more": 1}, (422, "wrong_type")),
        ("PUT", "/champion", {"bundle": "0" * 16}, (404, "no_bundle")),
        ("PUT", "/champion", {"bundle": "../bundles"}, (404, "no_bundle")),
        ("PUT", "/champion", b" " * (MAX_BODY_BYTES + 1), (413, "body_too_large")),
        ("PUT", "/log-level", {"level": "loud"}, (422, "bad_level")),
        ("POST", "/metrics", b"", (405, "method_not_allowed")),
        ("GET", "/champion", b"", (405, "method_not_allowed")),
        ("POST", "/predict", b"", (404, "not_found")),
    ],
)
def test_bad_requests_are_refused_with_a_code_and_change_nothing(port, method, path, body, expected):
    """Each has the status that the document promises."""
    assert port.code(method, path, body) == expected
    assert port.registry.champion() == port.first
    assert port.trail() == []


def test_metrics_come_in_the_format_that_is_asked_for(port):
    """Text by default, OpenMetrics on demand, and a senseless header is no failure."""
    for accept, kind in (
        ("*/*", b"text/plain"),
        ("application/openmetrics-text;version=1.0.0", b"application/openmetrics-text"),
        ("application/openmetrics-text; version=x", b"application/openmetrics-text"),
    ):
        answer = port.ask("GET", "/metrics", accept=accept)
        assert answer.status == 200
        assert dict(answer.headers)[b"content-type"].startswith(kind)
        assert f'tollgate_champion_info{{bundle="{port.first}"}} 1.0'.encode() in answer.body
    assert b"tollgate_ready 1.0" in port.ask("GET", "/metrics").body


def test_documents_bundles_and_health_are_read(port):
    """What is only read is answered without a change."""
    assert json.loads(port.ask("GET", "/openapi.json").body)["openapi"] == "3.1.0"
    assert json.loads(port.ask("GET", "/bundles").body) == {
        "champion": port.first, "bundles": sorted([port.first, port.second]),
    }  # fmt: skip
    for path in ("/health", "/health/live", "/health/ready"):
        assert json.loads(port.ask("HEAD", path).body)["path"] == path
    assert port.trail() == []


def test_the_log_level_is_changed_and_recorded(port):
    """The change shows in the process at once."""
    assert json.loads(port.ask("PUT", "/log-level", {"level": "debug"}).body) == {"level": "debug"}
    assert logging.getLogger("tollgate_internal_test").level == logging.DEBUG
    assert json.loads(port.ask("GET", "/log-level").body) == {"level": "debug"}
    assert port.trail() == [("key:anyone", "log_level.set", "debug")]


def test_with_keys_only_an_admin_may_change_or_look(port):
    """Without a key 401, with a key of another scope 403; metrics and health stay open to the scraper."""
    made = [new_key(scope, [scope], 100.0, NOW_US, lambda n: bytes(range(n))) for scope in (Scope.ADMIN,)]
    made += [new_key("score", [Scope.SCORE], 100.0, NOW_US, lambda n: bytes(range(1, n + 1)))]
    (admin, admin_key), (scorer, _) = made
    port.keys = KeyRing([key for _, key in made])
    for method, path in (
        ("GET", "/bundles"), ("PUT", "/champion"), ("POST", "/champion/rollback"), ("GET", "/log-level"),
        ("PUT", "/log-level"),
    ):  # fmt: skip
        assert port.code(method, path) == (401, "no_key")
        assert port.code(method, path, authorization="Bearer nonsense") == (401, "bad_key")
        assert port.code(method, path, authorization=f"Bearer {scorer}") == (403, "no_scope")
    assert port.ask("GET", "/metrics").status == port.ask("GET", "/health/live").status == 200
    assert port.ask("PUT", "/champion", {"bundle": port.second}, x_api_key=admin).status == 200
    assert port.trail() == [(f"key:{admin_key.id}", "champion.promote", port.second)]


LABEL = {"transaction_id": "t-1", "is_fraud": True, "source": "analyst", "available_us": 5}


def test_labels_are_taken_one_or_many_and_each_is_answered(port):
    """In their order; of an array, what was not taken says why, and the others are."""
    assert json.loads(port.ask("POST", "/labels", LABEL).body) == {"transaction_id": "t-1", "result": "recorded"}
    port.results = {"t-2": LabelResult.UNKNOWN_TRANSACTION, "t-3": LabelResult.KNOWN}
    answer = port.ask("POST", "/labels", [LABEL | {"transaction_id": f"t-{n}"} for n in (1, 2, 3)])
    assert answer.status == 200
    got = json.loads(answer.body)
    assert [(one["transaction_id"], one["result"]) for one in got] == [
        ("t-1", "recorded"), ("t-2", "unknown_transaction"), ("t-3", "known"),
    ]  # fmt: skip
    assert ["message" in one for one in got] == [False, True, False]
    assert port.taken[0] == ("key:anyone", Label("t-1", is_fraud=True, source=LabelSource.ANALYST, available_us=5))
    assert len(port.taken) == 4


@pytest.mark.parametrize(
    ("result", "status"), [(LabelResult.UNKNOWN_TRANSACTION, 404), (LabelResult.CONFLICTING_LABEL, 409)]
)
def test_one_label_that_is_not_taken_is_refused_with_a_status(port, result, status):
    """The code is the result's."""
    port.results = {"t-1": result}
    assert port.code("POST", "/labels", LABEL) == (status, result.value)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"), (b"[", 400, "invalid_json"), (b"7", 422, "bad_label"),
        ([LABEL, LABEL | {"source": "rumour"}], 422, "bad_label"), ([LABEL] * 10_001, 413, "too_many"),
    ],
)  # fmt: skip
def test_nothing_of_a_body_that_cannot_be_read_is_taken(port, body, status, code):
    """A label of an array that is none refuses the array, and is named by its row."""
    assert port.code("POST", "/labels", body) == (status, code)
    assert port.taken == []
    if isinstance(body, list) and code == "bad_label":
        assert json.loads(port.ask("POST", "/labels", body).body)["error"]["row"] == 1


def test_labels_need_a_key_for_labels_and_each_costs_a_token(port):
    """A key that may administrate may not label for that; who sends a thousand waits for as many."""
    made = [new_key(scope, [scope], 10.0, NOW_US, lambda n, b=b: bytes([b]) * n) for b, scope in enumerate(Scope)]
    port.keys = KeyRing([key for _, key in made])
    texts = {key.scopes[0]: f"Bearer {text}" for text, key in made}
    assert port.code("POST", "/labels", LABEL) == (401, "no_key")
    assert port.code("POST", "/labels", LABEL, authorization=texts[Scope.ADMIN]) == (403, "no_scope")
    assert port.ask("POST", "/labels", [LABEL] * 11, authorization=texts[Scope.LABEL]).status == 200
    assert port.code("POST", "/labels", LABEL, authorization=texts[Scope.LABEL]) == (429, "rate_exceeded")
    assert port.taken[0][0] == f"key:{made[1][1].id}"


def test_a_failure_shows_no_trace_and_is_logged_with_its_request(port, caplog):
    """An unexpected error is a plain 500; the log names the request."""
    port.app._document = lambda: 1 / 0
    assert port.code("GET", "/openapi.json") == (500, "internal_error")
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert record.request_id == "r-1"


def test_every_path_is_in_the_document(port):
    """The document of the internal port has exactly the paths and methods that are answered."""
    documented = {
        (method.upper(), path)
        for path, operations in json.loads(internal_document())["paths"].items()
        for method in operations
    }
    answered = {("GET", path) for path in port.app._open}
    answered |= {(method, path) for path, methods in port.app._guarded.items() for method in methods}
    assert documented == answered
