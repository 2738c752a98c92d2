"""The server as a process: killed, stopped, started again, and asked the same."""

import json
import signal

import numpy as np
import polars as pl

from cli.running import serving, tollgate
from tollgate.ledger import Ledger
from tollgate.simulate import payloads


def bodies(folder, count):
    frame = pl.read_parquet(folder / "payments.parquet").tail(count)
    return [json.loads(body) for body in payloads(frame)]


def test_after_kill_9_the_same_id_gets_the_same_decision_and_counters_are_as_if_it_had_never_died(workspace, tmp_path):
    rows = bodies(workspace, 300)
    tollgate("import", "payments.parquet", "--before", "2d", cwd=workspace)
    history = Ledger(f"sqlite:///{workspace}/tollgate.db", write=False)
    recorded = history.transactions
    history.close()
    rows = [row for row in rows if not history_has(workspace, row["transaction_id"])]
    half = len(rows) // 2
    with serving(cwd=workspace) as server:
        answers = [server.predict(row)[1] for row in rows[:half]]
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    with serving(cwd=workspace) as server:
        assert server.get("/health")["ledger_transactions"] == recorded + half
        assert [server.predict(row)[1] for row in rows[:half]] == answers
        assert server.get("/health")["features"]["transactions"] == recorded + half
        answers += [server.predict(row)[1] for row in rows[half:]]
        interrupted = counted(server)
    uninterrupted = tmp_path / "uninterrupted"
    uninterrupted.mkdir()
    for name in ("bundles", "payments.parquet", "tollgate.toml"):
        (uninterrupted / name).symlink_to(workspace / name)
    tollgate("import", "payments.parquet", "--before", "2d", cwd=uninterrupted)
    with serving(cwd=uninterrupted) as server:
        assert [server.predict(row)[1] for row in rows] == answers
        assert counted(server) == interrupted


def counted(server):
    """What is counted; how much memory idle entities still take is chance."""
    features = server.get("/health")["features"]
    return features["transactions"], features["late_events"]


def history_has(folder, identifier):
    with Ledger(f"sqlite:///{folder}/tollgate.db", write=False) as ledger:
        return bool(ledger.find([identifier]))


def test_sigterm_finishes_what_was_begun_and_ends_with_0(workspace):
    with serving(cwd=workspace) as server:
        status, _ = server.predict(bodies(workspace, 500))
        assert status == 200
        server.process.terminate()
        assert server.process.wait(30) in (0, -signal.SIGTERM)
    with Ledger(f"sqlite:///{workspace}/tollgate.db", write=False) as ledger:
        assert ledger.transactions == 500


def test_a_port_in_use_and_a_ledger_in_use_are_told_apart(workspace):
    with serving(cwd=workspace) as server:
        port = server.url.rsplit(":", 1)[1]
        assert "another process writes the ledger" in tollgate("serve", "--port", 0, cwd=workspace, expect=5)
        (workspace / "other.toml").write_text('[ledger]\nurl = "sqlite:///other.db"\n')
        printed = tollgate("serve", "--port", port, "--config", "other.toml", cwd=workspace, expect=5)
        assert f"could not listen on 127.0.0.1:{port}" in printed


def test_bad_requests_over_a_real_socket_get_their_codes(workspace):
    good = bodies(workspace, 1)[0]
    with serving(cwd=workspace) as server:
        for body, status, code in (
            (b"{", 400, "invalid_json"),
            (good | {"colour": 1}, 422, "unknown_field"),
            (good | {"amount": "ten"}, 422, "wrong_type"),
            (good | {"currency": "XXY"}, 422, "unknown_currency"),
            (good | {"effective_time": "2026-01-01T00:00:00"}, 422, "no_zone"),
            ([good, good], 422, "duplicate_id"),
            (b'"' + b"x" * 5_000_000 + b'"', 413, "body_too_large"),
        ):
            got, answer = server.predict(body)
            assert (got, answer["error"]["code"]) == (status, code)
        assert server.predict(good)[0] == 200
        assert server.predict(good | {"amount": 1.0})[0] == 409
        assert np.sum(list(server.get("/health")["decisions"].values())) == 1


def test_a_backfill_beside_a_running_server_and_a_stop_leave_states_that_the_next_start_takes_up(
    workspace, monkeypatch
):
    from cli import running

    monkeypatch.setitem(running.ENVIRONMENT, "TOLLGATE_HASH_KEY", "a secret of enough bytes")
    rows = bodies(workspace, 60)
    with serving(cwd=workspace) as server:
        server.predict(rows[:30])
        printed = tollgate("backfill", cwd=workspace)
        assert "after 30 transactions" in printed
        answers = server.predict(rows[30:])[1]
    (state,) = workspace.glob("tollgate.db.*.state")
    with serving(cwd=workspace) as server:
        assert server.get("/health")["features"]["transactions"] == 60
        assert server.predict(rows[30:])[1] == answers
    log = (workspace / "server.log").read_text()
    assert "snapshot" not in log.split("ready: bundle")[-1]
    state.write_bytes(b"damaged")
    with serving(cwd=workspace) as server:
        assert server.get("/health")["features"]["transactions"] == 60
    assert "rebuild the state from the ledger" in (workspace / "server.log").read_text()


def test_a_backfill_without_a_lasting_key_says_what_is_missing(workspace, monkeypatch):
    from cli import running

    monkeypatch.delitem(running.ENVIRONMENT, "TOLLGATE_HASH_KEY", raising=False)
    assert "TOLLGATE_HASH_KEY" in tollgate("backfill", cwd=workspace, expect=2)
