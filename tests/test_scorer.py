"""The path of a batch: decided once, durable first, rebuilt exactly, honest about a missing model."""

import numpy as np
import pytest

from deciding import NOW_US, PLAN, READER, engine, judge, make_scorer, payment, scores, submission
from tollgate.config import PolicyConfig
from tollgate.control import ListEntry, ListKind
from tollgate.decision import Mode, Outcome
from tollgate.errors import ConflictError, LedgerError, ModelError
from tollgate.label import Label, LabelSource
from tollgate.ledger import History, Ledger
from tollgate.lists import Lists
from tollgate.policy import Policy
from tollgate.rules import Rule, RuleMode, RuleSet, compile_rules
from tollgate.scorer import body_of


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_a_transaction_is_approved_reviewed_or_blocked_with_reasons(ledger):
    scorer = make_scorer(ledger)
    rows = [payment(0), payment(1, amount=400.0), payment(2, amount=900.0)]
    (decisions,) = scorer.decide([submission(*rows)])
    assert [one.outcome for one in decisions] == [Outcome.APPROVE, Outcome.REVIEW, Outcome.BLOCK]
    assert decisions[0].reasons == ()
    assert decisions[2].reasons[0].code == "amount"
    assert decisions[2].reasons[0].text == "amount is 900; usually 20"
    assert decisions[2].reasons[0].effect > 0.5
    assert "device_id" in decisions[0].missing
    assert scorer.counts == {Outcome.APPROVE: 1, Outcome.REVIEW: 1, Outcome.BLOCK: 1}


def test_a_repeated_transaction_gets_its_decision_again_and_moves_no_counter(ledger):
    scorer = make_scorer(ledger)
    first = scorer.decide([submission(payment(0))])
    before = (scorer.engine.observed, dict(scorer.counts), ledger.transactions)
    again = scorer.decide([submission(payment(0)), submission(payment(0))])
    assert again == [first[0], first[0]]
    assert (scorer.engine.observed, dict(scorer.counts), ledger.transactions) == before


def test_the_same_transaction_twice_in_one_batch_is_decided_once(ledger):
    scorer = make_scorer(ledger)
    one, two = scorer.decide([submission(payment(0)), submission(payment(0), payment(1))])
    assert one[0] == two[0]
    assert ledger.transactions == 2


def test_another_body_under_a_known_id_refuses_the_whole_submission(ledger):
    scorer = make_scorer(ledger)
    scorer.decide([submission(payment(0))])
    refused, decided = scorer.decide([submission(payment(1), payment(0, amount=11.0)), submission(payment(2))])
    assert isinstance(refused, ConflictError)
    assert refused.where["row"] == 1
    assert decided[0].transaction_id == "t-2"
    assert ledger.transactions == 2
    assert not ledger.find(["t-1"])


def test_without_a_model_the_answer_is_degraded_and_shows_no_score(ledger):
    def broken(_features):
        raise ModelError("model_failed", "the session is gone")

    scorer = make_scorer(ledger, broken)
    ((decision,),) = scorer.decide([submission(payment(0))])
    assert decision.mode is Mode.DEGRADED
    assert decision.score is None
    assert decision.confidence is None
    assert decision.outcome is Outcome.REVIEW
    assert decision.missing[-1] == "model"
    assert decision.reasons[0].code == "model_unavailable"
    assert scorer.degraded == 1


def test_a_restart_rebuilds_the_state_that_an_uninterrupted_run_has(open_ledger, tmp_path):
    stream = [payment(i, card_id=f"card-{i % 3}", amount=float(i)) for i in range(40)]
    whole = make_scorer(open_ledger(f"sqlite:///{tmp_path}/whole.db"))
    want = [d for row in stream for d in whole.decide([submission(row)])[0]]
    got = []
    for start in range(0, 40, 7):
        ledger = open_ledger(f"sqlite:///{tmp_path}/parts.db")
        scorer = make_scorer(ledger)
        got += scorer.decide([submission(*stream[start : start + 7])])[0]
        ledger.close()
    assert got == want


