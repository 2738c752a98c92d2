"""The worker as a process: killed, stopped, started again, watched."""

import json
import re
import shutil
import signal

import polars as pl
import pytest

from cli.running import tollgate
from stream.running import configure, streaming, until
from tollgate.ledger import Ledger
from tollgate.simulate import payloads

ROWS = 3000


@pytest.fixture
def workspace(trained, tmp_path):
    """A folder with the champion, in which a worker keeps its ledger."""
    shutil.copytree(trained / "bundles", tmp_path / "bundles")
    return tmp_path


def bodies(trained, count):
    return list(payloads(pl.read_parquet(trained / "payments.parquet").tail(count)))


def recorded(workspace):
    """Ids and decisions in the ledger, in order."""
    with Ledger(f"sqlite:///{workspace}/tollgate.db", write=False) as ledger:
        return {identifier: decision.score for identifier, decision, _ in ledger.decided()}, ledger.transactions


def test_after_kill_9_every_transaction_has_one_committed_decision_and_is_in_the_ledger_once(
    cluster, trained, workspace, tmp_path
):
    """Killed in the middle twice: nothing is lost, nothing is doubled, and the scores are those of a run without kills."""
    settings = cluster.topics(partitions=1)
    configure(workspace, settings)
    sent = bodies(trained, ROWS)
    bad = [b"{", b"[]"]
    cluster.fill(settings.topics.transactions, [*sent[: ROWS // 2], *bad, *sent[ROWS // 2 :]])
    for killed_after in (1, ROWS // 2):
        with streaming(workspace) as worker:
            until(lambda: cluster.committed(settings)[0] >= killed_after)  # noqa: B023
            worker.process.send_signal(signal.SIGKILL)
            worker.process.wait()
        assert cluster.committed(settings)[0] < ROWS
    with streaming(workspace) as worker:
        until(lambda: "tollgate_stream_lag" in worker.get("/metrics") and cluster.committed(settings)[0] >= ROWS + 2)
        assert worker.process.poll() is None
    ids = sorted(json.loads(body)["transaction_id"] for body in sent)
    decisions = cluster.read(settings.topics.decisions, ROWS)
    scores, transactions = recorded(workspace)
    assert sorted(one.key for one in decisions) == ids
    assert sorted(scores) == ids
    assert transactions == ROWS
    assert {one.key: one.value["score"] for one in decisions} == scores
    assert len(cluster.read(settings.topics.dead_letters, 2)) == 2

    uninterrupted = tmp_path / "uninterrupted"
    uninterrupted.mkdir()
    (uninterrupted / "bundles").symlink_to(workspace / "bundles")
    again = cluster.topics(partitions=1)
    configure(uninterrupted, again)
    cluster.fill(again.topics.transactions, sent)
    with streaming(uninterrupted):
        got = cluster.read(again.topics.decisions, ROWS)
    assert {one.key: one.value["score"] for one in got} == scores


def test_sigterm_finishes_the_batch_at_hand_and_ends_with_0(cluster, trained, workspace):
    """What is in the ledger is committed, and what is committed is in the ledger."""
    settings = cluster.topics(partitions=1)
    configure(workspace, settings)
    cluster.fill(settings.topics.transactions, bodies(trained, ROWS))
    with streaming(workspace) as worker:
        until(lambda: cluster.committed(settings)[0] > 0)
        worker.process.terminate()
        assert worker.process.wait(30) == 0
    _, transactions = recorded(workspace)
    assert 0 < transactions < ROWS
    assert len(cluster.read(settings.topics.decisions, transactions)) == transactions


def test_health_and_metrics_are_on_the_internal_port(cluster, trained, workspace):
    """The worker is ready once it decides, and its lag, records and outcomes are there to be scraped."""
    settings = cluster.topics(partitions=1)
    configure(workspace, settings)
    cluster.fill(settings.topics.transactions, [*bodies(trained, 100), b"{"])
    with streaming(workspace) as worker:
        until(lambda: 'tollgate_stream_records_total{result="dead_letter"} 1.0' in worker.get("/metrics"))
        until(lambda: f'lag{{partition="0",topic="{settings.topics.transactions}"}} 0.0' in worker.get("/metrics"))
        metrics = worker.get("/metrics")
        assert 'tollgate_stream_records_total{result="decided"} 100.0' in metrics
        assert 'tollgate_stream_dead_letters_total{code="invalid_json"} 1.0' in metrics
        assert "tollgate_ledger_transactions 100.0" in metrics
        until(lambda: json.loads(worker.get("/health"))["status"] == "ready")


def test_a_wrong_setting_is_told_and_ends_the_command(workspace):
    """Settings that the client does not know, and those that exactly once depends on, are errors of configuration."""
    for table, said in (
        ('client = { "no.such.setting" = 1 }', "No such configuration property"),
        ('consumer = { "enable.auto.commit" = true }', "exactly once depends"),
        ('client = { "sasl.password" = "${NOT_SET_ANYWHERE}" }', "expected NOT_SET_ANYWHERE in the environment"),
        ('topics = { decisions = "alerts" }', "expected different topics"),
    ):
        (workspace / "tollgate.toml").write_text(f"[stream]\n{table}\n")
        assert said in " ".join(tollgate("stream", cwd=workspace, expect=2).split())


def test_the_command_is_listed_and_the_schemas_can_be_printed(workspace):
    """The help names the command, which prints a schema for each topic, without a broker."""
    assert re.search(r"^\W*stream\s", tollgate("--help", cwd=workspace), re.MULTILINE)
    (workspace / "tollgate.toml").write_text('[stream.topics]\nlabels = "verdicts"\n')
    printed = json.loads(tollgate("stream", "--schemas", cwd=workspace))
    assert [printed[topic]["title"] for topic in printed] == ["Transaction", "Decision", "Alert", "DeadLetter", "Label"]
    assert "verdicts" in printed
