"""A worker in this process, on a real broker and a real ledger."""

import base64
import threading
import time
from contextlib import contextmanager

import msgspec
import pytest
from confluent_kafka import Consumer
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry

from deciding import READER, make_scorer, payment
from stream.cluster import LIMIT_S
from tollgate.decision import Decision
from tollgate.errors import StreamError
from tollgate.money import Money
from tollgate.schema import payment_schema
from tollgate.stream.measures import Measures
from tollgate.stream.outbox import Outbox
from tollgate.stream.schemas import stream_schemas
from tollgate.stream.sorting import Sorting
from tollgate.stream.subscription import Subscription
from tollgate.stream.worker import Parts, StreamWorker


class Worker:
    """A running worker, and what it counts."""

    def __init__(self, settings, ledger, outbox=Outbox, hides=True):
        self.stopping, self.ended, self.registry = threading.Event(), threading.Event(), CollectorRegistry()
        measures = Measures()
        measures.register(self.registry)
        self.labelled = []
        self.scorer = make_scorer(ledger)
        self.outbox = outbox(settings, self.stopping.is_set, time.monotonic)
        self.subscription = Subscription(settings)
        parts = Parts(
            READER, self.scorer, ledger, self.subscription, self.outbox, Sorting(READER, settings),
            settings.topics, hides,
        )  # fmt: skip
        self.worker = StreamWorker(
            parts,
            measures,
            self.stopping,
            lambda _: None,
            lambda labels, results: self.labelled.extend(results),
            self.ended.set,
            time.monotonic,
            lambda: time.time_ns() // 1000,
        )

    def value(self, name, **labels):
        return self.registry.get_sample_value(f"tollgate_stream_{name}", labels)


@contextmanager
def working(settings, ledger, **options):
    one = Worker(settings, ledger, **options)
    one.worker.start()
    try:
        yield one
    finally:
        one.worker.stop()


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path}/tollgate.db", "os")


def ids(got):
    return [one.value["transaction_id"] for one in got]


def wait_for(condition):
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_every_transaction_is_decided_once_and_its_decision_is_that_of_the_ledger(cluster, ledger):
    """One decision for each transaction, keyed by it, and an alert, with the transaction, for each that is not let through."""
    settings = cluster.topics()
    rows = [payment(n, card_id=f"card-{n % 7}", amount=900.0 if n % 50 == 0 else 10.0) for n in range(300)]
    cluster.fill(settings.topics.transactions, rows, [row["card_id"] for row in rows])
    with working(settings, ledger) as one:
        got = cluster.read(settings.topics.decisions, len(rows))
        wait_for(lambda: one.value("lag", topic=settings.topics.transactions, partition="0") == 0)
        assert one.value("records_total", result="decided") == len(rows)
        assert one.value("latency_seconds_count") == len(rows)
        assert one.value("partitions") == 4
    assert sorted(ids(got)) == sorted(row["transaction_id"] for row in rows)
    assert all(one.key == one.value["transaction_id"] for one in got)
    recorded = {identifier: decision for identifier, decision, _ in ledger.decided()}
    assert {one.key: msgspec.convert(one.value, Decision) for one in got} == recorded
    held = {identifier for identifier, decision in recorded.items() if decision.outcome != "approve"}
    alerts = cluster.read(settings.topics.alerts, len(held))
    assert {one.key for one in alerts} == held
    assert held
    for one in alerts:
        assert one.value["transaction"] in rows
        assert msgspec.convert(one.value["decision"], Decision) == recorded[one.key]
    assert sum(cluster.committed(settings).values()) >= len(rows)


