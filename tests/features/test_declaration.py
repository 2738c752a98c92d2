"""The language: names, data form, and errors that a newcomer understands."""

import pytest

from features.streams import SCHEMA
from features.test_engine import EXACT, NEAR
from tollgate.errors import ConfigError
from tollgate.features import entity, layout, tx
from tollgate.features.declaration import from_data, to_data
from tollgate.features.plan import compile_plan, plan_from_data

CARD, DEVICE = entity("card_id"), entity("device_id")


def test_features_are_named_by_entity_value_aggregate_and_window():
    assert CARD.count(over="1h").name == "card_count_1h"
    assert [f.name for f in CARD.sum(tx.amount, over=["1d", "7d"])] == ["card_amount_sum_1d", "card_amount_sum_7d"]
    assert CARD.count(over="10m", where=tx.amount < 5).name == "card_count_10m_where_amount_lt_5"
    assert DEVICE.is_new_for(CARD).name == "device_is_new_for_card"
    assert CARD.seconds_since_last().name == "card_seconds_since_last"
    assert [f.name for f in CARD.lag(tx.device_id, last=2)] == ["card_device_lag_1", "card_device_lag_2"]
    assert [f.name for f in CARD.seconds_since_lag(last=2)] == ["card_seconds_lag_1", "card_seconds_lag_2"]
    assert CARD.median(tx.amount, last=32).name == "card_amount_median_last_32"
    assert CARD.mad(tx.amount, last=32).name == "card_amount_mad_last_32"
    assert DEVICE.seconds_since_first_fraud(within="7d").name == "device_seconds_since_first_fraud"


@pytest.mark.parametrize("feature", [*EXACT, *NEAR], ids=lambda f: f.name)
def test_a_feature_survives_being_written_as_data(feature):
    import json

    again = from_data(json.loads(json.dumps(to_data(feature))))
    assert again.identity == feature.identity
    assert again.name == feature.name


def test_a_plan_read_back_compiles_to_the_same_program():
    plan = compile_plan(EXACT, SCHEMA, 100.0)
    again = plan_from_data(plan.to_data(), SCHEMA, 100.0)
    assert again.names == plan.names
    assert (again.program.before == plan.program.before).all()
    assert all((a == b).all() for a, b in zip(again.program.state, plan.program.state, strict=True))


def test_equal_windows_share_their_state():
    one = compile_plan([CARD.count(over="1h")], SCHEMA, 100.0)
    both = compile_plan([CARD.count(over="1h"), (CARD.count(over="1h") + 1).named("more")], SCHEMA, 100.0)
    assert len(both.program.state.sums) == len(one.program.state.sums) == 1


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ([tx.amout], "did you mean 'amount'"),
        ([tx.channel], "use tx.channel.category"),
        ([tx.amount.category()], "expected a category column"),
        ([entity("shop_id").count(over="1h")], "no entity 'shop_id'; there are: card_id, device_id"),
        ([CARD.count(over="1h"), CARD.count(over="1h")], "two features are called 'card_count_1h'"),
        ([CARD.count(over="1h", where=CARD.count(over="1m") > 3)], "cannot look at a feature that reads history"),
        ([tx.card_id], "it has a history"),
        ([tx.amount == "ten"], "expected a category column"),
        ([tx.amount + "ten"], "can only be compared"),
        ([CARD.lag(CARD.last(tx.amount), last=1)[0]], "cannot look at a feature that reads history"),
        ([CARD.median(tx.channel, last=3)], "use tx.channel.category"),
        ([CARD.sum(CARD.last(tx.amount), over="1h")], "cannot look at a feature that reads history"),
        ([], "at least one feature"),
        (["amount"], "expected a feature at place 0"),
    ],
)
def test_a_wrong_feature_is_refused_with_what_to_do(features, says):
    with pytest.raises(ConfigError, match=says):
        compile_plan(features, SCHEMA, 100.0)


@pytest.mark.parametrize("last", [0, 65, 2.0, True])
def test_a_look_back_over_too_many_transactions_is_refused(last):
    """Also where it comes as data: the kernel has room for no more."""
    for make in (CARD.lag, CARD.median, CARD.mad):
        with pytest.raises(ConfigError, match="the last 1 to 64 transactions"):
            make(tx.amount, last=last)
    for feature, param in ((CARD.lag(tx.amount, last=1)[0], "step"), (CARD.mad(tx.amount, last=1), "last")):
        data = to_data(feature)
        data["params"][param] = last
        with pytest.raises(ConfigError, match="the last 1 to 64 transactions"):
            plan_from_data([data], SCHEMA, 100.0)


def test_a_plan_says_how_many_transactions_back_each_feature_looks():
    """0 without a lag: a median is of the history as a whole."""
    lags, ages = CARD.lag(tx.amount, last=3), CARD.seconds_since_lag(last=2)
    features = [tx.amount, *lags, *ages, (lags[1] - lags[2] * 2).named("both"), CARD.median(tx.amount, last=9)]
    assert compile_plan(features, SCHEMA, 100.0).back == (0, 1, 2, 3, 1, 2, 3, 0)


def test_lags_and_medians_of_a_value_share_one_ring_and_all_share_the_times():
    lags = [*CARD.lag(tx.amount, last=4), *CARD.lag(tx.weight, last=2), *CARD.seconds_since_lag(last=6)]
    plan = compile_plan([*lags, CARD.median(tx.amount, last=5)], SCHEMA, 100.0)
    steps = plan.program.state.memories[:, layout.M_STEPS]
    assert sorted(steps.tolist()) == [2, 5, 6]


def test_durations_are_checked():
    with pytest.raises(ConfigError, match="such as '30s', '10m', '1h' or '7d'"):
        CARD.count(over="1 hour")


def test_and_instead_of_ampersand_is_refused():
    with pytest.raises(ConfigError, match=r"use & \| ~"):
        bool(tx.amount > 1 and tx.amount < 5)


def test_an_entity_is_one_or_two_columns():
    with pytest.raises(ConfigError, match="one or two different entity columns"):
        entity("card_id", "card_id")


def test_unknown_operators_in_data_are_refused():
    with pytest.raises(ConfigError, match="an operator that this version knows"):
        from_data({"op": "__import__", "args": []})
