"""Labels that come while transactions are decided: one order for the live run, every replay and every restart."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from deciding import CARD, NOW_US, READER, body_of, make_scorer, new_scorer, payment, recovery, submission
from tollgate.admission import CardNumbers
from tollgate.breaker import Breaker
from tollgate.errors import ConflictError, InputError, LedgerError, NotFoundError
from tollgate.features import NOT_FRAUD, Arrivals, FeatureEngine, tx
from tollgate.features.entities import entity
from tollgate.features.plan import compile_plan
from tollgate.label import Label, LabelResult, LabelSource
from tollgate.labelling import labelled, read_label, refusal_of
from tollgate.ledger import History, Ledger
from tollgate.ledger.connection import writing
from tollgate.ledger.tables import LABELS
from tollgate.recovery import Snapshots
from tollgate.schema import payment_schema
from tollgate.shadow import Shadow
from tollgate.steps import run

MERCHANT = entity("merchant_id")
PLAN = compile_plan(
    [
        tx.amount,
        CARD.count(over="1h"),
        *CARD.fraud_count(over=["10s", "1h"]),
        CARD.seconds_since_fraud(within="1h"),
        CARD.fraud_spell_count(within="1m"),
        *MERCHANT.fraud_rate(over=["1m", "1h"], delay="10s"),
    ],
    payment_schema(),
    100.0,
)
SECOND_US = 1_000_000
SOURCES = tuple(LabelSource)
FRAUDS_1H = PLAN.names.index("card_fraud_count_1h")


def row(number, second):
    return payment(
        number, effective_time=f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z", card_id=f"card-{number % 3}",
        merchant_id=f"m-{number % 2}",
    )  # fmt: skip


def label(number, is_fraud=True, source=LabelSource.CHARGEBACK, second=0):
    return Label(f"t-{number}", is_fraud, source, None if second is None else NOW_US + second * SECOND_US)


def take(scorer, labels):
    return run(scorer.label(labels, "me"))


def recorded(ledger):
    """The features that every decided transaction was decided on, as bits."""
    return [features for _, _, features in ledger.decided()]


def replayed(ledger):
    """The features of every transaction of the ledger, recomputed."""
    kept = []
    recovery(ledger, plan=PLAN).replay(lambda _part, _batch, features: kept.append(features))
    return np.concatenate(kept) if kept else np.empty((0, len(PLAN.names)))


NUMBER = st.integers(0, 30)
EVENT = st.one_of(
    st.tuples(st.just("decide"), st.lists(st.integers(0, 90), min_size=1, max_size=4)),
    st.tuples(
        st.just("label"),
        st.lists(
            st.tuples(NUMBER, st.booleans(), st.sampled_from(SOURCES), st.one_of(st.none(), st.integers(0, 120))),
            min_size=1, max_size=4,
        ),
    ),
    st.just(("restart", None)),
    st.just(("crash", None)),
    st.just(("backfill", None)),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENT, max_size=14), st.integers(0, 4))
def test_live_replay_and_restart_give_the_same_bits(tmp_path_factory, events, imported):
    """Whatever the order in which transactions, labels, stops, crashes and snapshots beside the run come."""
    folder = tmp_path_factory.mktemp("labels")
    snapshots = Snapshots(folder / "state", b"k" * 16)
    with Ledger(f"sqlite:///{folder}/ledger.db", "os") as ledger:
        count = imported
        import_rows(ledger, range(imported), {0: 5, 1: 40})
        scorer = make_scorer(ledger, snapshots=snapshots, plan=PLAN)
        for kind, what in events:
            if kind == "decide":
                rows = [row(count + i, second) for i, second in enumerate(what)]
                scorer.decide([submission(*rows)])
                count += len(rows)
            elif kind == "label":
                take(scorer, [label(*one) for one in what])
            elif kind == "backfill":
                with Ledger(ledger.url, write=False) as reader:
                    beside = recovery(reader, snapshots, plan=PLAN)
                    beside.save(beside.recover())
            else:
                if kind == "restart":
                    scorer.close()
                scorer = make_scorer(ledger, snapshots=snapshots, plan=PLAN)
        got = replayed(ledger)
        assert recorded(ledger) == [one.tobytes() for one in got[imported:]]
        last = row(count, 200)
        again = recovery(ledger, plan=PLAN).recover().observe(READER.from_rows([last]))
        scorer.decide([submission(last)])
        assert recorded(ledger)[-1] == again.tobytes()


@pytest.fixture
def ledger(open_ledger, tmp_path):
    return open_ledger(f"sqlite:///{tmp_path}/ledger.db")


def frauds_of(scorer, ledger, number, second, card=0):
    """How many frauds of a card the next transaction, at that second, knows of."""
    scorer.decide([submission(row(number, second) | {"card_id": f"card-{card}"})])
    return int(np.frombuffer(recorded(ledger)[-1])[FRAUDS_1H])


def test_a_label_moves_features_from_the_first_transaction_after_it_and_its_time(ledger):
    """Not those that are decided, nor any before the label's time, and each transaction once, whoever says it again."""
    scorer = make_scorer(ledger, plan=PLAN)
    scorer.decide([submission(row(0, 0), row(3, 1))])
    assert take(scorer, [label(0, second=10), label(3, second=20)]) == ["recorded", "recorded"]
    assert [frauds_of(scorer, ledger, 10 + s, s) for s in (5, 9, 10, 19, 20)] == [0, 0, 1, 1, 2]
    assert take(scorer, [label(0, source=LabelSource.ANALYST, second=11)]) == ["recorded"]
    assert frauds_of(scorer, ledger, 90, 30) == 2


