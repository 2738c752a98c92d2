"""The path of a batch: decided once, durable first, rebuilt exactly, honest about a missing model."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from deciding import (
    CARD,
    NOW_US,
    PLAN,
    READER,
    body_of,
    decide,
    engine,
    judge,
    make_scorer,
    payment,
    scores,
    submission,
)
from tollgate.admission import CardNumbers
from tollgate.breaker import Breaker
from tollgate.config import PolicyConfig
from tollgate.control import ListEntry, ListKind
from tollgate.decision import Mode, Outcome
from tollgate.duration import MINUTE_US
from tollgate.errors import ConflictError, LedgerError, ModelError
from tollgate.features import tx
from tollgate.features.plan import compile_plan
from tollgate.label import Label, LabelSource
from tollgate.ledger import History, Ledger
from tollgate.ledger.archive import archive
from tollgate.lists import Lists
from tollgate.policy import Policy
from tollgate.recovery import Recovery
from tollgate.rules import Rule, RuleMode, RuleSet, compile_rules
from tollgate.schema import payment_schema
from tollgate.shadow import Shadow
from tollgate.steps import run


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_a_transaction_is_approved_reviewed_or_blocked_with_reasons(ledger):
    scorer = make_scorer(ledger)
    rows = [payment(0), payment(1, amount=400.0), payment(2, amount=900.0)]
    (decisions,) = decide(scorer, submission(*rows))
    assert [one.outcome for one in decisions] == [Outcome.APPROVE, Outcome.REVIEW, Outcome.BLOCK]
    assert decisions[0].reasons == ()
    assert decisions[2].reasons[0].code == "amount"
    assert decisions[2].reasons[0].text == "amount is 900; usually 20"
    assert decisions[2].reasons[0].effect > 0.5
    assert "device_id" in decisions[0].missing
    assert scorer.counts == {Outcome.APPROVE: 1, Outcome.REVIEW: 1, Outcome.BLOCK: 1}


def test_a_repeated_transaction_gets_its_decision_again_and_moves_no_counter(ledger):
    scorer = make_scorer(ledger)
    first = decide(scorer, submission(payment(0)))
    before = (scorer.engine.observed, dict(scorer.counts), ledger.transactions)
    again = decide(scorer, submission(payment(0)), submission(payment(0)))
    assert again == [first[0], first[0]]
    assert (scorer.engine.observed, dict(scorer.counts), ledger.transactions) == before


def test_the_same_transaction_twice_in_one_batch_is_decided_once(ledger):
    scorer = make_scorer(ledger)
    one, two = decide(scorer, submission(payment(0)), submission(payment(0), payment(1)))
    assert one[0] == two[0]
    assert ledger.transactions == 2


def test_another_body_under_a_known_id_refuses_the_whole_submission(ledger):
    scorer = make_scorer(ledger)
    decide(scorer, submission(payment(0)))
    refused, decided = decide(scorer, submission(payment(1), payment(0, amount=11.0)), submission(payment(2)))
    assert isinstance(refused, ConflictError)
    assert refused.where["row"] == 1
    assert decided[0].transaction_id == "t-2"
    assert ledger.transactions == 2
    assert not ledger.find(["t-1"])


def test_without_a_model_the_answer_is_degraded_and_shows_no_score(ledger):
    def broken(_features):
        raise ModelError("model_failed", "the session is gone")

    scorer = make_scorer(ledger, broken)
    ((decision,),) = decide(scorer, submission(payment(0)))
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
    want = [d for row in stream for d in decide(whole, submission(row))[0]]
    got = []
    for start in range(0, 40, 7):
        ledger = open_ledger(f"sqlite:///{tmp_path}/parts.db")
        scorer = make_scorer(ledger)
        got += decide(scorer, submission(*stream[start : start + 7]))[0]
        ledger.close()
    assert got == want


class FailingLedger(Ledger):
    """A real ledger whose disk is full when it is told so."""

    full = False

    def append(self, group, hashes=None):
        if self.full:
            raise LedgerError("ledger_failed", "disk full")
        super().append(group, hashes)


def test_what_could_not_be_recorded_is_recorded_before_anything_else_is_decided(open_ledger, tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", kind=FailingLedger)
    scorer = make_scorer(ledger)
    decide(scorer, submission(payment(0)))
    ledger.full = True
    for number in (1, 2):
        with pytest.raises(LedgerError, match="disk full"):
            decide(scorer, submission(payment(number)))
    assert ledger.transactions == 1
    assert sum(scorer.counts.values()) == 1
    ledger.full = False
    decide(scorer, submission(payment(3)))
    assert [identifier for identifier, _, _ in ledger.decided()] == ["t-0", "t-1", "t-3"]
    counted = [np.frombuffer(blob)[PLAN.names.index("card_count_1h")] for _, _, blob in ledger.decided()]
    assert counted == [0, 1, 2]
    assert sum(scorer.counts.values()) == 3
    (again,) = decide(scorer, submission(payment(1)))
    assert again[0].transaction_id == "t-1"
    assert ledger.transactions == 3


def test_imported_history_counts_in_features_but_cannot_be_decided(ledger):
    rows = [payment(i) for i in range(5)]
    batch = READER.from_rows(rows)
    history = [History(r["transaction_id"], int(t), 0, body_of(r)) for r, t in zip(rows, batch.time_us, strict=True)]
    ledger.import_history(history, [Label("t-1", is_fraud=True, source=LabelSource.IMPORT, available_us=7)], "me")
    scorer = make_scorer(ledger)
    (refused,) = decide(scorer, submission(payment(2)))
    assert refused.code == "imported_transaction"
    decide(scorer, submission(payment(9)))
    ((_, _, blob),) = ledger.decided()
    assert np.frombuffer(blob)[1] == 5


def test_the_recorded_features_are_those_of_a_replay_bit_for_bit(ledger):
    scorer = make_scorer(ledger)
    stream = [payment(i, card_id=f"card-{i % 4}", amount=i * 1.01 // 0.01 / 100) for i in range(60)]
    for row in stream:
        decide(scorer, submission(row))
    recorded = np.array([np.frombuffer(blob) for _, _, blob in ledger.decided()])
    replayed = engine().observe(READER.from_rows(stream))
    assert (recorded.view(np.int64) == replayed.view(np.int64)).all()


def test_who_waited_too_long_is_decided_without_the_model_and_counted_all_the_same(ledger):
    scorer = make_scorer(ledger, deadline_s=30.0)
    waited = submission(payment(0), arrived_s=time.monotonic() - 31)
    (late,), (timely,) = decide(scorer, waited, submission(payment(1)))
    assert (late.mode, late.score, late.missing[-1]) == (Mode.DEGRADED, None, "model")
    assert late.reasons[-1].text.endswith("deadline_exceeded")
    assert timely.mode is Mode.NORMAL
    features = [np.frombuffer(blob) for _, _, blob in ledger.decided()]
    assert [row[1] for row in features] == [0, 1]


def test_a_slow_model_is_left_at_the_deadline(ledger):
    end = threading.Event()

    def slow(features):
        end.wait()
        return scores(features)

    scorer = make_scorer(ledger, slow, deadline_s=0.05)
    ((decision,),) = decide(scorer, submission(payment(0)))
    end.set()
    assert decision.mode is Mode.DEGRADED
    assert decision.reasons[-1].text.endswith("model_timeout")


def test_a_raw_card_number_is_refused_by_its_column_and_shown_by_its_last_digits(ledger):
    scorer = make_scorer(ledger)
    refused, decided = decide(
        scorer, submission(payment(0), payment(1, card_id="4111 1111 1111 1111")), submission(payment(2))
    )
    assert (refused.code, refused.where) == ("raw_pan", {"row": 1, "column": "card_id"})
    assert "4111" not in refused.message.replace("1111", "")
    assert decided[0].transaction_id == "t-2"
    assert ledger.transactions == 1


def test_a_hashed_card_number_is_stored_nowhere_and_is_one_card_however_it_is_written(ledger):
    scorer = make_scorer(ledger, card_numbers=CardNumbers(("card_id",), b"k" * 32))
    for number, card in enumerate(("4111111111111111", "4111-1111-1111-1111", 4111111111111111)):
        decide(scorer, submission(payment(number, card_id=card)))
    features = [np.frombuffer(blob) for _, _, blob in ledger.decided()]
    assert [row[1] for row in features] == [0, 1, 2]
    bodies = [one.body for one in ledger.find([f"t-{i}" for i in range(3)]).values()]
    assert not any(b"1111" in body for body in bodies)
    again = decide(scorer, submission(payment(0, card_id="4111111111111111")))[0]
    assert again[0].transaction_id == "t-0"


def test_another_bundle_decides_from_the_next_batch_on(ledger):
    scorer = make_scorer(ledger)
    decide(scorer, submission(payment(0)))
    scorer.install(judge(lambda features: (np.full(len(features), 0.9),) * 2, bundle="bundle-2"))
    ((after,),) = decide(scorer, submission(payment(1)))
    assert (after.bundle, after.outcome) == ("bundle-2", Outcome.BLOCK)
    ((before,),) = decide(scorer, submission(payment(0)))
    assert before.bundle == "bundle-1"


def test_a_bundle_with_other_features_takes_over_with_their_whole_history(ledger):
    scorer = make_scorer(ledger)
    for number in range(5):
        decide(scorer, submission(payment(number)))
    plan = compile_plan(
        [tx.amount, CARD.count(over="2h"), CARD.sum(tx.amount, over="7d"), tx.channel.category()],
        payment_schema(),
        100.0,
    )
    other = Recovery(plan, READER, ledger)
    prepared = other.recover()
    decide(scorer, submission(payment(5)))
    run(scorer.install_with(judge(bundle="bundle-2", plan=plan), other, prepared))
    decide(scorer, submission(payment(6)))
    *_, (_, decision, blob) = ledger.decided()
    assert decision.bundle == "bundle-2"
    assert np.frombuffer(blob)[1:3].tolist() == [6, 60]


def test_a_challenger_scores_the_same_transactions_and_changes_nothing(ledger):
    scorer = make_scorer(ledger)
    breaker = Breaker(time.monotonic)
    scorer.shadow = Shadow("bundle-2", lambda features: (np.full(len(features), 0.25),) * 2, breaker)
    ((decision,),) = decide(scorer, submission(payment(0)))
    assert decision.bundle == "bundle-1"
    assert decision.score != 0.25
    ((ids, recorded),) = ledger.shadow_scores()
    breaker.close()
    assert (ids, recorded.bundle, recorded.scores.tolist()) == (["t-0"], "bundle-2", [0.25])


def test_the_canary_tells_a_model_that_answers_otherwise_than_when_it_was_loaded(ledger):
    scorer = make_scorer(ledger)
    run(scorer.judge.check(5.0))
    broken = replace(scorer.judge, score=lambda features: (np.full(len(features), 0.9),) * 2)
    with pytest.raises(ModelError, match="expected a canary score"):
        run(broken.check(5.0))
    assert ledger.transactions == 0


def test_what_may_be_archived_is_refused_and_what_is_newer_is_decided(ledger, tmp_path):
    """After the archive's horizon nothing that came before can be decided again under another decision."""
    scorer = make_scorer(ledger)
    decide(scorer, submission(payment(0), payment(5)))
    archive(ledger, NOW_US + MINUTE_US, tmp_path / "archive")
    again, late, newer = decide(
        scorer, submission(payment(0)), submission(payment(5, transaction_id="x")), submission(payment(6))
    )
    assert again.code == late.code == "archived_transaction"
    assert newer[0].transaction_id == "t-6"
    assert ledger.transactions == 3
    assert make_scorer(ledger).engine.observed == 3


