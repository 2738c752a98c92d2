"""The compiled engine against the obvious one, and the promises of the semantics."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.oracle import Oracle, haversine_km, row_operator
from features.streams import ROWS, SCHEMA, START_US, batch_of, timed
from tollgate.errors import CapacityError
from tollgate.features import FeatureEngine, constant, entity, log1p, tx
from tollgate.features.operators import ROW_OPERATORS
from tollgate.features.plan import compile_plan

CARD, DEVICE, PAIR = entity("card_id"), entity("device_id"), entity("card_id", "device_id")
WINDOWS = ["1s", "1m", "1h", "1d", "7d"]

EXACT = [
    tx.amount, log1p(tx.amount), tx.hour_of_day, tx.day_of_week, tx.channel.category(), tx.weight.is_missing(),
    *CARD.count(over=WINDOWS),
    *CARD.sum(tx.amount, over=WINDOWS),
    *CARD.mean(tx.amount, over=["1m", "7d"]),
    *CARD.count(over=["1m", "1d"], where=tx.amount < 500_000),
    CARD.sum(tx.amount, over="1d", where=(tx.channel == "ecom") & (tx.present != 1)),
    CARD.mean(tx.amount, over="1d", where=tx.weight > 0),
    (tx.amount / CARD.mean(tx.amount, over="7d")).named("ratio"),
    CARD.seconds_since_last(), DEVICE.seconds_since_last(within="1h"),
    DEVICE.is_new_for(CARD), CARD.is_new(within="1m"),
    *DEVICE.count(over=["1m", "1d"]), *PAIR.count(over=["1h", "7d"]), PAIR.sum(tx.amount, over="1d"),
    *CARD.min(tx.amount, over=["1m", "1d"]), *CARD.max(tx.amount, over=WINDOWS), *CARD.max(tx.weight, over=["1h"]),
    CARD.min(tx.weight, over="1d", where=tx.present == 1),
    *CARD.distinct(tx.device_id, over=WINDOWS), *DEVICE.distinct(tx.card_id, over=["1m", "1d"]),
    *CARD.distinct(tx.channel, over=["1h", "7d"]), CARD.distinct(tx.amount, over="1h", where=tx.weight > 0),
    *CARD.count(over=["1m", "1d"], delay="1h"), CARD.sum(tx.amount, over="1h", delay="1m"),
    CARD.mean(tx.amount, over="7d", delay="1d", where=tx.present == 0), DEVICE.count(over="1m", delay="1m"),
    CARD.last(tx.weight), CARD.last(tx.channel).category().named("last_channel"), CARD.same_as_last(tx.device_id),
    CARD.same_as_last(tx.channel), DEVICE.last(tx.amount, within="1h"), CARD.seconds_since_first(within="1h"),
    CARD.seconds_since_last(where=tx.amount < 500_000), *DEVICE.fraud_count(over=["1m", "7d"]),
    *CARD.fraud_rate(over=["1d", "7d"], delay="1m"), tx.local("Europe/Berlin").hour_of_day,
    *CARD.lag(tx.amount, last=5), *CARD.seconds_since_lag(last=7), *CARD.lag(log1p(tx.amount), last=2, within="1h"),
    *((lag == tx.device_id).named(f"same_device_{k}") for k, lag in enumerate(CARD.lag(tx.device_id, last=3))),
    *((lag == tx.channel).named(f"same_channel_{k}") for k, lag in enumerate(CARD.lag(tx.channel, last=2))),
    (DEVICE.lag(tx.channel, last=4)[3] == "pos").named("was_pos"), DEVICE.lag(tx.present, last=2)[1],
    DEVICE.seconds_since_lag(last=3, within="1m")[2], *PAIR.lag(tx.weight, last=2),
    CARD.lag(tx.channel, last=2)[1].category().named("channel_before_last"),
    CARD.median(tx.amount, last=4), CARD.mad(tx.amount, last=4), CARD.median(tx.weight, last=9, within="1d"),
    CARD.mad(tx.weight, last=9, within="1d"), CARD.mad(tx.weight, last=64), DEVICE.median(tx.weight, last=1),
    CARD.mad(tx.amount, last=7, within="1h"), CARD.ratio_to_median(tx.amount, last=4),
    CARD.robust_zscore(tx.amount, last=4), CARD.robust_zscore(tx.weight, last=6), PAIR.mad(tx.present, last=3),
    CARD.seconds_since_fraud(), CARD.seconds_since_first_fraud(within="1d"), CARD.fraud_spell_count(within="1d"),
    PAIR.seconds_since_first_fraud(within="1m"), PAIR.fraud_spell_count(within="1m"), PAIR.seconds_since_fraud(),
    DEVICE.seconds_since_fraud(within="1m"), DEVICE.fraud_spell_count(within="1m"),
]  # fmt: skip
NEAR = [
    *CARD.sum(tx.weight, over=["1m", "7d"]), *DEVICE.mean(tx.weight * tx.amount, over=["1h"]),
    *CARD.std(tx.amount, over=["1h", "7d"]), CARD.std(tx.weight, over="1d"), DEVICE.std(tx.amount, over="1d", delay="1m"),
]  # fmt: skip

EXACT_PLAN = compile_plan(EXACT, SCHEMA, 100.0)
NEAR_PLAN = compile_plan(NEAR, SCHEMA, 100.0)
SMALL = 2**24
ULPS = 2


def expected(features, rows):
    oracle = Oracle(features, SCHEMA, 100.0)
    out = []
    for i, row in enumerate(rows):
        for available_us, about in arriving(rows, i):
            oracle.learn(rows[about], available_us)
        out.append(oracle.observe(row))
    return np.array(out)


def arriving(rows, i):
    """The labels that arrive between the transaction before row i and row i, by the time at which they do."""
    clock = max(row["effective_time"] for row in rows[: i + 1])
    before = max((row["effective_time"] for row in rows[:i]), default=0)
    labels = [(row["effective_time"] + row["label_after"], about) for about, row in enumerate(rows[:i])
              if row.get("label_after") is not None]  # fmt: skip
    late = [(due, about) for due, about in labels if due <= before and about == i - 1]
    return sorted([*late, *((due, about) for due, about in labels if before < due <= clock)])


def observed(plan, rows, size=SMALL):
    """What the engine says, labels interleaved."""
    engine, batch, parts = FeatureEngine(plan, size), batch_of(rows), []
    for i in range(len(rows)):
        for available_us, about in arriving(rows, i):
            one = batch.take(slice(about, about + 1))
            engine.learn(one.keys, np.array([available_us]))
        parts.append(engine.observe(batch.take(slice(i, i + 1))))
    return np.concatenate(parts)


def bits(values):
    """NaNs compare equal, everything else bit for bit, but for the sign of zero."""
    return np.where(np.isnan(values), np.nan, values + 0.0).view(np.int64)


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_every_operator_equals_the_brute_force_oracle_bit_for_bit(drawn):
    rows = timed(drawn)
    got = observed(EXACT_PLAN, rows)
    want = expected(EXACT, rows)
    wrong = np.argwhere(bits(got) != bits(want))
    assert not len(wrong), [(int(r), EXACT_PLAN.names[f], got[r, f], want[r, f]) for r, f in wrong[:5]]


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_sums_and_deviations_of_any_numbers_stay_within_two_ulp_of_the_exact_value(drawn):
    rows = timed(drawn)
    got = observed(NEAR_PLAN, rows)
    want = expected(NEAR, rows)
    assert (np.isnan(got) == np.isnan(want)).all()
    known = ~np.isnan(want)
    assert (np.abs(got - want)[known] <= ULPS * np.spacing(np.abs(want))[known]).all()


@settings(max_examples=60, deadline=None)
@given(ROWS, st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_features_do_not_depend_on_how_the_stream_is_cut_into_batches(drawn, sizes):
    batch = batch_of(timed(drawn))
    whole = FeatureEngine(EXACT_PLAN, SMALL).observe(batch)
    engine, parts, start = FeatureEngine(EXACT_PLAN, SMALL), [], 0
    for size in [*sizes, len(batch)]:
        parts.append(engine.observe(batch.take(slice(start, start + size))))
        start += size
    assert (np.concatenate(parts).view(np.int64) == whole.view(np.int64)).all()


ELSEWHERE = {"haversine", "local_time"}  # four arguments, and a zone: tested below and by the oracle


@pytest.mark.parametrize("name", sorted(set(ROW_OPERATORS) - ELSEWHERE))
@settings(max_examples=60, deadline=None)
@given(
    a=st.one_of(st.floats(-1e9, 1e9), st.sampled_from([0.0, -1.0, math.nan])),
    b=st.one_of(st.floats(-1e9, 1e9), st.sampled_from([0.0, 1.0, math.nan])),
)
def test_each_row_operator_does_what_it_says(name, a, b):
    from tollgate.features.declaration import Expr

    if name in ("hour_of_day", "day_of_week"):
        a = float(START_US + int(a)) if not math.isnan(a) else a
    args = (tx.weight, constant(b))[: ROW_OPERATORS[name].arity]
    if math.isnan(b):
        args = (tx.weight, tx.amount / 0)[: ROW_OPERATORS[name].arity]
    plan = compile_plan([Expr(name, args, name="f")], SCHEMA, 100.0)
    row = {"effective_time": START_US, "card_id": 1, "device_id": 0, "amount": 1.0, "weight": a, "channel": math.nan,
           "present": 1.0, "location_lat": math.nan, "location_lon": math.nan}  # fmt: skip
    got = FeatureEngine(plan, SMALL).observe(batch_of([row]))[0, 0]
    want = row_operator(name, a, b) if ROW_OPERATORS[name].arity == 2 else row_operator(name, a)
    assert (math.isnan(got) and math.isnan(want)) or got == want


def payment(seconds, card=1, amount=100.0, device=0):
    return {"effective_time": START_US + int(seconds * 1e6), "card_id": card, "device_id": device, "amount": amount,
            "weight": 1.0, "channel": math.nan, "present": 1.0, "location_lat": math.nan,
            "location_lon": math.nan}  # fmt: skip


PLACES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@settings(max_examples=100, deadline=None)
@given(PLACES, PLACES, st.integers(0, 100_000))
def test_distance_and_speed_are_those_from_the_last_known_place(before, here, seconds):
    plan = compile_plan([CARD.distance_km(), CARD.speed_kmh()], SCHEMA, 100.0)
    rows = [payment(0), payment(0), payment(seconds)]
    for row, (lat, lon) in zip(rows, ((math.nan, math.nan), before, here), strict=True):
        row["location_lat"], row["location_lon"] = lat, lon
    got = FeatureEngine(plan, SMALL).observe(batch_of(rows))
    assert np.isnan(got[:2]).all()
    want = haversine_km(*before, *here)
    assert got[2, 0] == pytest.approx(want, rel=1e-9, abs=1e-6)
    assert got[2, 1] == pytest.approx(want * 3600 / max(seconds, 1), rel=1e-9, abs=1e-2)


def test_local_time_follows_the_clock_changes_of_its_zone():
    plan = compile_plan([tx.local("Europe/Berlin").hour_of_day], SCHEMA, 100.0)
    winter, summer = 1_774_745_999_000_000, 1_774_746_000_000_000  # either side of 2026-03-29 01:00 UTC
    rows = [{**payment(0), "effective_time": moment} for moment in (winter, summer)]
    got = FeatureEngine(plan, SMALL).observe(batch_of(rows))[:, 0]
    assert got[0] == pytest.approx(2 - 1 / 3600)
    assert got[1] == 3.0


def test_idle_entities_are_freed_and_no_feature_notices():
    plan = compile_plan([CARD.count(over="1m"), CARD.distinct(tx.amount, over="1m")], SCHEMA, 100.0)
    engine = FeatureEngine(plan, 2**26)
    for day in range(40):
        rows = [payment(day * 86_400 + i / 100, card=day * 1000 + i + 1, amount=float(i)) for i in range(1000)]
        assert (engine.observe(batch_of(rows)) == 0).all()
    assert engine.freed > 50_000
    assert engine.entities < 20_000


def test_a_window_holds_what_came_after_its_start_and_not_the_transaction_itself():
    """(t - W, t]: an event exactly W old has left, one a microsecond younger has not."""
    plan = compile_plan([CARD.count(over="1m")], SCHEMA, 100.0)
    got = FeatureEngine(plan, SMALL).observe(batch_of([payment(0), payment(0), payment(59.999999), payment(60)]))
    assert got[:, 0].tolist() == [0, 1, 2, 1]


def test_a_late_event_is_applied_at_its_entitys_watermark_and_counted():
    plan = compile_plan([CARD.count(over="1m"), CARD.seconds_since_last()], SCHEMA, 100.0)
    engine = FeatureEngine(plan, SMALL)
    got = engine.observe(batch_of([payment(100), payment(0), payment(150), payment(155, card=2), payment(165)]))
    assert got[:, 0].tolist() == [0, 1, 2, 0, 1]
    assert got[1, 1] == 0
    assert engine.late == 1


def test_a_burst_of_a_thousand_events_leaves_nothing_behind_when_it_has_gone():
    """0.1 added and taken away a thousand times drifts in plain floats."""
    plan = compile_plan([CARD.sum(tx.weight, over="1h")], SCHEMA, 100.0)
    rows = [{**payment(i), "weight": 0.1} for i in range(1000)] + [payment(998.5 + 3600), payment(10_000)]
    got = FeatureEngine(plan, SMALL).observe(batch_of(rows))[:, 0]
    assert got[-2] == pytest.approx(0.1)  # only the last of the burst and nothing of the others
    assert got[-1] == 0.0


def test_blocks_of_expired_events_are_used_again():
    plan = compile_plan([CARD.sum(tx.amount, over="1m")], SCHEMA, 100.0)
    engine = FeatureEngine(plan, SMALL)
    engine.observe(batch_of([payment(i) for i in range(200)]))
    before = engine.state_bytes
    engine.observe(batch_of([payment(i) for i in range(200, 5000)]))
    assert engine.state_bytes - before < 2000


def test_a_hundred_thousand_entities_are_all_found_again_while_the_index_grows():
    plan = compile_plan([CARD.count(over="7d"), CARD.is_new()], SCHEMA, 100.0)
    engine = FeatureEngine(plan, 2**27)
    rows = [payment(i / 1e6, card=i + 1) for i in range(100_000)]
    first, again = engine.observe(batch_of(rows)), engine.observe(batch_of(rows))
    assert (first == [0, 1]).all()
    assert (again == [1, 0]).all()
    assert engine.entities == 100_000


def test_a_full_state_refuses_the_batch_and_applies_nothing():
    plan = compile_plan([CARD.count(over="7d")], SCHEMA, 100.0)
    engine = FeatureEngine(plan, 2**17)
    rows = batch_of([payment(i, card=i + 1) for i in range(5000)])
    with pytest.raises(CapacityError, match="no room for 5000"):
        engine.observe(rows)
    assert engine.entities == 0
    assert engine.observe(rows.take(slice(0, 1))).tolist() == [[0.0]]


def test_entities_whose_keys_are_in_step_with_the_hash_are_kept_apart():
    """Multiples of the mixing constant once met across tables, and their records overran each other."""
    golden = 0x9E3779B97F4A7C15
    features = [*CARD.count(over=["1m", "7d"]), DEVICE.count(over="1h"), PAIR.count(over="1d")]
    plan = compile_plan(features, SCHEMA, 100.0)
    rows = [payment(i, card=(i % 50 + 1) * golden % 2**64, device=(i % 7 + 1) * golden % 2**64) for i in range(3000)]
    got = FeatureEngine(plan, 2**24).observe(batch_of(rows))
    assert got[:400].tolist() == expected(features, rows[:400]).tolist()
    assert got[-1].tolist() == [1, 59, 428, 8]