def test_a_verdict_that_is_taken_back_stays_in_the_features(ledger):
    """They tell what was known: a window cannot lose what it has counted without looking different from what it was."""
    scorer = make_scorer(ledger, plan=PLAN)
    scorer.decide([submission(row(0, 0))])
    take(scorer, [label(0, second=1), label(0, is_fraud=False, second=2)])
    assert frauds_of(scorer, ledger, 9, 5) == 1


def test_labels_that_the_ledger_took_but_could_not_say_so_are_learned_before_the_next_decision(ledger, monkeypatch):
    """A commit whose success is not reported is looked for, as that of a decision is."""
    scorer = make_scorer(ledger, plan=PLAN)
    scorer.decide([submission(row(0, 0))])
    add = ledger.add_labels

    def unsaid(*what):
        add(*what)
        raise LedgerError("ledger_failed", "the disk went away after the commit")

    monkeypatch.setattr(ledger, "add_labels", unsaid)
    with pytest.raises(LedgerError, match="went away"):
        take(scorer, [label(0, second=1)])
    assert frauds_of(scorer, ledger, 9, 5) == 1
    monkeypatch.setattr(ledger, "add_labels", add)
    assert take(scorer, [label(0, second=1)]) == ["known"]


def test_labels_come_after_what_was_decided_and_could_not_be_recorded(ledger, monkeypatch):
    """The order of the ledger is the order in which features moved, also when it fails in between."""
    scorer = make_scorer(ledger, plan=PLAN)
    scorer.decide([submission(row(0, 0))])
    append = ledger.append

    def broken(*_):
        raise LedgerError("ledger_failed", "the disk is full")

    monkeypatch.setattr(ledger, "append", broken)
    with pytest.raises(LedgerError):
        scorer.decide([submission(row(1, 1))])
    with pytest.raises(LedgerError):
        take(scorer, [label(0, second=1)])
    assert ledger.labels == 0
    monkeypatch.setattr(ledger, "append", append)
    assert take(scorer, [label(1, second=1)]) == ["recorded"]
    assert [tuple(one) for one in ledger.frauds(0, 2).frauds] == [(2, NOW_US + SECOND_US, 2)]


def test_a_replay_beside_a_writer_gets_each_label_in_its_place(ledger, open_ledger):
    """What is decided and labelled while a reader replays is a part of its replay, in the order of the ledger."""
    scorer = make_scorer(ledger, plan=PLAN)
    scorer.decide([submission(*(row(n, n) for n in range(6)))])
    take(scorer, [label(0, second=3)])
    reader = open_ledger(ledger.url, write=False)
    kept = []

    def meanwhile(_part, batch, features):
        kept.append(features)
        count = ledger.transactions
        if count < 24:
            scorer.decide([submission(row(count, count))])
            take(scorer, [label(count, second=count), label(count - 5, second=count + 4)])
            scorer.decide([submission(*(row(count + n, count + n) for n in range(1, 4)))])

    arrivals = recovery(reader, plan=PLAN).replay(meanwhile)
    got = np.concatenate(kept)
    assert len(got) == ledger.transactions > 24
    assert [one.tobytes() for one in got] == recorded(ledger)
    assert got[:, FRAUDS_1H].max() > 1
    last = READER.from_rows([row(99, 99)])
    assert arrivals.observe(last).tobytes() == recovery(ledger, plan=PLAN).recover().observe(last).tobytes()


