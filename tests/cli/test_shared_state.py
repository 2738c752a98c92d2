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
