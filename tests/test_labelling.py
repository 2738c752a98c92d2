"""Labels that come while transactions are decided: one order for the live run, every replay and every restart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deciding import CARD, NOW_US, READER, body_of, make_scorer, new_scorer, payment, recovery, submission
from tollgate.errors import ConflictError, InputError, LedgerError, NotFoundError
from tollgate.features import tx
from tollgate.features.entities import entity
from tollgate.features.plan import compile_plan
from tollgate.label import Label, LabelResult, LabelSource
from tollgate.labelling import labelled, read_label, refusal_of
from tollgate.ledger import History, Ledger
from tollgate.recovery import Snapshots
from tollgate.schema import payment_schema
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
FRAUDS_1H = PLAN.names.index("card_id_fraud_count_1h") if "card_id_fraud_count_1h" in PLAN.names else 3


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
    recovery(ledger, plan=PLAN).replay(lambda _batch, features: kept.append(features))
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
                    beside = recovery(reader, snapshots, PLAN)
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


def import_rows(ledger, numbers, frauds):
    """Record past transactions, one a second, and labels: which are fraud, known at which second."""
    rows = [row(number, number) for number in numbers]
    times = READER.from_rows(rows).time_us.tolist() if rows else []
    history = [History(one["transaction_id"], t, NOW_US, body_of(one)) for one, t in zip(rows, times, strict=True)]
    labels = [label(number, number in frauds, LabelSource.IMPORT, frauds.get(number, 20)) for number in numbers]
    ledger.import_history(history, labels, "me")
