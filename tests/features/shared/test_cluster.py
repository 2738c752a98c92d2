"""The same on a cluster: entities are spread, primaries die under load, slots move, and no count is wrong."""

import time

import numpy as np

from features.shared.test_shared_engine import differing
from features.streams import batch_of
from features.test_engine import EXACT_PLAN, payment
from tollgate.features import FeatureEngine
from tollgate.features.shared.engine import SharedEngine
from tollgate.features.shared.servers import Address

TIMEOUT_S = 3.0
LARGE = 2**28  # bytes for the engine in memory
LIMIT_S = 30.0  # for a replica to take over


def engine_on(cluster, clock_s=time.monotonic):
    address = Address(cluster.urls, cluster=True, timeout_s=TIMEOUT_S)
    return SharedEngine(EXACT_PLAN, address, "test", "0", clock_s)


def stream(count):
    return batch_of([
        {**payment(i * 7, card=i % 31 + 1, device=i % 5 + 100, amount=50.0 * i)} for i in range(count)
    ])  # fmt: skip


def empty(cluster):
    for one in cluster.servers:
        if one.client.info("replication")["role"] == "master":
            one.client.flushall()


def test_entities_are_spread_over_the_primaries_and_the_bits_are_the_same(cluster):
    """One batch goes to all primaries in one round trip each."""
    empty(cluster)
    batch = stream(300)
    engine = engine_on(cluster)
    got = engine.observe(batch)
    assert engine.lacked() == ()
    assert not differing(EXACT_PLAN, got, FeatureEngine(EXACT_PLAN, LARGE).observe(batch))
    assert all(one.client.dbsize() > 10 for one in cluster.primaries)
    engine.close()


def test_what_a_url_says_of_a_connection_holds_for_all_primaries(cluster):
    """As the authority of a certificate, which is named in it."""
    empty(cluster)
    address = Address(tuple(f"{url}?client_name=scorer" for url in cluster.urls), cluster=True, timeout_s=TIMEOUT_S)
    engine = SharedEngine(EXACT_PLAN, address, "test", "0", time.monotonic)
    engine.observe(stream(300))
    for one in cluster.primaries:
        assert "scorer" in {each["name"] for each in one.client.client_list()}
    engine.close()


def test_a_slot_that_moves_to_another_primary_takes_its_entities_along(cluster):
    """A batch that comes to the old place is sent again to the new one, and counts once."""
    empty(cluster)
    batch = stream(200)
    want = FeatureEngine(EXACT_PLAN, LARGE).observe(batch)
    engine = engine_on(cluster)
    engine.observe(batch.take(slice(0, 100)))
    source, target = cluster.primaries[:2]
    key = next(one for one in source.client.scan_iter("*:{????????????????}"))
    slot = source.client.execute_command("CLUSTER", "KEYSLOT", key)
    names = [one.client.execute_command("CLUSTER", "MYID") for one in (source, target)]
    target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
    source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
    for moved in source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.client.execute_command("MIGRATE", "127.0.0.1", target.port, moved, 0, 5000)
    for one in (target, source, cluster.primaries[2]):
        one.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[1])
    got = engine.observe(batch.take(slice(100, 200)))
    assert engine.lacked() == ()
    assert not differing(EXACT_PLAN, got, want[100:])
    engine.close()


def test_a_primary_that_is_killed_under_load_costs_features_but_no_counts(cluster):
    """What was lost with it is sent again, what waited is applied in order, and every feature that came was right."""
    empty(cluster)
    batch = stream(4000)
    want = FeatureEngine(EXACT_PLAN, LARGE).observe(batch)
    engine = engine_on(cluster)
    position, degraded, killed, ends_s = 0, 0, None, time.monotonic() + LIMIT_S
    while position < 3800 and time.monotonic() < ends_s:
        part = slice(position, position + 4)
        if position == 400:
            killed = cluster.primary_of(next(cluster.primaries[0].client.scan_iter("*:{????????????????}")))
            killed.kill()
        got = engine.observe(batch.take(part))
        if engine.lacked():
            degraded += 1
            time.sleep(0.02)  # the load of a moment: the stream must not end before the failover
        else:
            assert not differing(EXACT_PLAN, got, want[part])
        position += 4
    killed.start()
    cluster.until_whole()
    engine.settle()
    rest = slice(position, 4000)
    got = engine.observe(batch.take(rest))
    assert degraded > 0
    assert engine.lacked() == ()
    assert (engine.observed, engine.behind) == (4000, 0)
    assert not differing(EXACT_PLAN, got, want[rest])
    assert np.isfinite(want[rest][:, EXACT_PLAN.names.index("card_count_7d")]).all()
    engine.close()
