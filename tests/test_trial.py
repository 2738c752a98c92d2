"""A canary beside the champion: who decides what, what is recorded of it, and what happens where it fails."""

from dataclasses import replace

import numpy as np
import pytest

from deciding import NOW_US, READER, body_of, decide, judge, make_scorer, payment, recovery, scores, submission
from tollgate.config import PolicyConfig
from tollgate.decision import Mode, Outcome
from tollgate.duration import MINUTE_US
from tollgate.ledger.archive import archive
from tollgate.ledger.decided import decided_since
from tollgate.trial import Trial

CANARY = "00000000000000c1"


def lower(features):
    """Half of what the champion gives."""
    found, confidences = scores(features)
    return found / 2, confidences


def broken(features):
    raise RuntimeError("no model")


def numberless(features):
    found, confidences = lower(features)
    found[:] = np.nan
    return found, confidences


def trial(score=lower, share=0.5, bundle=CANARY, card="card_id"):
    return Trial(judge(score, PolicyConfig(review=0.1, block=0.2), bundle), share, card, READER.key)


def rows(count, first=0, cards=40):
    return [
        payment(number, card_id=f"card-{number % cards}", amount=float(number % 7 * 100))
        for number in range(first, first + count)
    ]


def batch_of(payments):
    return READER.from_bodies([body_of(row) for row in payments])


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path}/t.db", "os")


def test_a_card_stays_with_one_bundle_and_the_share_is_met():
    """Whatever the batch; a larger share keeps the cards of a smaller one; another canary gets other cards."""
    batch = batch_of(rows(3600, cards=1800))
    mine = trial(share=0.1).assigned(batch)
    assert (mine[:1800] == mine[1800:]).all()
    assert mine.mean() == pytest.approx(0.1, abs=0.02)
    assert (trial(share=0.2).assigned(batch) | ~mine).all()
    other = trial(share=0.1, bundle="00000000000000c2").assigned(batch)
    assert (mine & other).mean() == pytest.approx(0.01, abs=0.01)


def test_a_transaction_without_a_card_is_assigned_by_its_id():
    """As all are where the schema has no card."""
    batch = batch_of(rows(2000))
    without = replace(batch, keys=np.zeros_like(batch.keys))
    mine = trial(share=0.3).assigned(without)
    assert mine.mean() == pytest.approx(0.3, abs=0.05)
    assert (mine == trial(share=0.3, card=None).assigned(without)).all()


def test_each_decides_its_own_rows_exactly_as_it_would_alone(ledger, open_ledger, tmp_path):
    """In one batch, in the order of arrival: score, outcome and bundle of each; the other's thresholds do not count."""
    payments = rows(400)
    scorer = make_scorer(ledger)
    scorer.trial = trial()
    (mixed,) = decide(scorer, submission(*payments))
    alone = {}
    for name, one in (("champion", judge()), ("canary", trial().judge)):
        other = make_scorer(open_ledger(f"sqlite:///{tmp_path}/{name}.db", "os"))
        other.install(one)
        (alone[one.bundle],) = decide(other, submission(*payments))
    mine = trial().assigned(batch_of(payments))
    assert 0 < mine.sum() < len(mine)
    assert [one.bundle for one in mixed] == [CANARY if by_canary else "bundle-1" for by_canary in mine]
    for row, one in enumerate(mixed):
        assert one == alone[one.bundle][row]
    assert {one.outcome for one in mixed if one.bundle == CANARY} > {Outcome.REVIEW}


def test_the_ledger_says_who_decided_what_and_a_replay_gives_the_same_state(ledger):
    """Columns by bundle for who looks back; features in order of arrival, as without a canary."""
    payments = rows(300)
    scorer = make_scorer(ledger)
    scorer.trial = trial()
    for start in range(0, 300, 50):
        decide(scorer, submission(*payments[start : start + 50]))
    mine = trial().assigned(batch_of(payments))
    found = {}
    for part in decided_since(ledger.engine, 0):
        found.setdefault(part.bundle, []).extend(part.ids)
        assert part.features.shape == (len(part.ids), 4)
    ids = np.array([row["transaction_id"] for row in payments])
    assert found == {CANARY: ids[mine].tolist(), "bundle-1": ids[~mine].tolist()}
    rebuilt = recovery(ledger).recover()
    probe = batch_of(rows(40, first=300))
    assert np.array_equal(rebuilt.observe(probe), scorer.engine.observe(probe), equal_nan=True)


def test_an_archive_says_who_decided_what(ledger, tmp_path):
    """Row by row, as the ledger did before."""
    scorer = make_scorer(ledger)
    scorer.trial = trial()
    (answers,) = decide(scorer, submission(*rows(100)))
    archive(ledger, NOW_US + MINUTE_US, tmp_path / "archive")
    found = {one: part.bundle for part in decided_since(ledger.engine, 0) for one in part.ids}
    assert found == {one.transaction_id: one.bundle for one in answers}


def test_a_repeated_transaction_gets_the_stored_decision_whoever_decides_now(ledger):
    """Also where its card has changed sides since."""
    payments = rows(60)
    scorer = make_scorer(ledger)
    scorer.trial = trial()
    first = decide(scorer, submission(*payments))
    scorer.trial = None
    assert decide(scorer, submission(*payments)) == first
    scorer.trial = trial(bundle="00000000000000c2", share=0.9)
    assert decide(scorer, submission(*payments)) == first


@pytest.mark.parametrize(("score", "code"), [(broken, "model_failed"), (numberless, "bad_score")])
def test_where_the_canary_fails_the_champion_decides(ledger, score, code):
    """In mode normal, and recorded as the champion's; the breaker leaves the canary alone after a while."""
    scorer = make_scorer(ledger)
    scorer.trial = trial(score)
    decided = scorer.decide([submission(*rows(50))])
    assert set(decided.tried.failed) == {code}
    assert not decided.tried.rows.any()
    answers = decide(scorer, submission(*rows(50)))[0]
    assert {(one.bundle, one.mode) for one in answers} == {("bundle-1", Mode.NORMAL)}
    assert {part.bundle for part in decided_since(ledger.engine, 0)} == {"bundle-1"}
    if score is broken:
        for start in range(50, 500, 50):
            decided = scorer.decide([submission(*rows(50, first=start))])
        assert set(decided.tried.failed) == {"breaker_open"}


def test_what_is_late_gets_the_champions_fallback_and_asks_no_model(ledger):
    """A canary does not change what a deadline means."""
    scorer = make_scorer(ledger, deadline_s=1.0)
    scorer.trial = replace(trial(broken), share=0.99)
    decided = scorer.decide([submission(*rows(20), arrived_s=0.0)])
    assert decided.judgement.degraded == {"deadline_exceeded": 20}
    assert not decided.tried.failed
