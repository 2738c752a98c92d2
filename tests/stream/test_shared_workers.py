"""Workers that share a ledger and a feature state: a partition may go to any of them, and its cards keep their past."""

import json
import shutil
import signal

import numpy as np
import polars as pl
import pytest

from benchmarks import redis_servers
from cli.running import serving
from services import lack
from stream.running import configure, streaming, until
from tollgate.bundle import Registry
from tollgate.cli.wiring import plan_of
from tollgate.features import FeatureEngine
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger
from tollgate.simulate import payloads

ROWS = 2400
KEY = "a secret of the test of 32 bytes"
STATE = """
[state]
engine = "redis"

[state.redis]
urls = ["{url}"]
timeout_ms = 5000
repeat = "60d"  # the payments of weeks come within seconds
"""


@pytest.fixture
def redis_server(tmp_path):
    if not redis_servers.installed():
        lack("redis", f"needs {redis_servers.PACKAGE}")
    one = redis_servers.Server(tmp_path / "redis")
    yield one
    one.stop()


def named(name):
    return {"TOLLGATE_HASH_KEY": KEY, "TOLLGATE_WRITER": name}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_partition_whose_worker_is_killed_goes_on_elsewhere_with_the_past_of_its_cards(
    cluster, trained, tmp_path, redis_server, postgres_server
):
    """No decision twice, no record without one, and no window that begins anew; HTTP answers from the same record."""
    shutil.copytree(trained / "bundles", tmp_path / "bundles")
    settings, url = cluster.topics(partitions=2), postgres_server.ledger()
    ledger = f'url = "{url}"\nshared = true'
    configure(tmp_path, settings, ledger=ledger, more=STATE.format(url=redis_server.url))
    sent = list(payloads(pl.read_parquet(trained / "payments.parquet").tail(ROWS)))
    with streaming(tmp_path, named("two")) as two:
        with streaming(tmp_path, named("one")) as one:
            for worker in (one, two):
                until(lambda: "tollgate_stream_partitions 2.0" in worker.get("/metrics"))  # noqa: B023
            for partition in range(2):  # by card, so that a card stays in one partition
                of_it = [body for body in sent if sum(json.loads(body)["card_id"].encode()) % 2 == partition]
                cluster.fill(settings.topics.transactions, of_it, partition=partition)
            until(lambda: min(cluster.committed(settings).values()) > 0)
            one.process.send_signal(signal.SIGKILL)
            one.process.wait()
        assert sum(cluster.committed(settings).values()) < ROWS
        until(lambda: sum(cluster.committed(settings).values()) >= ROWS)
        with streaming(tmp_path, named("one")) as one:  # else what it had not committed is open for a minute
            until(lambda: json.loads(one.get("/health"))["status"] == "ready")
    decisions = cluster.read(settings.topics.decisions, ROWS)
    ids = sorted(json.loads(body)["transaction_id"] for body in sent)
    assert sorted(one.key for one in decisions) == ids
    bundle = Registry(tmp_path / "bundles").load()
    plan, reader = plan_of(bundle), TransactionReader(bundle.manifest.schema_, bundle.manifest.money, KEY.encode())
    of_cards = [place for place, name in enumerate(plan.names) if name.startswith("card_") and "merchant" not in name]
    with Ledger(url, write=False) as record:
        rows = [(name, decision, features) for name, decision, features in record.decided()]
        bodies = [one.body for part in record.replay() for one in part]
    assert sorted(name for name, _, _ in rows) == ids
    assert {one.key: one.value["score"] for one in decisions} == {name: decision.score for name, decision, _ in rows}
    want = FeatureEngine(plan).observe(reader.from_bodies(bodies))[:, of_cards]
    got = np.array([np.frombuffer(features, dtype="<f8") for _, _, features in rows])[:, of_cards]
    assert np.array_equal(got, want, equal_nan=True)
    with serving(cwd=tmp_path, env=named("three")) as server:
        status, again = server.predict(json.loads(sent[-1]))
    assert (status, again["score"]) == (
        200,
        next(one.score for name, one, _ in rows if name == again["transaction_id"]),
    )