def test_what_cannot_be_used_becomes_a_dead_letter_and_stops_nothing(cluster, ledger):
    """Each bad record is told with its code, its place and its value; the good ones around it are decided."""
    settings = msgspec.structs.replace(cluster.topics(partitions=1), max_record_bytes=5000)
    good = [payment(n) for n in range(4)]
    bad = {
        "invalid_json": b"{", "not_one": b"[]", "no_value": None, "record_too_large": b'"' + b"x" * 5000 + b'"',
        "missing_field": {"transaction_id": "t-9"}, "unknown_currency": payment(7, currency="XXY"),
        "time_ahead": payment(8, effective_time="2030-01-01T00:00:00Z"), "conflicting_transaction": payment(0, amount=1.0),
    }  # fmt: skip
    raw = b"\xff\xfe{"
    cluster.fill(settings.topics.transactions, [*good[:2], *bad.values(), raw, *good[2:]], ["k"] * 13)
    with working(settings, ledger) as one:
        decisions = cluster.read(settings.topics.decisions, len(good))
        letters = [one.value for one in cluster.read(settings.topics.dead_letters, len(bad) + 1)]
        wait_for(lambda: one.value("records_total", result="dead_letter") == len(bad) + 1)
        assert one.value("dead_letters_total", code="not_one") == 1
    assert sorted(ids(decisions)) == ["t-0", "t-1", "t-2", "t-3"]
    assert {letter["code"] for letter in letters} == bad.keys()
    assert sorted(letter["offset"] for letter in letters) == list(range(2, 11))
    assert all(letter["topic"] == settings.topics.transactions and letter["key"] == "k" for letter in letters)
    by_offset = {letter["offset"]: letter for letter in letters}
    assert by_offset[2]["value"] == "{"
    assert by_offset[4]["value"] is None
    assert by_offset[10]["encoding"] == "base64"
    assert base64.b64decode(by_offset[10]["value"]) == raw
    assert ledger.transactions == len(good)


def test_a_raw_card_number_is_in_no_dead_letter(cluster, ledger):
    """The guard refuses the transaction, and what is kept of the record does not hold the number either."""
    settings = cluster.topics(partitions=1)
    number = "4111 1111 1111 1111"
    cluster.fill(settings.topics.transactions, [payment(1, card_id=number), b"{" + number.encode()], [number, number])
    with working(settings, ledger):
        letters = [one.value for one in cluster.read(settings.topics.dead_letters, 2)]
    assert {letter["code"] for letter in letters} == {"raw_pan", "invalid_json"}
    assert all(letter["hidden"] for letter in letters)
    assert "1111 1111" not in str(letters)


def test_a_b_a_counts_two_and_answers_three_times(cluster, ledger):
    """A transaction that comes again gets the decision of before, and moves no feature."""
    settings = cluster.topics(partitions=1)
    a, b = payment(1), payment(2)
    cluster.fill(settings.topics.transactions, [a, b, a])
    with working(settings, ledger) as one:
        first = cluster.read(settings.topics.decisions, 3)
        cluster.fill(settings.topics.transactions, [a, b])
        got = cluster.read(settings.topics.decisions, 5)
        wait_for(lambda: one.value("records_total", result="decided") == 5)
        assert one.scorer.engine.observed == 2
    assert ids(got) == ["t-1", "t-2", "t-1", "t-1", "t-2"]
    assert got[:3] == first
    assert got[0] == got[2] == got[3]
    assert ledger.transactions == 2


class Interrupted(Outbox):
    """An outbox whose first commits fail after all was produced, as when a broker goes away."""

    failures = 2

    def _call(self, doing, call):
        if doing == "commit the transaction" and self.failures:
            self.failures -= 1
            raise StreamError("kafka_failed", "the test ends this transaction")
        super()._call(doing, call)


def test_what_was_decided_and_not_committed_is_decided_once_and_read_once(cluster, ledger, monkeypatch):
    """After an aborted transaction the records come again, and a reader of committed records sees each answer once."""
    monkeypatch.setattr("tollgate.stream.worker.RETRY_S", 0.05)
    settings = cluster.topics()
    rows = [payment(n, card_id=f"card-{n % 5}") for n in range(200)]
    cluster.fill(settings.topics.transactions, [*rows, b"{"])
    with working(settings, ledger, outbox=Interrupted) as one:
        got = cluster.read(settings.topics.decisions, len(rows))
        letters = cluster.read(settings.topics.dead_letters, 1)
        assert one.value("commits_total", result="failed") == 2
        assert one.scorer.engine.observed == len(rows)
    assert sorted(ids(got)) == sorted(row["transaction_id"] for row in rows)
    assert len(letters) == 1
    assert ledger.transactions == len(rows)


