"""What a plan says of itself: costs, words, and what differs between two lists."""

import pytest

from features.streams import SCHEMA, batch_of
from features.test_engine import CARD, DEVICE, EXACT, NEAR, PAIR, payment
from tollgate.features import FeatureEngine, cyclical, haversine_km, log1p, tx
from tollgate.features.compare import compare_features
from tollgate.features.describe import WORD_BYTES, describe_entities, describe_features
from tollgate.features.heap import new_meta
from tollgate.features.plan import compile_plan
from tollgate.features.prose import in_words, missing_when, tree
from tollgate.schema import payment_schema

SMALL = 2**24


def cost(feature):
    return describe_features(compile_plan([feature], SCHEMA, 100.0))[0]


def entities(*features):
    return describe_entities(compile_plan(features, SCHEMA, 100.0))


@pytest.mark.parametrize(
    ("feature", "entity_words", "event_words"),
    [
        (tx.amount, 0, 0),
        (CARD.count(over="1h"), 2 + 1, 0),
        (CARD.count(over="1h", delay="1d"), 4 + 1, 0),
        (CARD.sum(tx.amount, over="1h"), 2 + 1, 1),  # money is whole: one word
        (CARD.sum(tx.amount * 1, over="1h"), 2 + 2, 1),
        (CARD.mean(tx.amount, over="1h"), 2 + 1 + 1, 1),
        (CARD.std(tx.amount, over="1h"), 2 + 1 + 2 + 2, 1),
        (CARD.max(tx.amount, over="1h"), 2 + 1 + 1, 1 + 2),
        (CARD.last(tx.amount), 2, 0),
        (CARD.seconds_since_last(), 0, 0),
        (CARD.fraud_rate(over="7d", delay="1d"), (2 + 1) + (4 + 1), 0),
        (CARD.lag(tx.amount, last=4)[2], (1 + 3) + (1 + 3), 0),
        (CARD.seconds_since_lag(last=4)[3], 1 + 4, 0),
        (CARD.robust_zscore(tx.amount, last=32), (1 + 32) + (1 + 32), 0),
        (CARD.seconds_since_fraud(), 2, 0),
        (CARD.fraud_spell_count(), 3, 0),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_a_feature_costs_the_words_that_it_keeps(feature, entity_words, event_words):
    assert cost(feature)[-2:] == (entity_words, event_words)


def test_a_feature_names_its_entities_and_windows():
    rate = cost(CARD.fraud_rate(over="7d", delay="14d"))
    assert rate.entities == ("card",)
    assert rate.windows == ("7d", "7d delay 14d")
    assert cost(DEVICE.is_new_for(CARD, within="30d"))[1:3] == (("device x card",), ("within 30d",))
    assert cost(log1p(tx.amount))[1:4] == ((), (), ("this transaction",))
    assert cost(CARD.median(tx.amount, last=9))[2:4] == (("last 9 within 90d",), ("ring of amount",))
    assert cost(CARD.seconds_since_fraud())[2:4] == (("within 90d",), ("time of the last label of fraud",))


def test_a_longer_computation_takes_more_steps():
    mean = CARD.mean(tx.amount, over="1h")
    assert (
        cost(tx.amount).steps
        < cost(mean).steps
        < cost(tx.amount / mean).steps
        < cost(CARD.zscore(tx.amount, over="1h")).steps
    )


def test_what_features_share_is_counted_once_in_the_totals():
    one = entities(CARD.mean(tx.amount, over="1h"))
    assert entities(CARD.mean(tx.amount, over="1h"), CARD.sum(tx.amount, over="1h")) == one


def test_the_totals_are_what_the_engine_takes():
    """A record of each entity, and a block of eight events of each that has windows."""
    features = [CARD.sum(tx.amount, over="1h"), CARD.max(tx.weight, over="7d"), DEVICE.is_new()]
    plan = compile_plan(features, SCHEMA, 100.0)
    card, device = describe_entities(plan)
    assert (card.name, card.windows, card.horizon) == ("card", ("1h", "7d"), "7d")
    assert (device.name, device.event_bytes, device.windows, device.horizon) == ("device", 0, (), "90d")
    engine = FeatureEngine(plan, SMALL)
    empty = engine.state_bytes

    engine.observe(batch_of([payment(i, card=i + 1, device=i % 3 + 1) for i in range(10)]))

    assert engine.state_bytes - empty == 10 * (card.record_bytes + card.block_bytes) + 3 * device.record_bytes
    assert card.block_bytes == 8 * card.event_bytes + WORD_BYTES
    assert len(new_meta(2)) < SMALL


def test_labels_and_distinct_values_are_kinds_of_their_own():
    kinds = entities(CARD.fraud_count(over="7d"), PAIR.count(over="1d"), CARD.distinct(tx.device_id, over="1h"))
    assert [one.name for one in kinds] == ["card (labels)", "card x device", "card", "distinct values of card"]


@pytest.mark.parametrize(
    ("feature", "words", "missing"),
    [
        (tx.amount, "amount of the transaction", []),
        (tx.mcc.category(), "mcc of the transaction, as a category", ["mcc is missing"]),
        (CARD.count(over="1h"), "how many transactions of the card in the last 1h", []),
        (
            DEVICE.count(over="10m", where=(tx.amount < 5) & (tx.channel == "ecom")),
            "how many transactions of the device in the last 10m where (amount < 5) & (channel == 'ecom')",
            ["device_id is missing"],
        ),
        (
            CARD.sum(tx.amount, over="7d", delay="14d"),
            "the sum of amount over the transactions of the card in the 7d that ended 14d ago",
            [],
        ),
        (
            (tx.amount / CARD.mean(tx.amount, over="30d")).named("ratio"),
            "amount of the transaction, divided by the mean of amount over the transactions of the card in the last 30d",
            ["the window of the card holds no value of amount", "card_amount_mean_30d is 0"],
        ),
        (
            CARD.std(tx.amount, over="1d"),
            "the sample standard deviation of amount over the transactions of the card in the last 1d",
            ["the window of the card holds fewer than two values of amount"],
        ),
        (
            CARD.last(tx.mcc),
            "mcc at the last transaction of the card that had one, looking back 90d",
            ["the card had no transaction with mcc within 90d"],
        ),
        (
            CARD.seconds_since_last(within="7d"),
            "seconds since the last transaction of the card, looking back 7d",
            ["the card had no transaction within 7d"],
        ),
        (
            DEVICE.is_new_for(CARD),
            "1 where the pair device x card was not seen within 90d, else 0",
            ["device_id is missing"],
        ),
        (
            CARD.fraud_count(over="7d"),
            "how many transactions of the card became known as fraud in the last 7d",
            [],
        ),
        (
            CARD.lag(tx.amount, last=2)[0],
            "amount 1 transaction of the card ago, looking back 90d",
            ["the card had no transaction within 90d"],
        ),
        (
            CARD.lag(tx.mcc, last=3)[2],
            "mcc 3 transactions of the card ago, looking back 90d",
            ["the card had fewer than 3 transactions within 90d", "mcc is missing at that transaction"],
        ),
        (
            DEVICE.seconds_since_lag(last=2, within="7d")[1],
            "seconds since 2 transactions of the device ago, looking back 7d",
            ["device_id is missing", "the device had fewer than 2 transactions within 7d"],
        ),
        (
            CARD.mad(tx.amount, last=9),
            (
                "the median absolute deviation from the median of amount over the last 9 transactions of the card, "
                "looking back 90d"
            ),
            ["the last 9 transactions of the card hold no value of amount within 90d"],
        ),
        (
            CARD.seconds_since_fraud(within="7d"),
            "seconds since a transaction of the card last became known as fraud, looking back 7d",
            ["no transaction of the card became known as fraud within 7d"],
        ),
        (
            CARD.seconds_since_first_fraud(within="7d"),
            "seconds since the spell of known frauds of the card began, a pause of 7d ending it",
            ["no transaction of the card became known as fraud within 7d"],
        ),
        (
            CARD.fraud_spell_count(within="7d"),
            "how many transactions of the card became known as fraud in this spell, a pause of 7d ending it",
            [],
        ),
        (tx.local("Asia/Tokyo").hour_of_day, "the hour of day of the effective time, Asia/Tokyo", []),
        (tx.mcc.category().is_missing(), "is_missing(category(mcc)), of the transaction itself", []),
        (log1p(tx.location_lat).fill(0), "fill(log1p(location_lat), 0), of the transaction itself", []),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_a_feature_says_what_it_is_and_when_it_is_missing(feature, words, missing):
    assert in_words(feature) == words
    assert list(missing_when(feature, payment_schema())) == missing


@pytest.mark.parametrize(
    "feature",
    [*EXACT, *NEAR, *cyclical(tx.hour_of_day, 24), CARD.speed_kmh(), -abs(tx.weight).clip(0, 1), ~(tx.present == 1),
     haversine_km(tx.location_lat, tx.location_lon, tx.weight, tx.weight)],
    ids=lambda one: one.name,
)  # fmt: skip
def test_every_feature_can_be_described(feature):
    assert len(in_words(feature)) > 3
    assert len(tree(feature)) >= 1
    assert cost(feature).name == feature.name


def test_the_tree_shows_operands_below_what_they_are_operands_of():
    ratio = (tx.amount / CARD.mean(tx.amount, over="30d")).named("ratio")
    assert tree(ratio) == [
        "div: a / b; missing where b is 0",
        "  column amount",
        "  window: the mean of amount over the transactions of the card in the last 30d",
        "    column amount",
    ]


def test_two_lists_differ_by_what_was_added_removed_changed_and_renamed():
    old = [
        tx.amount,
        CARD.count(over="1h"),
        CARD.count(over="1d").named("many"),
        CARD.sum(tx.amount, over="1d"),
        DEVICE.is_new(),
    ]
    new = [
        tx.amount,
        CARD.count(over="1h", where=tx.amount < 5).named("card_count_1h"),
        CARD.count(over="1d"),
        DEVICE.count(over="1h"),
        DEVICE.is_new(),
    ]

    found = compare_features(old, new)

    assert [one.name for one in found.added] == ["device_count_1h"]
    assert [one.name for one in found.removed] == ["card_amount_sum_1d"]
    assert [(a.name, b.name) for a, b in found.changed] == [("card_count_1h", "card_count_1h")]
    assert [(a.name, b.name) for a, b in found.renamed] == [("many", "card_count_1d")]
    assert found.same == 2


def test_equal_lists_do_not_differ():
    assert compare_features(EXACT, EXACT) == ((), (), (), (), len(EXACT))
