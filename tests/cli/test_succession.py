"""A running server: another champion, other lists, rules and keys, a challenger beside it; nothing is restarted."""

import json
import threading
import time
from itertools import groupby
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest

from cli.running import serving, tollgate
from cli.variants import other_features, variant
from tollgate.bundle import MODEL, Registry
from tollgate.cli.wiring import runtime_of, score_of
from tollgate.config import PolicyConfig
from tollgate.ledger import Ledger
from tollgate.model.calibration import Calibration
from tollgate.policy import OUTCOMES
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


def test_a_canary_decides_for_some_cards_while_the_server_runs_and_its_metrics_stand_beside_the_champions(workspace):
    """It begins and ends by the registry's pointer; a card is always decided by the same bundle; it may be promoted."""
    champion = Registry(workspace / "bundles").champion()
    canary = variant(workspace, policy=PolicyConfig(review=0.0, block=1.0))
    rows = bodies(workspace, 900)
    with serving(cwd=workspace) as server:
        tollgate("bundles", "canary", canary, "--share", "30%", cwd=workspace)
        until(lambda: server.get("/health")["canary"] == canary, "it decides")
        answers = server.predict(rows[:600])[1]
        by_card = {}
        for row, answer in zip(rows, answers, strict=False):
            by_card.setdefault(row["card_id"], set()).add(answer["bundle"])
        assert {bundle for (bundle,) in by_card.values()} == {champion, canary}
        assert {one["outcome"] for one in answers if one["bundle"] == canary} == {"review"}
        counted = sum(one["bundle"] == canary for one in answers)
        metrics = server.operate("GET", "/metrics")[1]
        arm = f'tollgate_arm_transactions_total{{arm="canary",bundle="{canary}",outcome="review"}}'
        assert f"{arm} {counted:.1f}" in metrics
        assert f'tollgate_arm_score_count{{arm="canary"}} {counted:.1f}' in metrics
        tollgate("lists", "add", "block", "card_id", rows[0]["card_id"], "--reason", "stolen", cwd=workspace)
        until(lambda: (workspace / "server.log").read_text().count("decides for 0.3") == 2, "with the list")
        tollgate("bundles", "canary", "--off", cwd=workspace)
        until(lambda: server.get("/health")["canary"] is None, "it has ended")
        assert {one["bundle"] for one in server.predict(rows[600:])[1]} == {champion}
        assert server.predict(rows[:600])[1] == answers


class Client(threading.Thread):
    """Sends payments over one connection until it is told to stop; keeps statuses and answers."""

    def __init__(self, url, rows, stopped):
        super().__init__()
        self.url, self.rows, self.stopped = url, rows, stopped
        self.statuses, self.answers, self.error = [], [], None

    def run(self):
        try:
            with httpx.Client(base_url=self.url, timeout=60) as client:
                for start in range(0, len(self.rows), 3):
                    if self.stopped.is_set():
                        return
                    answer = client.post("/predict", json=self.rows[start : start + 3])
                    self.statuses.append(answer.status_code)
                    self.answers.append(answer.json())
        except (httpx.HTTPError, ValueError) as error:
            self.error = error


def test_a_hundred_swaps_under_load_fail_no_request_and_mix_no_batch(workspace):
    """Over four connections: each is answered 200, by one of two bundles, with the score and outcome that it gives."""
    registry = Registry(workspace / "bundles")
    champion = registry.champion()
    other = variant(workspace, policy=PolicyConfig(review=0.0, block=1.0), calibration=Calibration(slope=0.5))
    rows = bodies(workspace, 24_000)
    stopped = threading.Event()
    with serving(cwd=workspace) as server:
        clients = [Client(server.url, rows[place::4], stopped) for place in range(4)]
        for client in clients:
            client.start()
        try:
            for swap in range(100):
                if swap % 2 == 0:
                    registry.promote(other)
                    wanted = other
                else:
                    assert registry.rollback() == champion
                    wanted = champion
                until(lambda wanted=wanted: server.get("/health")["bundle"] == wanted, f"{wanted} decides")
        finally:
            stopped.set()
            for client in clients:
                client.join()
    assert [client.error for client in clients] == [None] * 4
    assert {status for client in clients for status in client.statuses} == {200}
    batches = [batch for client in clients for batch in client.answers]
    assert len({one["bundle"] for batch in batches for one in batch}) == 2
    assert all(len({one["bundle"] for one in batch}) == 1 for batch in batches)
    scored = [one for batch in batches for one in batch if one["mode"] == "normal"]
    assert scored
    with Ledger(f"sqlite:///{workspace}/tollgate.db", write=False) as ledger:
        features = {name: np.frombuffer(raw) for name, _, raw in ledger.decided()}
    for bundle in (champion, other):
        mine = [one for one in scored if one["bundle"] == bundle]
        one = registry.load(bundle)
        matrix = np.array([features[answer["transaction_id"]] for answer in mine])
        expected, _ = score_of(one, runtime_of(one))(matrix)
        assert [answer["score"] for answer in mine] == pytest.approx(expected.tolist(), abs=1e-5)
        thresholds = np.array([one.manifest.policy.review, one.manifest.policy.block])
        levels = thresholds.searchsorted([answer["score"] for answer in mine], side="right")
        assert [answer["outcome"] for answer in mine] == [OUTCOMES[level] for level in levels]