class FailingLedger(Ledger):
    """A real ledger whose disk is full when it is told so."""

    full = False

    def append(self, entries):
        if self.full:
            raise LedgerError("ledger_failed", "disk full")
        super().append(entries)


def test_what_could_not_be_recorded_is_not_counted(open_ledger, tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", kind=FailingLedger)
    scorer = make_scorer(ledger)
    scorer.decide([submission(payment(0))])
    ledger.full = True
    with pytest.raises(LedgerError, match="disk full"):
        scorer.decide([submission(payment(1))])
    assert not scorer.ready
    with pytest.raises(LedgerError, match="being rebuilt"):
        scorer.decide([submission(payment(2))])
    ledger.full = False
    scorer.recover()
    scorer.decide([submission(payment(3))])
    features = [np.frombuffer(blob) for _, _, blob in ledger.decided()]
    assert features[-1][PLAN.names.index("card_count_1h")] == 1


def test_imported_history_counts_in_features_but_cannot_be_decided(ledger):
    rows = [payment(i) for i in range(5)]
    batch = submission(*rows).batch
    history = [History(r["transaction_id"], int(t), 0, body_of(r)) for r, t in zip(rows, batch.time_us, strict=True)]
    ledger.import_history(history, [Label("t-1", is_fraud=True, available_us=7, source=LabelSource.IMPORT)])
    scorer = make_scorer(ledger)
    (refused,) = scorer.decide([submission(payment(2))])
    assert refused.code == "imported_transaction"
    scorer.decide([submission(payment(9))])
    ((_, _, blob),) = ledger.decided()
    assert np.frombuffer(blob)[1] == 5


def test_the_recorded_features_are_those_of_a_replay_bit_for_bit(ledger):
    scorer = make_scorer(ledger)
    stream = [payment(i, card_id=f"card-{i % 4}", amount=i * 1.01 // 0.01 / 100) for i in range(60)]
    for row in stream:
        scorer.decide([submission(row)])
    recorded = np.array([np.frombuffer(blob) for _, _, blob in ledger.decided()])
    replayed = engine().observe(READER.from_rows(stream))
    assert (recorded.view(np.int64) == replayed.view(np.int64)).all()


def test_lists_and_rules_decide_with_reasons_of_their_own_beside_those_of_the_score():
    """What a list decides needs no score; what the thresholds hold is explained as before."""
    entry = ListEntry(ListKind.BLOCK, "card_id", "card-9", "stolen", "ana", 0)
    lists = Lists.of([entry], READER.schema, READER.read_entity)
    watch = Rule("watch", "tx.amount > 300", Outcome.REVIEW, "large", RuleMode.LIVE)
    policy = Policy(PolicyConfig(), compile_rules(RuleSet((watch,)), PLAN), lists)
    batch = READER.from_rows([payment(0), payment(1, amount=400.0), payment(2, card_id="card-9")])
    features = engine().observe(batch)
    decisions = judge(policy=policy).decide(batch, features, NOW_US)
    assert [one.outcome for one in decisions] == [Outcome.APPROVE, Outcome.REVIEW, Outcome.BLOCK]
    assert [one.reasons[0].code for one in decisions[1:]] == ["rule_watch", "list_block"]
    assert {"amount"} <= {reason.code for reason in decisions[1].reasons}


def test_one_payment_without_a_score_is_degraded_and_the_others_are_not():
    """A score that is no number never looks like one."""

    def half(features):
        points, sure = scores(features)
        points[0] = np.nan
        return points, sure

    batch = READER.from_rows([payment(0), payment(1)])
    first, second = judge(half).decide(batch, engine().observe(batch), NOW_US)
    assert (first.mode, first.score, first.outcome) == (Mode.DEGRADED, None, Outcome.REVIEW)
    assert (second.mode, second.outcome) == (Mode.NORMAL, Outcome.APPROVE)