def test_lists_and_rules_decide_with_reasons_of_their_own_beside_those_of_the_score():
    """What a list decides needs no score; what the thresholds hold is explained as before."""
    entry = ListEntry(ListKind.BLOCK, "card_id", "card-9", "stolen", "ana", 0)
    lists = Lists.of([entry], READER.schema, READER.read_entity)
    watch = Rule("watch", "tx.amount > 300", Outcome.REVIEW, "large", RuleMode.LIVE)
    policy = Policy(PolicyConfig(), compile_rules(RuleSet((watch,)), PLAN), lists)
    batch = READER.from_rows([payment(0), payment(1, amount=400.0), payment(2, card_id="card-9")])
    features = engine().observe(batch)
    decisions = run(judge(policy=policy).judge(batch, features, NOW_US)).decisions(batch, ["bundle-1"] * len(batch))
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
    judgement = run(judge(half).judge(batch, engine().observe(batch), NOW_US))
    first, second = judgement.decisions(batch, ["bundle-1"] * len(batch))
    assert judgement.degraded == {"bad_score": 1}
    assert (first.mode, first.score, first.outcome) == (Mode.DEGRADED, None, Outcome.REVIEW)
    assert (second.mode, second.outcome) == (Mode.NORMAL, Outcome.APPROVE)
