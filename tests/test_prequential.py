"""A back-test says what would have happened, and uses no label before it had come."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deciding import CARD, READER
from observing import add_labels, bodies_of
from tollgate.config import CostsConfig, PolicyConfig
from tollgate.decision import Outcome
from tollgate.duration import DAY_US
from tollgate.errors import InputError
from tollgate.features import NOT_FRAUD, FeatureEngine, tx
from tollgate.features.plan import compile_plan
from tollgate.files import LabelFields, TransactionFile
from tollgate.label import LabelSource
from tollgate.ledger import Counts, Group, History
from tollgate.past import NEVER_US, Past, past_of_file, past_of_ledger
from tollgate.policy import Policy
from tollgate.prequential import Verdicts, by_week, decide
from tollgate.schema import payment_schema

DAY = 20_500
COSTS = CostsConfig(missed_share=1.0, false_block=10.0, false_block_share=0.1, review=5.0, review_stops=0.9)
LEARNING = compile_plan([tx.amount, CARD.fraud_count(over="30d")], payment_schema(), 100.0)


def decided(*rows):
    """Of rows of day, amount, level, fraud, and the day on which that was known."""
    day, amount, level, fraud, known = (np.array(column) for column in zip(*rows, strict=True))
    return Verdicts(
        ((DAY + day) * DAY_US).astype(np.int64), amount.astype(float), level.astype(np.int8), fraud.astype(bool),
        ((DAY + known) * DAY_US).astype(np.int64),
    )  # fmt: skip


HISTORY = decided(
    # week 0
    (0, 100.0, 2, True, 3), (1, 50.0, 1, True, 9), (2, 70.0, 0, True, 10), (3, 30.0, 2, False, 12),
    (4, 20.0, 1, False, 12), (6, 10.0, 0, False, 12),
    # week 1, the last of which is cut short: labels of the last two had not come by day 10
    (7, 200.0, 0, True, 8), (8, 40.0, 1, False, 10), (9, 500.0, 0, True, 11), (10, 60.0, 2, False, 24),
)  # fmt: skip


def test_the_figures_are_those_of_a_count_by_hand():
    """Per week: what was caught, disturbed, cost and saved; a label that came after the last day counts nowhere."""
    found = by_week(HISTORY, COSTS, end_us=(DAY + 12) * DAY_US)
    first, second = found.weeks
    assert [one.start_us for one in found.weeks] == [DAY * DAY_US, (DAY + 7) * DAY_US]
    one = first.figures
    assert (one.days, one.transactions, one.reviewed, one.blocked, one.known) == (7, 6, 2, 2, 6)
    assert (one.frauds, one.fraud_value, one.caught, one.caught_value) == (3, 220.0, 2, 150.0)
    assert (one.blocked_frauds, one.blocked_good, one.held_good) == (1, 1, 2)
    assert one.reviews_per_day == pytest.approx(2 / 7)
    assert (one.recall, one.precision, one.false_positive_rate) == (2 / 3, 0.5, 2 / 3)
    assert one.value_detection_rate == pytest.approx(150 / 220)
    # two reviews, a tenth of the reviewed fraud, the missed fraud, a wrong block
    assert one.cost == pytest.approx(2 * 5 + 0.1 * 50 + 70 + 10 + 0.1 * 30)
    assert one.approving_cost == pytest.approx(220)
    assert one.saved == pytest.approx(220 - 98)
    assert first.known_us == (DAY + 12) * DAY_US
    two = second.figures
    assert (two.days, two.transactions, two.known) == (4, 4, 3)
    assert (two.frauds, two.caught, two.blocked, two.blocked_good) == (2, 0, 1, 0)
    assert found.total.transactions == 10
    assert found.total.cost == pytest.approx(one.cost + two.cost)
    assert found.unseen is None


def test_a_label_counts_once_it_has_come():
    """By default the newest payment is the end: what was known later is not known."""
    found = by_week(HISTORY, COSTS)
    assert found.end_us == (DAY + 10) * DAY_US
    first, second = (one.figures for one in found.weeks)
    assert (first.known, first.frauds, first.blocked_good, first.held_good) == (3, 3, 0, 0)
    assert (second.known, second.frauds, second.fraud_value, second.held_good) == (2, 1, 200.0, 1)
    assert first.false_positive_rate is None
    assert first.reviewed == 2


def test_what_is_newer_than_a_label_delay_counts_nowhere():
    """Its frauds are known before its good payments are: decisions would look better than they are."""
    found = by_week(HISTORY, COSTS, delay_us=3 * DAY_US, end_us=(DAY + 12) * DAY_US)
    assert found.mature_us == (DAY + 9) * DAY_US
    assert [one.figures.known for one in found.weeks] == [6, 3]
    found = by_week(HISTORY, COSTS, delay_us=4 * DAY_US, end_us=(DAY + 12) * DAY_US)
    assert [one.figures.known for one in found.weeks] == [6, 2]
    assert found.weeks[1].figures.fraud_value == 200.0


def test_weeks_that_the_model_was_trained_on_are_told_apart():
    """Totals are given with and without them; what is older than the first week is left out."""
    found = by_week(HISTORY, COSTS, trained_us=(0, (DAY + 3) * DAY_US))
    assert [one.trained for one in found.weeks] == [3, 0]
    assert found.unseen == found.weeks[1].figures
    later = by_week(HISTORY, COSTS, since_us=(DAY + 7) * DAY_US)
    assert later.total == found.weeks[1].figures
    with pytest.raises(InputError, match="name an earlier"):
        by_week(HISTORY, COSTS, since_us=(DAY + 70) * DAY_US)


def rows_of(days, cards, amounts):
    return [
        {"transaction_id": f"t-{i}", "effective_time": str(np.datetime64(int((DAY + day) * DAY_US), "us")) + "Z",
         "amount": float(amount), "currency": "EUR", "card_id": f"card-{card}"}
        for i, (day, card, amount) in enumerate(zip(days, cards, amounts, strict=True))
    ]  # fmt: skip


def suspicious(features):
    """A payment is a fraud if its card had one before."""
    return np.where(np.nan_to_num(features[:, 1]) > 0, 0.95, 0.05)


def levels_of(batch, fraud, known_us):
    past = Past(batch, fraud, known_us, np.where(fraud, known_us, NOT_FRAUD))
    found = decide(iter([past]), FeatureEngine(LEARNING, 2**24), suspicious, Policy(PolicyConfig()))
    return found.levels


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_no_decision_looks_at_a_label_before_it_is_known(data):
    """Whatever becomes known later could be the contrary: decisions before it are the same."""
    n = data.draw(st.integers(2, 25))
    days = sorted(data.draw(st.lists(st.integers(0, 30), min_size=n, max_size=n)))
    cards = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    fraud = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    delays = np.array(data.draw(st.lists(st.integers(0, 20), min_size=n, max_size=n)))
    batch = READER.from_rows(rows_of(days, cards, [10.0] * n))
    known_us = batch.time_us + delays * DAY_US + 1
    cut_us = int((DAY + data.draw(st.integers(0, 31))) * DAY_US)
    before = levels_of(batch, fraud, known_us)
    other = np.where(known_us > cut_us, ~fraud, fraud)
    after = levels_of(batch, other, known_us)
    assert before[batch.time_us <= cut_us].tolist() == after[batch.time_us <= cut_us].tolist()
    by_hand = [
        2 * any(
            fraud[j] and cards[j] == cards[i] and known_us[j] <= batch.time_us[i]
            and known_us[j] > batch.time_us[i] - 30 * DAY_US
            for j in range(i)
        )
        for i in range(n)
    ]  # fmt: skip
    assert before.tolist() == by_hand


def test_a_file_and_a_ledger_of_the_same_history_say_the_same(tmp_path, open_ledger):
    """Labels in columns, or recorded beside the payments; both are decided alike."""
    rng = np.random.default_rng(5)
    n = 200
    rows = rows_of(np.sort(rng.uniform(0, 60, n)), rng.integers(0, 8, n), rng.uniform(5, 100, n).round(2))
    fraud, delays = rng.random(n) < 0.1, rng.uniform(0.5, 9, n)
    batch = READER.from_rows(rows)
    known_us = batch.time_us + np.where(fraud, delays * DAY_US, 14 * DAY_US).astype(np.int64)
    path = tmp_path / "history.jsonl"
    lines = [
        json.dumps(row | {"is_fraud": int(one), "label_available": str(np.datetime64(int(known), "us")) + "Z"})
        for row, one, known in zip(rows, fraud, known_us, strict=True)
    ]
    path.write_text("\n".join(lines))
    ledger = open_ledger(f"sqlite:///{tmp_path / 'l.db'}")
    past = [
        History(row["transaction_id"], int(when), int(when), body)
        for row, when, body in zip(rows, batch.time_us, bodies_of(rows), strict=True)
    ]
    ledger.import_history(past, [], "me")
    known = [(rows[i]["transaction_id"], True, known_us[i], LabelSource.CUSTOMER) for i in np.flatnonzero(fraud)]
    add_labels(ledger, *known)
    file = TransactionFile(path, READER, LabelFields("is_fraud", "label_available", 0))
    found = [
        decide(history, FeatureEngine(LEARNING, 2**24), suspicious, Policy(PolicyConfig()))
        for history in (past_of_file(file), past_of_ledger(ledger, READER, 14 * DAY_US))
    ]
    for one, other in zip(*found, strict=True):
        assert one.tolist() == other.tolist()
    assert (found[0].levels == 2).any()


def test_what_a_blocked_payment_was_nobody_knows(tmp_path, open_ledger):
    """Without a label it never counts; with one it does, and the newest label is what it was."""
    ledger = open_ledger(f"sqlite:///{tmp_path / 'l.db'}")
    rows = rows_of([0, 1, 2, 3], [1, 2, 3, 4], [10.0] * 4)
    outcomes = [Outcome.BLOCK, Outcome.BLOCK, Outcome.APPROVE, Outcome.APPROVE]
    answers = [
        json.dumps({"transaction_id": row["transaction_id"], "outcome": outcome})
        for row, outcome in zip(rows, outcomes, strict=True)
    ]
    times = READER.from_rows(rows).time_us
    ids = [row["transaction_id"] for row in rows]
    ledger.append(
        Group(
            ids, times, bodies_of(rows), [one.encode() for one in answers], None, int(times[-1]), "b", Counts(2, 0, 2)
        )
    )
    known_us = int(times[-1]) + DAY_US
    add_labels(
        ledger,
        (ids[1], True, known_us, LabelSource.ANALYST),
        (ids[2], True, known_us, LabelSource.CUSTOMER),
        (ids[2], False, known_us + 5, LabelSource.CHARGEBACK),
    )
    (past,) = past_of_ledger(ledger, READER, 7 * DAY_US)
    assert past.is_fraud.tolist() == [False, True, False, False]
    assert past.available_us.tolist() == [NEVER_US, known_us, known_us + 5, int(times[3]) + 7 * DAY_US]
    assert past.fraud_us.tolist() == [NOT_FRAUD, known_us, known_us, NOT_FRAUD]
