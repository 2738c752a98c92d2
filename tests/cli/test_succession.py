"""A running server: another champion, other lists, rules and keys, a challenger beside it; nothing is restarted."""

import json
import threading
import time
from itertools import groupby
from pathlib import Path

import polars as pl
import pytest

from cli.running import serving, tollgate
from cli.variants import other_features, variant
from tollgate.bundle import MODEL, Registry
from tollgate.config import PolicyConfig
from tollgate.ledger import Ledger
from tollgate.simulate import payloads

WITHIN_S = 30.0


def bodies(workspace, count):
    frame = pl.read_parquet(workspace / "payments.parquet").tail(count)
    return [json.loads(body) for body in payloads(frame)]


def until(true, what):
    end = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Traffic(threading.Thread):
    """Sends payments one after the other until it is told to stop; keeps statuses and who decided."""

    def __init__(self, server, rows):
        super().__init__()
        self.server, self.rows = server, iter(rows)
        self.statuses, self.bundles = [], []
        self.stopped = threading.Event()

    def run(self):
        for row in self.rows:
            if self.stopped.is_set():
                return
            status, answer = self.server.predict(row)
            self.statuses.append(status)
            self.bundles.append(answer.get("bundle"))

    def stop(self):
        self.stopped.set()
        self.join()


def test_a_promotion_and_a_rollback_swap_the_champion_under_load_without_a_failed_or_mixed_request(workspace):
    first = Registry(workspace / "bundles").champion()
    second = variant(workspace, policy=PolicyConfig(review=0.0, block=1.0))
    third = variant(workspace, plan=other_features(workspace))
    with serving(cwd=workspace) as server:
        traffic = Traffic(server, bodies(workspace, 20_000))
        traffic.start()
        try:
            for champion in (second, third, first):
                status, answer = server.operate("PUT", "/champion", {"bundle": champion})
                assert (status, json.loads(answer)) == (200, {"champion": champion})
                until(lambda wanted=champion: traffic.bundles[-1:] == [wanted], f"{champion} decides")
            assert server.operate("POST", "/champion/rollback")[0] == 200
            until(lambda: traffic.bundles[-1:] == [third], "the one before decides again")
        finally:
            traffic.stop()
        health = server.get("/health")
        assert health["bundle"] == third
        assert health["features"]["transactions"] == health["ledger_transactions"] == len(traffic.statuses)
    assert set(traffic.statuses) == {200}
    assert [bundle for bundle, _ in groupby(traffic.bundles)] == [first, second, third, first, third]
    trail = tollgate("audit", cwd=workspace)
    assert trail.count("champion.promote") == 3
    assert "champion.rollback" in trail


def test_a_bundle_that_cannot_be_loaded_is_refused_and_the_champion_goes_on(workspace):
    champion = Registry(workspace / "bundles").champion()
    damaged = variant(workspace, policy=PolicyConfig(review=0.1))
    model = Path(workspace, "bundles", damaged, MODEL)
    model.write_bytes(model.read_bytes()[:-10])
    (row,) = bodies(workspace, 1)
    with serving(cwd=workspace) as server:
        status, answer = server.operate("PUT", "/champion", {"bundle": damaged})
        assert (status, json.loads(answer)["error"]["code"]) == (503, "damaged_bundle")
        assert server.predict(row)[1]["bundle"] == champion


def test_lists_rules_and_keys_count_within_a_second_and_leave_a_trail(workspace):
    row, other, third = bodies(workspace, 3)
    (workspace / "rules.toml").write_text(
        '[[rules]]\nname = "large"\nwhen = "tx.amount > 0"\naction = "review"\nmode = "live"\nreason = "any"\n'
    )
    with serving(cwd=workspace) as server:
        tollgate("lists", "add", "block", "card_id", row["card_id"], "--reason", "stolen", cwd=workspace)
        until(lambda: "version 1" in (workspace / "server.log").read_text(), "the list counts")
        blocked = server.predict(row)[1]
        assert (blocked["outcome"], blocked["reasons"][0]["code"]) == ("block", "list_block")
        tollgate("rules", "publish", "rules.toml", "--force", cwd=workspace)
        until(lambda: "version 2" in (workspace / "server.log").read_text(), "the rule counts")
        held = server.predict(other)[1]
        assert (held["outcome"], held["reasons"][0]["code"]) == ("review", "rule_large")
        metrics = server.operate("GET", "/metrics")[1]
        assert 'tollgate_list_hits_total{column="card_id",list="block"} 1.0' in metrics
        assert 'tollgate_rule_hits_total{mode="live",rule="large"} 1.0' in metrics
        tollgate("keys", "create", "--name", "shop", "--scope", "score", cwd=workspace)
        until(lambda: server.predict(third)[0] == 401, "keys are asked for")
        assert server.operate("PUT", "/log-level", {"level": "debug"})[0] == 401
    trail = tollgate("audit", cwd=workspace)
    assert all(action in trail for action in ("list.add", "rules.publish", "key.create"))


@pytest.mark.parametrize("features", ["the same", "others"])
def test_a_challenger_scores_what_the_champion_decides_and_is_only_recorded(workspace, features):
    changes = {"policy": PolicyConfig(review=0.0)} if features == "the same" else {"plan": other_features(workspace)}
    challenger = variant(workspace, **changes)
    rows = bodies(workspace, 200)
    with serving("--shadow", challenger, cwd=workspace) as server:
        until(lambda: server.get("/health")["shadow"] == challenger, "it scores")
        answers = server.predict(rows)[1]
        assert {answer["outcome"] for answer in answers} != {"review"}
    with Ledger(f"sqlite:///{workspace}/tollgate.db", write=False) as ledger:
        ((ids, shadow),) = ledger.shadow_scores()
    assert ids == [row["transaction_id"] for row in rows]
    assert shadow.bundle == challenger
    assert shadow.scores.tolist() == pytest.approx([answer["score"] for answer in answers], abs=0.2)