def test_a_worker_goes_on_where_the_one_before_it_stopped(cluster, ledger):
    """Nothing that was committed is read again, and nothing is left out."""
    settings = cluster.topics()
    rows = [payment(n, card_id=f"card-{n % 5}") for n in range(100)]
    for part in (rows[:60], rows[60:]):
        cluster.fill(settings.topics.transactions, part)
        with working(settings, ledger) as one:
            wait_for(lambda part=part, one=one: one.value("records_total", result="decided") == len(part))
    assert len(cluster.read(settings.topics.decisions, 100)) == 100


def test_labels_are_recorded_once_and_bad_ones_are_dead_letters(cluster, ledger):
    """The same label again changes nothing; one of a wrong shape or of no transaction is told."""
    settings = cluster.topics(partitions=1)
    label = {"transaction_id": "t-1", "is_fraud": True, "available_us": 1_767_000_000_000_000, "source": "chargeback"}
    bad = [label | {"source": "rumour"}, label | {"transaction_id": ""}, label | {"available_us": -1}, b"[", None]
    early = label | {"transaction_id": "t-2"}
    cluster.fill(settings.topics.transactions, [payment(1)])
    with working(settings, ledger) as one:
        wait_for(lambda: one.value("records_total", result="decided") == 1)
        cluster.fill(settings.topics.labels, [label, *bad, early, label])
        letters = cluster.read(settings.topics.dead_letters, len(bad) + 1)
        wait_for(lambda: one.value("records_total", result="label") == 2)
    assert {letter.value["topic"] for letter in letters} == {settings.topics.labels}
    assert {letter.value["code"] for letter in letters} == {"bad_label", "no_value", "unknown_transaction"}
    assert ledger.labels == 1
    assert sorted(one.labelled) == ["known", "recorded", "unknown_transaction"]


def test_a_second_process_of_the_same_name_puts_an_end_to_the_first(cluster, ledger, open_ledger, tmp_path):
    """Two workers of one name never both commit: the older one ends and says why."""
    settings = msgspec.structs.replace(cluster.topics(), partitions=(0, 1))
    other = open_ledger(f"sqlite:///{tmp_path}/other.db", "os")
    with working(settings, ledger) as first:
        cluster.fill(settings.topics.transactions, [payment(1)])
        wait_for(lambda: first.value("records_total", result="decided") == 1)
        with working(settings, other) as second:
            wait_for(lambda: second.value("partitions"))
            cluster.fill(settings.topics.transactions, [payment(2), payment(3)])
            wait_for(lambda: second.value("records_total", result="decided") == 2)
            assert first.ended.wait(LIMIT_S)
        assert first.worker.failure.code == "fenced"
    assert sorted(ids(cluster.read(settings.topics.decisions, 3))) == ["t-1", "t-2", "t-3"]


def test_partitions_that_are_named_stay_with_their_worker(cluster, ledger, open_ledger, tmp_path):
    """Two workers with partitions of their own decide all of it, each its part, whoever comes and goes."""
    shared = cluster.topics()
    one, two = (msgspec.structs.replace(shared, worker=str(n), partitions=(n,)) for n in (0, 1))
    other = open_ledger(f"sqlite:///{tmp_path}/other.db", "os")
    for n in (0, 1):
        cluster.fill(shared.topics.transactions, [payment(10 * n + i) for i in range(5)], partition=n)
    with working(one, ledger), working(two, other):
        got = cluster.read(shared.topics.decisions, 10)
    assert len(set(ids(got))) == len(got) == 10
    assert {identifier for identifier, _, _ in ledger.decided()} == {f"t-{i}" for i in range(5)}
    assert other.transactions == 5


