"""Coming up again: from a snapshot and the ledger, from the ledger alone, and never from what does not fit."""

import logging

import pytest

from deciding import PLAN, READER, decide, engine, make_scorer, payment, recovery, submission
from tollgate.decision import Outcome
from tollgate.recovery import Snapshots


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


@pytest.fixture
def snapshots(tmp_path):
    return Snapshots(tmp_path / "ledger.db.state", b"k" * 16)


STREAM = [payment(i, card_id=f"card-{i % 3}", amount=float(i)) for i in range(60)]


def test_a_saved_state_and_the_rest_of_the_ledger_are_the_uninterrupted_state(ledger, snapshots, open_ledger, tmp_path):
    scorer = make_scorer(ledger, snapshots=snapshots)
    got = decide(scorer, submission(*STREAM[:20]))[0]
    scorer.close()
    got += decide(scorer, submission(*STREAM[20:30]))[0]  # recorded after the snapshot
    seen = []
    again = make_scorer(ledger, snapshots=snapshots)
    recovery(ledger, snapshots).recover(lambda done, total: seen.append((done, total)))
    assert seen == [(30, 30)]  # one part, the ten rows after the snapshot
    got += decide(again, submission(*STREAM[30:]))[0]
    whole = make_scorer(open_ledger(f"sqlite:///{tmp_path}/whole.db"))
    assert got == decide(whole, submission(*STREAM))[0]


@pytest.mark.parametrize("harm", ["damage", "other key", "ahead"])
def test_a_snapshot_that_does_not_fit_is_passed_over_and_said_so(
    ledger, snapshots, harm, caplog, open_ledger, tmp_path
):
    scorer = make_scorer(ledger, snapshots=snapshots)
    decide(scorer, submission(*STREAM))
    scorer.close()
    if harm == "damage":
        data = bytearray(snapshots.path.read_bytes())
        data[-100] ^= 1
        snapshots.path.write_bytes(data)
    if harm == "other key":
        snapshots = Snapshots(snapshots.path, b"x" * 16)
    if harm == "ahead":
        ledger = open_ledger(f"sqlite:///{tmp_path}/shorter.db")
        decide(make_scorer(ledger), submission(*STREAM[:5]))
    with caplog.at_level(logging.WARNING, "tollgate.recovery"):
        arrivals = recovery(ledger, snapshots).recover()
    assert caplog.records
    assert arrivals.engine.observed == ledger.transactions
    fresh = engine()
    fresh.observe(READER.from_rows(STREAM[: ledger.transactions]))
    later = READER.from_rows([payment(59, transaction_id="t-new")])
    assert (arrivals.engine.observe(later) == fresh.observe(later)).all()
    assert PLAN.names


def test_counters_of_decisions_survive_a_restart(ledger):
    scorer = make_scorer(ledger)
    decide(scorer, submission(payment(0), payment(1, amount=900.0)))
    assert make_scorer(ledger).counts == {Outcome.APPROVE: 1, Outcome.REVIEW: 0, Outcome.BLOCK: 1} == scorer.counts


def test_a_state_prepared_beside_a_deciding_scorer_catches_up_to_its_bits(ledger):
    """A new champion's state is built in the background, and brought up to date when it takes over."""
    scorer = make_scorer(ledger)
    scorer.decide([submission(*STREAM[:20])])
    prepared = recovery(ledger)
    arrivals = prepared.recover()
    scorer.decide([submission(*STREAM[20:50])])
    assert prepared.catch_up(arrivals, 20) == 50
    assert prepared.catch_up(arrivals, 50) == 50
    later = READER.from_rows(STREAM[50:])
    assert (arrivals.observe(later) == scorer.engine.observe(later)).all()
