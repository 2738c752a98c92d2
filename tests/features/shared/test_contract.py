"""What every engine promises, wherever its state is."""

import math

import numpy as np
import pytest

from features.shared.test_shared_engine import empty, engine_on
from features.streams import SCHEMA, batch_of
from features.test_engine import CARD, DEVICE, SMALL, payment
from tollgate.features import NOT_FRAUD, Arrivals, FeatureEngine, tx
from tollgate.features.plan import compile_plan

DAY = 86_400


@pytest.fixture(params=["embedded", "shared"])
def engine_of(request):
    """Makes an engine without history."""

    def make(*features):
        plan = compile_plan(features, SCHEMA, 100.0)
        if request.param == "embedded":
            return FeatureEngine(plan, SMALL)
        server = request.getfixturevalue("server")
        empty(server)
        return engine_on(server, plan)

    return make


def test_a_window_holds_what_came_after_its_start_and_not_the_transaction_itself(engine_of):
    """(t - W, t]: an event exactly W old has left, one a microsecond younger has not."""
    engine = engine_of(CARD.count(over="1m"))
    got = engine.observe(batch_of([payment(0), payment(0), payment(59.999999), payment(60)]))
    assert got[:, 0].tolist() == [0, 1, 2, 1]


def test_a_late_transaction_is_applied_at_its_entitys_watermark_and_counted(engine_of):
    """What was computed never changes because something came later."""
    engine = engine_of(CARD.count(over="1m"), CARD.seconds_since_last())
    got = engine.observe(batch_of([payment(100), payment(0), payment(150), payment(155, card=2), payment(165)]))
    assert got[:, 0].tolist() == [0, 1, 2, 0, 1]
    assert got[1, 1] == 0
    assert engine.late == 1


def test_one_that_is_late_by_more_than_the_longest_look_back_is_not_placed_before_it(engine_of):
    """An entity without history is placed at the newest event of any entity, less the horizon."""
    engine = engine_of(CARD.count(over="1m"), CARD.seconds_since_last(within="1m"))
    rows = [payment(1000), payment(0, card=2), payment(999, card=2), payment(941, card=3), payment(1000, card=3)]
    assert engine.observe(batch_of(rows))[:, 0].tolist() == [0, 0, 1, 0, 1]


def test_a_burst_of_a_thousand_transactions_leaves_nothing_behind_when_it_has_gone(engine_of):
    """0.1 added and taken away a thousand times drifts in plain floats."""
    engine = engine_of(CARD.sum(tx.weight, over="1h"), CARD.std(tx.weight, over="1h"))
    rows = [{**payment(i), "weight": 0.1} for i in range(1000)] + [payment(998.5 + 3600), payment(10_000)]
    got = engine.observe(batch_of(rows))
    assert got[-2, 0] == pytest.approx(0.1)
    assert got[-1, 0] == 0.0
    assert math.isnan(got[-1, 1])


def test_a_missing_entity_has_no_features_and_moves_no_history(engine_of):
    """A missing value is a value, and no transaction is counted for nobody."""
    engine = engine_of(DEVICE.count(over="1h"), DEVICE.is_new(), DEVICE.fraud_count(over="1d"))
    got = engine.observe(batch_of([payment(0), payment(1), payment(2, device=7), payment(3, device=7)]))
    assert np.isnan(got[:2]).all()
    assert got[2:].tolist() == [[0, 1, 0], [1, 0, 0]]


def test_labels_move_features_when_they_arrive(engine_of):
    """Not before, and of the entities that the transaction had."""
    arrivals = Arrivals(engine_of(CARD.fraud_count(over="7d"), CARD.seconds_since_fraud()))
    batch = batch_of([payment(0), payment(DAY), payment(2 * DAY), payment(3 * DAY, card=2)])
    known = np.array([payment(2 * DAY)["effective_time"], *[NOT_FRAUD] * 3])
    got = arrivals.observe(batch, known)
    assert got[:, 0].tolist() == [0, 0, 1, 0]
    assert got[2, 1] == 0


def test_nothing_lacks_and_an_empty_batch_is_one(engine_of):
    """What scorer and recovery ask of an engine is there."""
    engine = engine_of(CARD.count(over="1h"), tx.amount)
    assert engine.observe(batch_of([payment(0)]).take(slice(0, 0))).shape == (0, 2)
    engine.observe(batch_of([payment(0)]))
    assert engine.observed == 1
    assert engine.lacked() == ()
    engine.close()
