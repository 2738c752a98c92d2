"""What is remembered of single events: rings of the last few, medians over them, and spells of known frauds."""

import math
import statistics

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.streams import SCHEMA, batch_of
from features.test_engine import CARD, DEVICE, SMALL, payment
from tollgate.features import Arrivals, FeatureEngine, tx
from tollgate.features.arrivals import NOT_FRAUD
from tollgate.features.layout import MAX_LAG
from tollgate.features.plan import compile_plan
from tollgate.features.records import deviation, median

DAY = 86_400


def engine_of(*features):
    return FeatureEngine(compile_plan(features, SCHEMA, 100.0), SMALL)


def same(got, want):
    np.testing.assert_array_equal(np.asarray(got), np.asarray(want))


@settings(deadline=None)
@given(st.lists(st.floats(-1e9, 1e9) | st.integers(-3, 3).map(float), max_size=MAX_LAG))
def test_median_and_mad_are_those_of_the_statistics_module(values):
    sample = np.array(sorted(values))
    if not values:
        assert math.isnan(median(sample, 0))
        assert math.isnan(deviation(sample, 0))
        return
    middle = statistics.median(values)
    assert median(sample, len(sample)) == middle
    assert deviation(sample, len(sample)) == statistics.median([abs(value - middle) for value in values])


def test_step_k_is_the_same_transaction_in_every_ring_also_where_a_value_is_missing():
    engine = engine_of(*CARD.lag(tx.amount, last=3), *CARD.lag(tx.weight, last=2), *CARD.seconds_since_lag(last=3))
    rows = [{**payment(i, amount=100.0 * (i + 1)), "weight": math.nan if i == 1 else float(i)} for i in range(4)]
    nan = math.nan
    same(engine.observe(batch_of(rows)), [
        [nan, nan, nan, nan, nan, nan, nan, nan],
        [1, nan, nan, 0, nan, 1, nan, nan],
        [2, 1, nan, nan, 0, 1, 2, nan],
        [3, 2, 1, 2, nan, 1, 2, 3],
    ])  # fmt: skip


def test_a_ring_goes_round_for_as_long_as_there_are_transactions():
    engine = engine_of(*CARD.lag(tx.amount, last=MAX_LAG), CARD.median(tx.amount, last=5))
    got = engine.observe(batch_of([payment(i, amount=100.0 * i) for i in range(1000)]))
    same(got[-1], [*(998.0 - k for k in range(MAX_LAG)), 996.0])


def test_what_is_exactly_as_old_as_within_counts_as_never_seen():
    ages = CARD.seconds_since_lag(last=2, within="1m")
    engine = engine_of(*ages, CARD.median(tx.amount, last=9, within="1m"))
    same(
        engine.observe(batch_of([payment(0, amount=100.0), payment(1, amount=300.0), payment(60)]))[-1],
        [59, math.nan, 3],
    )


def test_one_large_payment_moves_the_median_less_than_the_mean():
    engine = engine_of(CARD.robust_zscore(tx.amount, last=5), CARD.ratio_to_median(tx.amount, last=5))
    amounts = [1000.0, 1200.0, 900_000.0, 1100.0, 900.0, 1100.0]
    same(engine.observe(batch_of([payment(i, amount=one) for i, one in enumerate(amounts)]))[-1], [0.0, 1.0])


def test_frauds_of_an_entity_begin_end_and_begin_again_with_their_labels():
    features = [
        CARD.seconds_since_fraud(), CARD.seconds_since_first_fraud(within="7d"), CARD.fraud_spell_count(within="7d"),
    ]  # fmt: skip
    arrivals = Arrivals(engine_of(*features))
    known = {0: 1, 1: 5, 2: 10}  # days of transactions, and when they became known
    days = [0, 0.5, 1, 2, 5, 9, 12, 17, 18]
    rows = [payment(day * DAY) for day in days]
    start = rows[0]["effective_time"]
    due = np.array([start + known[day] * DAY * 10**6 if day in known else NOT_FRAUD for day in days])
    got = arrivals.observe(batch_of(rows), due)
    nan = math.nan
    same(got / [DAY, DAY, 1], [
        [nan, nan, 0], [nan, nan, 0], [0, 0, 1], [1, 1, 1], [0, 4, 2], [4, 8, 2], [2, 11, 3], [7, nan, 0], [8, nan, 0],
    ])  # fmt: skip


def test_readers_do_not_renew_a_spell():
    """The watermark of a label record moves with every transaction; the time of the last label must not."""
    engine = engine_of(CARD.seconds_since_fraud(within="7d"), CARD.fraud_spell_count(within="7d"))
    first = batch_of([payment(0)])
    engine.observe(first)
    engine.learn(first.keys, first.time_us)
    got = engine.observe(batch_of([payment(day * DAY) for day in range(1, 9)]))
    same(got[5:], [[6 * DAY, 1], [math.nan, 0], [math.nan, 0]])
    engine.learn(first.keys, first.time_us + 9 * DAY * 10**6)
    same(engine.observe(batch_of([payment(10 * DAY)])), [[DAY, 1]])


def test_an_entity_of_which_no_label_is_known_has_no_time_of_one_and_a_count_of_none():
    features = [
        DEVICE.seconds_since_fraud(), DEVICE.seconds_since_first_fraud(), DEVICE.fraud_spell_count(),
        DEVICE.fraud_count(over="7d"),
    ]  # fmt: skip
    same(engine_of(*features).observe(batch_of([payment(0, device=7), payment(1)])), [
        [math.nan, math.nan, 0, 0], [math.nan] * 4,
    ])  # fmt: skip


def test_labels_alone_make_a_plan_learn():
    assert compile_plan([CARD.seconds_since_fraud()], SCHEMA, 100.0).learns
    assert not compile_plan(CARD.lag(tx.amount, last=2), SCHEMA, 100.0).learns


def test_a_record_that_is_used_again_remembers_nothing_of_the_entity_before():
    engine = engine_of(
        CARD.seconds_since_lag(last=2, within="1m")[0], CARD.mad(tx.amount, last=3, within="1m"),
        CARD.seconds_since_fraud(within="1m"), CARD.fraud_spell_count(within="1m"),
    )  # fmt: skip
    nan = math.nan
    for day in range(20):
        start = day * DAY
        batch = batch_of([payment(start + i / 100, card=day * 500 + i + 1, amount=float(i)) for i in range(500)])
        same(engine.observe(batch), [[nan, nan, nan, 0]] * 500)
        engine.learn(batch.keys, batch.time_us)
        again = batch_of([payment(start + 6, card=day * 500 + i + 1) for i in range(500)])
        same(engine.observe(again)[:, [1, 3]], [[0, 1]] * 500)
    assert engine.freed > 10_000
