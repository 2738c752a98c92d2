"""A plan in shares: whatever the rows are spread over, the bits are those of one engine that saw all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.streams import ROWS, SCHEMA, batch_of, timed
from features.test_engine import CARD, DEVICE, EXACT, NEAR, PAIR, SMALL
from tollgate.features import NOT_FRAUD, Arrivals, FeatureEngine, tx
from tollgate.features.declaration import nodes
from tollgate.features.division import _HISTORIES, Joining, ShareReplay, divide
from tollgate.features.payments import PAYMENT_FEATURES
from tollgate.features.plan import compile_plan
from tollgate.schema import payment_schema

PLAN = compile_plan([*EXACT, *NEAR, (CARD.count(over="1h") / DEVICE.count(over="1d")).named("mixed")], SCHEMA, 100.0)
SHORT = compile_plan(
    [CARD.count(over="1m"), CARD.is_new(within="1s"), CARD.fraud_count(over="1s"), DEVICE.seconds_since_fraud(within="1m"),
     PAIR.is_new(within="1m"), CARD.count(over="1s", where=tx.hour_of_day < 12), DEVICE.is_new(within="1s")],
    SCHEMA, 100.0,
)  # fmt: skip


def labels_of(rows):
    return np.array([NOT_FRAUD if row["label_after"] is None else row["effective_time"] + row["label_after"]
                     for row in rows])  # fmt: skip


def apart(plan, batch, known, partitions, cut):
    """The features by shares, the rows of each spread over partitions by their key and fed `cut` at a time."""
    division = divide(plan)
    clock = np.maximum.accumulate(batch.time_us)
    histories = np.full((len(batch), division.histories), np.inf)
    late = 0
    for share in division.shares:
        key = batch.key(share.entity)
        place = np.where(key == 0, np.arange(len(batch)), key.astype(np.int64)) % partitions
        slim = batch.take(slice(None))
        slim.keys[[e for e in range(len(slim.keys)) if e not in share.keys]] = 0
        slim.values[[v for v in range(len(slim.values)) if v not in share.values]] = np.nan
        for partition in range(partitions):
            rows = np.flatnonzero(place == partition)
            replay = ShareReplay(share.plan, SMALL)
            for start in range(0, len(rows), cut):
                some = rows[start : start + cut]
                got = replay.observe(slim.take(some), clock[some], known[some])
                histories[np.ix_(some, share.places)] = got
            late += replay.engine.late
    order = np.arange(len(batch))[::-1]  # joining does not care
    joined = np.empty((len(batch), len(plan.names)))
    joined[order] = Joining(division).observe(batch.take(order), histories[order])
    return joined, late


@pytest.mark.parametrize("plan", [PLAN, SHORT], ids=["all", "short"])
@settings(max_examples=40, deadline=None)
@given(drawn=ROWS, partitions=st.integers(1, 7), cut=st.integers(1, 60))
def test_shares_over_any_number_of_partitions_give_the_bits_of_one_engine(plan, drawn, partitions, cut):
    """Ties, late rows, missing entities and labels of any age included; so is how many rows came late."""
    rows = timed(drawn)
    batch, known = batch_of(rows), labels_of(rows)
    engine = FeatureEngine(plan, SMALL)
    whole = Arrivals(engine).observe(batch, known)
    got, late = apart(plan, batch, known, partitions, cut)
    wrong = np.argwhere(got.view(np.int64) != whole.view(np.int64))
    assert not len(wrong), [(int(r), plan.names[f], got[r, f], whole[r, f]) for r, f in wrong[:5]]
    assert late == engine.late


def test_a_late_row_feels_the_clock_of_rows_that_are_elsewhere():
    """Without the clock of the others, a card's row that comes a year late would still see its own past."""
    row = {"step": 0, "late": 0, "card_id": 1, "device_id": 0, "amount": 1.0, "weight": 1.0, "channel": 1.0,
           "present": 1.0, "location_lat": 0.0, "location_lon": 0.0, "label_after": None}  # fmt: skip
    year = 365 * 86_400 * 1_000_000
    rows = timed([row, {**row, "step": year, "card_id": 2}, {**row, "late": year}])
    plan = compile_plan([CARD.count(over="1d")], SCHEMA, 100.0)
    batch = batch_of(rows)
    (share,) = divide(plan).shares
    mine = batch.take(np.array([0, 2]))
    told = ShareReplay(share.plan, SMALL).observe(mine, np.maximum.accumulate(batch.time_us)[[0, 2]])
    assert told[:, 0].tolist() == FeatureEngine(plan, SMALL).observe(batch)[[0, 2], 0].tolist() == [0.0, 0.0]
    assert ShareReplay(share.plan, SMALL).observe(mine, mine.time_us)[:, 0].tolist() == [0.0, 1.0]


def test_every_share_of_the_payment_features_reads_few_of_the_columns():
    """What a share does not read need not travel with the rows."""
    plan = compile_plan(PAYMENT_FEATURES, payment_schema(), 100.0)
    division = divide(plan)
    asked = {one.identity for feature in plan.features for one in nodes(feature) if one.op in _HISTORIES}
    assert division.histories == len(asked)
    assert sorted(place for share in division.shares for place in share.places) == list(range(len(asked)))
    assert all(len(share.keys) + len(share.values) < 10 for share in division.shares)
    assert division.joined.names == plan.names
    assert not division.joined.program.state.tables.size