def test_a_challenger_with_features_of_its_own_learns_too(ledger):
    """Its state is that of a replay, as the champion's is."""
    seen = []

    def score(features):
        seen.append(features)
        return np.zeros(len(features)), np.ones(len(features))

    scorer = make_scorer(ledger)  # of a champion without features of labels
    scorer.decide([submission(row(0, 0), row(3, 1))])
    scorer.shadow = Shadow("challenger", score, Breaker(time.monotonic), recovery(ledger, plan=PLAN).recover())
    take(scorer, [label(0, second=2)])
    scorer.decide([submission(row(6, 5))])
    scorer.shadow.breaker.close()
    assert seen[0][:, FRAUDS_1H] == [1]
    assert seen[0].tobytes() == replayed(ledger)[-1].tobytes()


def test_before_the_state_is_there_no_label_is_taken(ledger):
    """Its place in the order is not known yet."""
    with pytest.raises(LedgerError, match="rebuilt"):
        take(new_scorer(ledger, plan=PLAN), [label(0)])


def test_a_label_by_a_raw_card_number_finds_the_transaction_that_was_hashed(ledger):
    """With pan = "hash" the ledger has no raw number to compare with."""
    number = "4111111111111111"
    scorer = make_scorer(ledger, plan=PLAN, card_numbers=CardNumbers(("transaction_id",), b"k" * 16))
    scorer.decide([submission(row(0, 0) | {"transaction_id": number})])
    assert take(scorer, [Label(number, is_fraud=True, source=LabelSource.ANALYST)]) == ["recorded"]


def test_labels_of_before_there_was_an_order_count_from_their_time_on(ledger):
    """A ledger of an older version is migrated: what its labels say is known when it was, as it used to be."""
    rows = [row(n, n) for n in range(6)]
    import_rows(ledger, range(6), {})
    with writing(ledger.engine) as connection:
        old = {"transaction_id": "t-0", "is_fraud": True, "available_us": NOW_US + 4 * SECOND_US, "source": "analyst"}
        connection.execute(insert(LABELS), old)
    batch = READER.from_rows(rows)
    known = np.full(6, NOT_FRAUD)
    known[0] = NOW_US + 4 * SECOND_US
    whole = Arrivals(FeatureEngine(PLAN)).observe(batch, known)
    assert whole[:, FRAUDS_1H].tolist() == [0, 0, 0, 0, 0, 0]
    assert replayed(ledger).tobytes() == whole.tobytes()
    scorer = make_scorer(ledger, plan=PLAN)
    assert frauds_of(scorer, ledger, 9, 7) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "expected a label"),
        (b"[", "expected a label"),
        (b'{"transaction_id": "t", "is_fraud": 1, "source": "analyst"}', "is_fraud"),
        (b'{"transaction_id": "t", "is_fraud": true, "source": "rumour"}', "rumour"),
        (b'{"transaction_id": "t", "is_fraud": true, "source": "analyst", "why": 1}', "why"),
        (b'{"transaction_id": "", "is_fraud": true, "source": "analyst"}', "1 to 256 characters"),
        (b'{"transaction_id": "t", "is_fraud": true, "source": "analyst", "available_us": -1}', "but got -1"),
    ],
)
def test_what_is_no_label_is_refused(body, says):
    """With what was expected and what came."""
    with pytest.raises(InputError, match=says) as caught:
        read_label(body)
    assert caught.value.code == ("invalid_json" if body == b"{" else "bad_label")


def test_a_label_that_is_not_taken_is_an_error_with_its_code():
    """404 for one without a transaction, 409 for a contradiction, none for one that is there."""
    one = label(1)
    errors = {result: refusal_of(one, result) for result in LabelResult}
    assert isinstance(errors[LabelResult.UNKNOWN_TRANSACTION], NotFoundError)
    assert isinstance(errors[LabelResult.CONFLICTING_LABEL], ConflictError)
    assert errors[LabelResult.RECORDED] is errors[LabelResult.KNOWN] is None
    assert {result: labelled(one, result).message is None for result in LabelResult} == {
        result: result.accepted for result in LabelResult
    }


def import_rows(ledger, numbers, frauds):
    """Record past transactions, one a second, and labels: which are fraud, known at which second."""
    rows = [row(number, number) for number in numbers]
    times = READER.from_rows(rows).time_us.tolist() if rows else []
    history = [History(one["transaction_id"], t, NOW_US, body_of(one)) for one, t in zip(rows, times, strict=True)]
    labels = [label(number, number in frauds, LabelSource.IMPORT, frauds.get(number, 20)) for number in numbers]
    ledger.import_history(history, labels, "me")
