"""The engine on a server of Redis against the one in memory and the obvious one: the same bits."""

import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import redis_servers
from features.streams import ROWS, SCHEMA, batch_of, timed
from features.test_engine import (
    CARD,
    DEVICE,
    EXACT,
    EXACT_PLAN,
    NEAR_PLAN,
    PAIR,
    SMALL,
    arriving,
    bits,
    expected,
    observed,
    payment,
)
from tollgate.errors import ConfigError, StateError
from tollgate.features import FeatureEngine, tx
from tollgate.features.declaration import to_data
from tollgate.features.plan import compile_plan
from tollgate.features.port import transaction_hashes
from tollgate.features.shared.backlog import RESENT_S
from tollgate.features.shared.engine import SharedEngine
from tollgate.features.shared.servers import Address

PATIENT_S = 5.0  # no answer of a test's server may be late
PAUSE_MS, SHORT_S = 3000, 1.0  # of a server that does not answer, and for an answer that is not to come
LABELLESS = EXACT_PLAN.select("fraud" not in name for name in EXACT_PLAN.names)
DRAWN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HOUR_US = 3_600_000_000


def engine_on(server, plan, writer="0", *, clock_s=time.monotonic, timeout_s=PATIENT_S, **options):
    return SharedEngine(plan, Address((server.url,), timeout_s=timeout_s), "test", writer, clock_s, **options)


def empty(server):
    server.client.flushall()


def shared(server, plan, rows):
    """What the shared engine says, labels interleaved."""
    empty(server)
    engine, batch, parts = engine_on(server, plan), batch_of(rows), []
    for i in range(len(rows)):
        for available_us, about in arriving(rows, i):
            one = batch.take(slice(about, about + 1))
            engine.learn(one.keys, np.array([available_us]), transaction_hashes(one.ids))
        parts.append(engine.observe(batch.take(slice(i, i + 1))))
    assert engine.lacked() == ()
    engine.close()
    return np.concatenate(parts)


def differing(plan, got, want):
    wrong = np.argwhere(bits(got) != bits(want))
    return [(int(row), plan.names[f], got[row, f], want[row, f]) for row, f in wrong[:5]]


@DRAWN
@given(ROWS)
def test_every_operator_equals_the_engine_in_memory_and_the_oracle_bit_for_bit(server, drawn):
    """Ties, late transactions, missing values, filters and labels go through all three."""
    rows = timed(drawn)
    got = shared(server, EXACT_PLAN, rows)
    assert not differing(EXACT_PLAN, got, observed(EXACT_PLAN, rows))
    assert not differing(EXACT_PLAN, got, expected(EXACT, rows))


@DRAWN
@given(ROWS)
def test_sums_and_deviations_of_any_numbers_round_as_they_do_in_memory(server, drawn):
    """What is kept as two floats has the same two floats on the server."""
    rows = timed(drawn)
    assert not differing(NEAR_PLAN, shared(server, NEAR_PLAN, rows), observed(NEAR_PLAN, rows))