def test_a_partition_that_changes_hands_is_read_on_from_what_was_committed(cluster, ledger, open_ledger, tmp_path):
    """A worker joins under load and leaves again; every transaction is decided by one of the two, once."""
    shared = cluster.topics()
    shared = msgspec.structs.replace(shared, topics=msgspec.structs.replace(shared.topics, labels=None))
    first, second = (msgspec.structs.replace(shared, worker=str(n)) for n in (0, 1))
    other = open_ledger(f"sqlite:///{tmp_path}/other.db", "os")
    sent = 0

    def send_until(condition):
        nonlocal sent
        until = time.monotonic() + LIMIT_S
        while True:
            rows = [payment(sent + i, effective_time="2026-01-01T00:00:00Z") for i in range(20)]
            cluster.fill(shared.topics.transactions, rows)
            sent += len(rows)
            if condition():
                return
            assert time.monotonic() < until
            time.sleep(0.02)

    with working(first, ledger) as one:
        wait_for(lambda: one.value("partitions") == 2)
        with working(second, other) as two:
            send_until(lambda: two.value("partitions"))
            send_until(lambda: two.value("records_total", result="decided") > 100)
            wait_for(lambda: one.value("partitions") == two.value("partitions") == 1)
        send_until(lambda: one.value("partitions") == 2)  # once the session of the second is over
        got = cluster.read(shared.topics.decisions, sent)
    assert sorted(ids(got)) == sorted(f"t-{n}" for n in range(sent))
    assert other.transactions
    assert ledger.transactions + other.transactions == sent


def test_a_batch_of_a_generation_that_is_over_is_read_again(cluster, ledger, monkeypatch):
    """The broker refuses to commit what a member read before partitions were shared out anew; it is decided once."""
    monkeypatch.setattr("tollgate.stream.worker.RETRY_S", 0.05)
    settings = cluster.topics()
    rows = [payment(n) for n in range(50)]
    with working(settings, ledger) as one:
        wait_for(lambda: one.value("partitions") == 4)
        stranger = Consumer({
            "bootstrap.servers": settings.bootstrap, "group.id": settings.group, "session.timeout.ms": 6000,
            "partition.assignment.strategy": "range",
        })  # fmt: skip
        cluster.fill(settings.topics.transactions, rows[:10])
        wait_for(lambda: one.value("records_total", result="decided") == 10)
        stale = one.subscription._group
        stranger.subscribe([settings.topics.transactions])
        wait_for(lambda: stranger.poll(0.05) is None and stranger.assignment())
        stranger.close()
        wait_for(lambda: one.value("partitions") == 4)
        one.subscription._group = stale  # as if it had been asked for before
        cluster.fill(settings.topics.transactions, rows[10:])
        got = cluster.read(settings.topics.decisions, len(rows))
        assert one.value("commits_total", result="failed") == 1
    assert sorted(ids(got)) == sorted(row["transaction_id"] for row in rows)
    assert ledger.transactions == len(rows)


def test_a_topic_that_is_not_there_is_waited_for(cluster, ledger, monkeypatch, caplog):
    """The worker says which topic is missing, and can be stopped while it waits."""
    monkeypatch.setattr("tollgate.stream.worker.RETRY_S", 0.05)
    settings = cluster.topics()
    absent = msgspec.structs.replace(settings.topics, decisions="nowhere")
    with working(msgspec.structs.replace(settings, topics=absent), ledger) as one:
        wait_for(lambda: "there is no nowhere; create it" in caplog.text)
    assert one.worker.failure is None


def test_every_record_is_as_its_published_schema_says(cluster, ledger):
    """Decisions, alerts and dead letters are valid under the schemas, and so are the examples of what is read."""
    settings = cluster.topics(partitions=1)
    topics = settings.topics
    schemas = stream_schemas(payment_schema(), Money("EUR"), topics)
    assert schemas.keys() == set(topics.names)
    check = {topic: Draft202012Validator(schema) for topic, schema in schemas.items()}
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    rows = [payment(1), payment(2, amount=900.0)]
    label = {"transaction_id": "t-1", "is_fraud": True, "available_us": 1, "source": "analyst"}
    for row in rows:
        check[topics.transactions].validate(row)
    check[topics.labels].validate(label)
    assert list(check[topics.labels].iter_errors(label | {"source": "rumour"}))
    cluster.fill(topics.transactions, [*rows, b"{"])
    with working(settings, ledger):
        for topic, count in ((topics.decisions, 2), (topics.alerts, 1), (topics.dead_letters, 1)):
            for got in cluster.read(topic, count):
                check[topic].validate(got.value)
