"""The server as a process with its feature state on Redis: as a user sets it up."""

import json
import shutil

import polars as pl
import pytest

from benchmarks import redis_servers
from cli.running import serving, tollgate
from services import lack
from tollgate.simulate import payloads

KEY = {"TOLLGATE_HASH_KEY": "a secret of the test of 32 bytes"}
PASSWORD = "let me in"


@pytest.fixture
def server(tmp_path):
    if not redis_servers.installed():
        lack("redis", f"needs {redis_servers.PACKAGE}")
    one = redis_servers.Server(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always")
    one.client.config_set("requirepass", PASSWORD)
    yield one
    one.stop()


def bodies(folder, count):
    return [json.loads(body) for body in payloads(pl.read_parquet(folder / "payments.parquet").tail(count))]


def settings(server):
    return f'\n[state]\nengine = "redis"\n\n[state.redis]\nurls = ["{server.url}"]\ntimeout_ms = 5000\n'


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_on_a_shared_state_decides_as_one_in_memory_also_after_redis_was_killed(workspace, server):
    """The same answers; while Redis is away the score is missing, and so are the features that read history."""
    config = workspace / "tollgate.toml"
    config.write_text(config.read_text() + "\n[serve]\ndeadline_ms = 5000\n")  # the machine of a test is busy
    tollgate("import", "payments.parquet", "--before", "1d", cwd=workspace)
    rows = bodies(workspace, 24)
    embedded = workspace.parent / "embedded"
    shutil.copytree(workspace, embedded)
    with serving(cwd=embedded, env=KEY) as one:
        want = [one.predict(row)[1] for row in rows]
    config.write_text(config.read_text() + settings(server))
    env = KEY | {"TOLLGATE_REDIS_PASSWORD": PASSWORD}
    assert f"{server.url} holds the state" in tollgate("backfill", cwd=workspace, env=env)
    with serving(cwd=workspace, env=env) as one:
        assert [one.predict(row)[1] for row in rows[:10]] == want[:10]
        server.kill()
        degraded = one.predict(rows[10])[1]
        assert (degraded["mode"], degraded["score"]) == ("degraded", None)
        assert {"card_count_1h", "merchant_count_1d", "model"} < set(degraded["missing"])
        assert "amount" not in degraded["missing"]
        server.start(PASSWORD)
        later = [one.predict(row)[1] for row in rows[11:]]
        normal = [place for place, answer in enumerate(later) if answer["mode"] == "normal"]
        assert normal
        assert all(later[place] == want[11 + place] for place in normal)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_servers_share_one_ledger_and_one_state_under_names_of_their_own(workspace, server, postgres_server):
    """As on Kubernetes: any of them takes any payment, a repeat and a label, and one name belongs to one of them."""
    config = workspace / "tollgate.toml"
    config.write_text(config.read_text() + "\n[serve]\ndeadline_ms = 5000\n")
    rows = bodies(workspace, 24)
    tollgate("import", "payments.parquet", "--before", "1d", cwd=workspace)
    embedded = workspace.parent / "embedded"
    shutil.copytree(workspace, embedded)
    with serving(cwd=embedded, env=KEY) as one:
        want = [one.predict(row)[1] for row in rows]
    ledger = f'\n[ledger]\nurl = "{postgres_server.ledger()}"\nshared = true\n'
    config.write_text(config.read_text() + ledger + settings(server))
    env = KEY | {"TOLLGATE_REDIS_PASSWORD": PASSWORD}
    tollgate("import", "payments.parquet", "--before", "1d", cwd=workspace, env=env)
    assert " transactions" in tollgate("backfill", cwd=workspace, env=env)
    with (
        serving(cwd=workspace, env=env | {"TOLLGATE_WRITER": "pod-a"}) as one,
        serving(cwd=workspace, env=env | {"TOLLGATE_WRITER": "pod-b"}) as two,
    ):
        assert [(one, two)[place % 2].predict(row)[1] for place, row in enumerate(rows[:20])] == want[:20]
        assert [(two, one)[place % 2].predict(row)[1] for place, row in enumerate(rows[:20])] == want[:20]
        refused = tollgate("serve", "--port", "0", cwd=workspace, env=env | {"TOLLGATE_WRITER": "pod-a"}, expect=5)
        assert "another process named 'pod-a' writes the ledger" in refused
        assert "TOLLGATE_WRITER" in refused
        refused = tollgate("import", "payments.parquet", cwd=workspace, env=env, expect=5)
        assert "another process writes the ledger" in refused
        one.process.kill()
        one.process.wait()
        with serving(cwd=workspace, env=env | {"TOLLGATE_WRITER": "pod-c"}) as three:
            assert [three.predict(row)[1] for row in rows[18:22]] == want[18:22]
            assert [two.predict(row)[1] for row in rows[20:]] == want[20:]
    refused = tollgate("serve", cwd=workspace, env=env | {"TOLLGATE_WRITER": "pod d"}, expect=2)
    assert "TOLLGATE_WRITER: expected up to 63 letters" in refused