@DRAWN
@given(ROWS, st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_features_do_not_depend_on_batches_nor_on_which_replica_has_them(server, drawn, sizes):
    """Two replicas that take turns with batches of any size give what one engine in memory does."""
    empty(server)
    batch = batch_of(timed(drawn))
    replicas = [engine_on(server, EXACT_PLAN, name) for name in "ab"]
    parts, start = [], 0
    for turn, size in enumerate([*sizes, len(batch)]):
        parts.append(replicas[turn % 2].observe(batch.take(slice(start, start + size))))
        start += size
    assert not differing(EXACT_PLAN, np.concatenate(parts), FeatureEngine(EXACT_PLAN, SMALL).observe(batch))
    assert sum(one.observed for one in replicas) == len(batch)
    for one in replicas:
        one.close()


@DRAWN
@given(ROWS, st.data())
def test_what_comes_again_gets_the_features_of_then_and_is_not_counted_again(server, drawn, data):
    """Repeats of any earlier transactions, from the same replica or another, change nothing."""
    empty(server)
    batch = batch_of(timed(drawn))
    want = FeatureEngine(LABELLESS, SMALL).observe(batch)
    replicas = [engine_on(server, LABELLESS, name, repeat_us=365 * 24 * HOUR_US) for name in "ab"]
    for row in range(len(batch)):
        again = data.draw(st.lists(st.integers(0, row), max_size=3))
        order = np.array([row, *again], dtype=np.int64)
        got = replicas[row % 2].observe(batch.take(order))
        assert not differing(LABELLESS, got, want[order])
    for one in replicas:
        one.close()


def test_many_transactions_of_one_card_in_one_batch_see_each_other(server):
    """Calls of a pipeline run in order, also over more round trips than one."""
    empty(server)
    plan = compile_plan([*CARD.count(over=["1m", "7d"]), PAIR.sum(tx.amount, over="1d")], SCHEMA, 100.0)
    batch = batch_of([payment(i // 3, amount=100.0 * i, device=7) for i in range(700)])
    got = engine_on(server, plan).observe(batch)
    assert not differing(plan, got, FeatureEngine(plan, SMALL).observe(batch))
    assert got[-1, 1] == 699


def test_an_entity_holds_no_more_than_its_windows_do(server):
    """Blocks, ids and told-apart values leave with the events, and the server forgets an entity by itself."""
    empty(server)
    plan = compile_plan([CARD.count(over="1m"), CARD.distinct(tx.amount, over="30s")], SCHEMA, 100.0)
    engine = engine_on(server, plan, repeat_us=60_000_000)
    engine.observe(batch_of([payment(i, amount=float(i)) for i in range(2000)]))
    (key,) = server.client.keys("*:{????????????????}")
    fields = server.client.hkeys(key)
    kinds = [field[:1] for field in fields]
    assert kinds.count(b"r") == 1
    assert kinds.count(b"b") <= 9
    assert kinds.count(b"i") == 60
    assert kinds.count(b"d") == 30
    assert 0 < server.client.pttl(key) <= 120_000


def test_labels_that_look_alike_count_each_and_one_that_comes_again_does_not(server):
    """Two transactions of one card may become known as fraud at one moment."""
    empty(server)
    plan = compile_plan([CARD.fraud_count(over="7d")], SCHEMA, 100.0)
    engine, batch = engine_on(server, plan), batch_of([payment(0), payment(1)])
    engine.observe(batch)
    for _ in range(3):
        engine.learn(batch.keys, np.array([payment(5)["effective_time"]] * 2), transaction_hashes(batch.ids))
    assert engine.observe(batch_of([payment(10)]).take(slice(0, 1)))[0, 0] == 2


def test_a_server_that_does_not_answer_costs_features_but_no_counts(server):
    """What could not be applied is applied later, in order, and then nothing differs."""
    empty(server)
    now = [0.0]
    engine = engine_on(server, EXACT_PLAN, clock_s=lambda: now[0], timeout_s=SHORT_S)
    batch = batch_of([{**payment(i * 40, card=i % 3 + 1, device=7, amount=50.0 * i)} for i in range(60)])
    want = FeatureEngine(EXACT_PLAN, SMALL).observe(batch)
    before = engine.observe(batch.take(slice(0, 20)))
    assert not differing(EXACT_PLAN, before, want[:20])
    server.client.client_pause(PAUSE_MS, all=True)
    during = [engine.observe(batch.take(slice(i, i + 1))) for i in range(20, 40)]
    reads_history = ["entity" in str(to_data(feature)) for feature in EXACT]
    assert engine.lacked() == tuple(name for name, reads in zip(EXACT_PLAN.names, reads_history, strict=True) if reads)
    static = np.flatnonzero(~np.array(reads_history))
    assert len(static) > 5
    assert not differing(
        EXACT_PLAN.select(~np.array(reads_history)), np.concatenate(during)[:, static], want[20:40][:, static]
    )
    assert np.isnan(np.concatenate(during)[:, EXACT_PLAN.names.index("card_count_7d")]).all()
    assert engine.behind == 20
    assert engine.is_open
    server.client.ping()  # the pause is over
    now[0] += 10.0
    after = engine.observe(batch.take(slice(40, 60)))
    assert engine.lacked() == ()
    assert engine.behind == 0
    assert not differing(EXACT_PLAN, after, want[40:])


def test_more_than_may_wait_is_left_to_the_ledger(server):
    """Rather than going on without some transactions, the engine stays without histories until a new start."""
    empty(server)
    now = [0.0]
    plan = compile_plan([CARD.count(over="7d"), tx.amount], SCHEMA, 100.0)
    engine = engine_on(server, plan, clock_s=lambda: now[0], timeout_s=SHORT_S, max_behind=5)
    batch = batch_of([payment(i) for i in range(20)])
    engine.observe(batch.take(slice(0, 4)))
    server.client.client_pause(PAUSE_MS, all=True)
    engine.observe(batch.take(slice(4, 12)))
    server.client.ping()
    now[0] += 10.0
    got = engine.observe(batch.take(slice(12, 13)))
    assert np.isnan(got[0, 0])
    assert got[0, 1] == 1.0
    with pytest.raises(StateError, match="lacks transactions"):
        engine.settle()
    again = engine_on(server, plan)
    position = again.resume()
    assert position <= 4
    caught_up = again.observe(batch.take(slice(position, 13)))
    assert caught_up[-1, 0] == 12


def test_a_writer_goes_on_where_it_stopped(server):
    """The position is that of the record, the clock that of all; what a failover could still have lost is not in it."""
    empty(server)
    now = [0.0]
    plan = compile_plan([CARD.count(over="7d")], SCHEMA, 100.0)
    engine, batch = engine_on(server, plan, "a", clock_s=lambda: now[0]), batch_of([payment(i) for i in range(12)])
    for start, stop, number in ((0, 9, 109), (9, 10, 112), (10, 11, 113)):
        engine.observe(batch.take(slice(start, stop)))
        engine.recorded(stop, number)
        now[0] += RESENT_S / 2
    again, other = engine_on(server, plan, "a"), engine_on(server, plan, "b")
    assert again.resume() in (0, 109)
    now[0] += RESENT_S / 2
    engine.observe(batch.take(slice(11, 12)))
    assert (again.resume(), other.resume()) == (109, None)
    assert again.clock_us == other.clock_us == payment(11)["effective_time"]
    assert again.observe(batch.take(slice(9, 12)))[:, 0].tolist() == [9, 10, 11]


def test_a_writer_that_ends_well_leaves_nothing_in_doubt(server):
    """Another, of the same name or of none that is known, has nothing to apply again."""
    empty(server)
    plan = compile_plan([CARD.count(over="7d")], SCHEMA, 100.0)
    engine, again = engine_on(server, plan, "a"), engine_on(server, plan, "a")
    engine.observe(batch_of([payment(i) for i in range(9)]))
    engine.recorded(9, 209)
    engine.close()
    assert again.resume() == 209
    assert again.writers.standing() == (None, {"a": 209})


def test_a_state_that_was_filled_anew_is_not_taken_for_the_one_before(server):
    """A writer that slept meanwhile does not go on with what it knows of the old one."""
    empty(server)
    plan = compile_plan([CARD.count(over="7d")], SCHEMA, 100.0)
    asleep, batch = engine_on(server, plan, "a"), batch_of([payment(i) for i in range(9)])
    asleep.observe(batch.take(slice(0, 3)))
    empty(server)
    other = engine_on(server, plan, "b")
    other.observe(batch.take(slice(3, 6)))
    asleep.observe(batch.take(slice(6, 9)))
    assert asleep.lacked() == plan.names
    with pytest.raises(StateError, match="start again"):
        asleep.settle()
    asleep.close()
    assert other.writers.standing().positions == {"b": 0}


def test_a_server_that_was_emptied_or_has_lost_its_functions_is_made_ready_again(server):
    """No operator has to load anything."""
    empty(server)
    plan = compile_plan([CARD.count(over="7d")], SCHEMA, 100.0)
    engine, batch = engine_on(server, plan), batch_of([payment(i) for i in range(3)])
    engine.observe(batch.take(slice(0, 1)))
    server.client.function_flush()
    assert engine.observe(batch.take(slice(1, 2)))[0, 0] == 1
    server.client.client_kill_filter(_type="normal", skipme=True)
    assert engine.observe(batch.take(slice(2, 3)))[0, 0] == 2
    assert engine.lacked() == ()


RIGHTS = ("~tollgate_*", "+fcall", "+function|load", "+get", "+set", "+hget", "+hmget", "+hgetall", "+hset", "+hdel",
          "+pexpire", "+time", "+scan", "+unlink", "+info", "+wait", "+cluster|slots")  # fmt: skip


def test_a_user_needs_no_more_rights_than_those_in_the_docs(server):
    """From an empty server to a removed state; docs/scaling.md names them."""
    assert " ".join(RIGHTS) in (Path(__file__).parents[3] / "docs" / "scaling.md").read_text()
    empty(server)
    server.client.acl_setuser("tollgate", enabled=True, passwords=["+secret"], reset=True)
    server.client.execute_command("ACL", "SETUSER", "tollgate", *RIGHTS)
    plan = compile_plan([CARD.count(over="7d"), DEVICE.is_new_for(CARD), *CARD.fraud_count(over=["7d"])], SCHEMA, 100.0)
    url = server.url.replace("://", "://tollgate:secret@")
    engine = SharedEngine(plan, Address((url,), timeout_s=2.0), "test", "a", time.monotonic)
    engine.clear()
    engine.resume()
    batch = batch_of([payment(i, device=7) for i in range(9)])
    engine.observe(batch)
    engine.learn(batch.keys[:, :1], batch.time_us[:1], transaction_hashes(batch.ids[:1]))
    engine.settle()
    engine.writers.fill_ends(9)
    engine.writers.forget("a")
    engine.close()
    assert engine.lacked() == ()
    assert engine_on(server, plan).writers.standing().filled == 9


def test_a_server_is_spoken_to_over_tls_and_its_certificate_is_checked(tmp_path, server):
    """`rediss://`; whose authority is not known is not sent a payment."""
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2", "-nodes",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    port = redis_servers.free_port()
    one = redis_servers.Server(
        tmp_path / "redis", "--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", key,
        "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no",
    )  # fmt: skip
    try:
        plan, url = compile_plan([CARD.count(over="7d")], SCHEMA, 100.0), f"rediss://localhost:{port}"
        batch = batch_of([payment(i) for i in range(3)])
        strict = SharedEngine(plan, Address((url,), timeout_s=PATIENT_S), "test", "a", time.monotonic)
        with pytest.raises(StateError, match="CERTIFICATE_VERIFY_FAILED"):
            strict.resume()
        known = Address((f"{url}?ssl_ca_certs={certificate}",), timeout_s=PATIENT_S)
        engine = SharedEngine(plan, known, "test", "a", time.monotonic)
        assert engine.observe(batch)[:, 0].tolist() == [0, 1, 2]
        engine.close()
    finally:
        one.stop()


def test_a_server_that_may_forget_is_refused(server):
    """Eviction would lose counts without a word."""
    empty(server)
    plan = compile_plan([CARD.count(over="7d")], SCHEMA, 100.0)
    server.client.config_set("maxmemory-policy", "allkeys-lru")
    server.client.config_set("maxmemory", "100mb")
    try:
        engine = engine_on(server, plan)
        engine.observe(batch_of([payment(0)]))
        assert engine.lacked() == ("card_count_7d",)
        with pytest.raises(StateError, match="expected maxmemory-policy noeviction"):
            engine.settle()
    finally:
        server.client.config_set("maxmemory", "0")
        server.client.config_set("maxmemory-policy", "noeviction")


def test_a_full_server_refuses_and_counts_nothing_twice_when_it_has_room_again(server):
    """Out of memory is an answer like none: the batch waits."""
    empty(server)
    now = [0.0]
    plan = compile_plan([CARD.count(over="7d"), DEVICE.is_new_for(CARD)], SCHEMA, 100.0)
    engine = engine_on(server, plan, clock_s=lambda: now[0])
    batch = batch_of([payment(i, device=7) for i in range(4)])
    engine.observe(batch.take(slice(0, 2)))
    server.client.config_set("maxmemory", "1")
    try:
        engine.observe(batch.take(slice(2, 3)))
    finally:
        server.client.config_set("maxmemory", "0")
    assert engine.lacked() == plan.names
    now[0] += 10.0
    assert engine.observe(batch.take(slice(3, 4))).tolist() == [[3.0, 0.0]]


def test_several_servers_that_are_no_cluster_are_a_mistake():
    """Entities would be split by nothing."""
    with pytest.raises(ConfigError, match="cluster = true"):
        SharedEngine(EXACT_PLAN, Address(("redis://a", "redis://b")), "test", "0", time.monotonic)


def test_a_server_that_lost_its_state_is_not_taken_for_one_without_history(tmp_path, server):
    """An empty server would count from 0; the engine goes without histories until the ledger has filled it."""
    one = redis_servers.Server(tmp_path)
    try:
        now = [0.0]
        plan = compile_plan([CARD.count(over="7d")], SCHEMA, 100.0)
        engine = engine_on(one, plan, clock_s=lambda: now[0])
        batch = batch_of([payment(i) for i in range(9)])
        engine.observe(batch.take(slice(0, 5)))
        one.kill()
        one.start()
        engine.observe(batch.take(slice(5, 7)))
        assert engine.lacked() == plan.names
        now[0] += 10.0
        engine.observe(batch.take(slice(7, 8)))
        assert engine.lacked() == plan.names
        assert not one.client.keys("*")
        again = engine_on(one, plan)
        assert again.resume() is None
        assert again.observe(batch)[-1, 0] == 8
    finally:
        one.stop()


def test_a_state_that_is_partly_lost_is_begun_anew_only_on_request(server):
    """A shard of a cluster may come back empty while the others have theirs."""
    empty(server)
    plan = compile_plan([CARD.count(over="7d")], SCHEMA, 100.0)
    engine, batch = engine_on(server, plan), batch_of([payment(i) for i in range(9)])
    engine.observe(batch)
    server.client.delete(*server.client.keys("*:{7}"))
    again = engine_on(server, plan)
    with pytest.raises(StateError, match="backfill --anew"):
        again.resume()
    again.clear()
    assert again.resume() is None
    assert again.observe(batch)[-1, 0] == 8


def test_what_a_replica_did_not_have_when_it_took_over_is_sent_again_in_order(server):
    """Its state goes back by some transactions; the next batch has the bits of a run without a failover."""
    empty(server)
    batch = batch_of([{**payment(i * 9, card=i % 4 + 1, device=i % 3 + 7, amount=50.0 * i)} for i in range(120)])
    want = FeatureEngine(LABELLESS, SMALL).observe(batch)
    engine = engine_on(server, LABELLESS, clock_s=lambda: 0.0)
    engine.observe(batch.take(slice(0, 50)))
    before = {key: server.client.dump(key) for key in server.client.keys("*")}
    engine.observe(batch.take(slice(50, 80)))
    server.client.delete(*server.client.keys("*"))
    for key, value in before.items():
        server.client.restore(key, 0, value)
    server.client.client_kill_filter(_type="normal", skipme=True)
    assert not differing(LABELLESS, engine.observe(batch.take(slice(80, 120))), want[80:])
    assert engine.lacked() == ()
