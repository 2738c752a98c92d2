"""Decisions over a shared state: the same, degraded while it does not answer, and made whole from the ledger."""

import numpy as np
import pytest

from deciding import CARD, PLAN, READER, decide, engine, make_scorer, payment, recovery, submission
from features.shared.test_shared_engine import PAUSE_MS, SHORT_S
from tollgate.decision import Mode, Outcome
from tollgate.errors import StateError
from tollgate.features import tx
from tollgate.features.plan import compile_plan
from tollgate.features.shared.backlog import RESENT_S
from tollgate.features.shared.engine import SharedEngine
from tollgate.features.shared.servers import Address
from tollgate.label import Label, LabelSource

STREAM = [payment(i, card_id=f"card-{i % 3}", amount=float(i)) for i in range(60)]
HISTORIES = tuple(name for name in PLAN.names if name.startswith("card_"))


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def remote(server, now):
    """Makes engines on an empty server."""
    server.client.flushall()
    made = []

    def make(plan):
        made.append(SharedEngine(plan, Address((server.url,), timeout_s=SHORT_S), "test", "0", lambda: now[0]))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_decisions_are_those_over_a_state_in_memory_also_after_a_restart(ledger, remote, now, open_ledger, tmp_path):
    """Nothing but the place of the state is different, and a new process goes on from the server's state."""
    scorer = make_scorer(ledger, remote=remote)
    got = decide(scorer, submission(*STREAM[:20]))[0]
    now[0] += RESENT_S
    got += decide(scorer, submission(*STREAM[20:30]))[0]
    scorer.close()
    seen = []
    again = recovery(ledger, remote=remote).recover(lambda done, total: seen.append((done, total)))
    assert seen == []
    assert again.engine.observed == 30
    again.engine.close()
    got += decide(make_scorer(ledger, remote=remote), submission(*STREAM[30:]))[0]
    whole = make_scorer(open_ledger(f"sqlite:///{tmp_path}/whole.db"))
    assert got == decide(whole, submission(*STREAM))[0]


def test_while_the_state_does_not_answer_decisions_are_degraded_and_name_what_is_missing(ledger, remote, server, now):
    """No score is made up; the fallback decides, and what waited counts as soon as the server is back."""
    scorer = make_scorer(ledger, remote=remote)
    decide(scorer, submission(*STREAM[:10]))
    server.client.client_pause(PAUSE_MS, all=True)
    for one in decide(scorer, submission(*STREAM[10:14]))[0]:
        assert (one.mode, one.score, one.outcome) == (Mode.DEGRADED, None, Outcome.REVIEW)
        assert set(HISTORIES) < set(one.missing)
        assert "amount" not in one.missing
        assert "state_unavailable" in one.reasons[-1].text
    server.client.ping()
    now[0] += 10.0
    after = decide(scorer, submission(*STREAM[14:20]))[0]
    assert {one.mode for one in after} == {Mode.NORMAL}
    assert scorer.degraded == 4
    features = np.array([np.frombuffer(one, dtype="<f8") for _, _, one in ledger.decided()])
    want = engine().observe(READER.from_rows(STREAM[:20]))
    assert np.array_equal(features[14:], want[14:], equal_nan=True)


def test_an_empty_server_is_filled_from_the_ledger(ledger, remote, server):
    """A shared state is a function of the record, as any other is."""
    decide(make_scorer(ledger, remote=remote), submission(*STREAM[:40]))
    server.client.flushall()
    arrivals = recovery(ledger, remote=remote).recover()
    assert arrivals.engine.observed == 40
    later = READER.from_rows([payment(59, transaction_id="t-new")])
    want = recovery(ledger).recover().engine.observe(later)
    assert np.array_equal(arrivals.engine.observe(later), want, equal_nan=True)


def test_a_state_that_cannot_be_reached_at_the_start_is_an_error(ledger, remote, server):
    """A server that is not ready decides nothing; it tries again."""
    server.client.client_pause(PAUSE_MS, all=True)
    with pytest.raises(StateError, match="gave no answer"):
        recovery(ledger, remote=remote).recover()
    server.client.ping()
    assert recovery(ledger, remote=remote).recover().engine.observed == 0


def test_labels_that_became_known_since_are_learnt_at_the_next_start_and_each_once(ledger, remote, now):
    """As over a state in memory, but without computing it anew; a label of the future waits for its time."""
    plan = compile_plan([tx.amount, *CARD.fraud_count(over=["1h", "7d"]), CARD.count(over="1d")], PLAN.schema, 100.0)
    scorer = make_scorer(ledger, remote=remote, plan=plan)
    decide(scorer, submission(*[payment(i) for i in range(30)]))
    now[0] += RESENT_S
    decide(scorer, submission(payment(30)))
    scorer.close()
    start_us = int(READER.from_rows([payment(0)]).time_us[0])
    for number, second in ((3, 20), (4, 20), (5, 45)):
        due_us = start_us + second * 1_000_000
        ledger.add_labels(
            [Label(f"t-{number}", is_fraud=True, available_us=due_us, source=LabelSource.ANALYST)], "me", 1
        )
    for known, second in ((2, 40), (2, 41), (3, 50)):
        arrivals = recovery(ledger, remote=remote, plan=plan).recover()
        batch = READER.from_rows([payment(second, transaction_id=f"later-{second}")])
        assert arrivals.observe(batch)[0, 1:3].tolist() == [known, known]
        arrivals.engine.close()
