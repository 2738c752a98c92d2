import math
import runpy
from pathlib import Path

import pytest

from tollgate.features import constant, cyclical, entity, log1p, tx
from tollgate.features.payments import PAYMENT_FEATURES
from tollgate.features.reason import families, reason_text
from tollgate.schema import payment_schema

CARD, DEVICE, TERMINAL = entity("card_id"), entity("device_id"), entity("terminal_id")
NAN = math.nan
EXAMPLES = Path(__file__).parents[2] / "examples"


def said(feature, value, usual):
    return reason_text(feature, float(value), float(usual), {2.0**51: "NG", 2.0**51 + 1: "DE"}, payment_schema(), "EUR")


@pytest.mark.parametrize(
    ("feature", "value", "usual", "text"),
    [
        (tx.amount, 950, 42.1, "amount 950.00 EUR; usually 42.10 EUR"),
        (log1p(tx.amount), math.log1p(950), math.log1p(42.1), "amount 950.00 EUR; usually 42.10 EUR"),
        (tx.card_present, 0, 1, "card present: no; usually yes"),
        (tx.country.category(), 2.0**51, 2.0**51 + 1, "country NG; usually DE"),
        (tx.country.category(), 7, 2.0**51 + 1, "country rare; usually DE"),
        (tx.country.category(), NAN, 2.0**51, "country is missing"),
        (tx.hour_of_day, 3.21, 14.5, "at 03:12 UTC; usually 14:30"),
        (tx.local("Asia/Tokyo").hour_of_day, 23.99, 9, "at 23:59 (Asia/Tokyo); usually 09:00"),
        (tx.day_of_week, 6, 2, "on a Sunday; usually Wednesday"),
        (DEVICE.distinct(tx.card_id, over="1d"), 7, 1, "7 cards on this device in 24 h; usually 1"),
        (CARD.distinct(tx.category, over="90s"), 1, 2, "1 category of this card in 90 s; usually 2"),
        (CARD.count(over="10m"), 12, 0, "12 transactions of this card in 10 min; usually 0"),
        (CARD.count(over="1h", where=tx.amount < 5), 1, 0, "1 transaction of this card in 1 h where amount < 5; usually 0"),
        (DEVICE.count(over="1h"), NAN, 1, "device is missing"),
        (
            CARD.sum(tx.amount, over="7d"), 12000, 300,
            "amounts of this card add up to 12,000.00 EUR in 7 d; usually 300.00 EUR",
        ),
        (CARD.mean(tx.amount, over="30d"), 9, 30, "mean amount of this card over 30 d is 9.00 EUR; usually 30.00 EUR"),
        (CARD.mean(tx.amount, over="30d"), NAN, 30, "no earlier amount of this card in 30 d; usually 30.00 EUR"),
        (CARD.ratio(tx.amount, over="30d"), 8.2, 1, "amount is 8.2 times the card's mean over 30 d; usually 1"),
        (
            CARD.zscore(tx.amount, over="30d"), -2.5, 0.1,
            "amount is 2.5 standard deviations below the card's mean over 30 d; usually 0.1",
        ),
        (
            CARD.robust_zscore(tx.amount, last=8), 11, 0,
            "amount is 11 median deviations above the card's median of its last 8; usually 0",
        ),
        (CARD.ratio_to_median(tx.amount, last=8), 4, 1, "amount is 4 times the median of the card's last 8; usually 1"),
        (TERMINAL.fraud_count(over="7d"), 3, 0, "3 known frauds at this terminal in 7 d; usually 0"),
        (TERMINAL.fraud_rate(over="7d", delay="7d"), 0.125, 0, "12.5 % known frauds at this terminal in 7 d; usually 0 %"),
        (TERMINAL.seconds_since_fraud(), 7200, NAN, "last known fraud at this terminal 2 h ago; usually none"),
        (CARD.seconds_since_last(), 12, 18000, "12 s since the card's last transaction; usually 5 h"),
        (
            CARD.seconds_since_last(), NAN, 18000,
            "nothing known of the card's last transaction in 90 d; usually 5 h ago",
        ),
        (DEVICE.seconds_since_first(), 180, 864000, "this device was first seen 3 min ago; usually 10 d"),
        (DEVICE.is_new_for(CARD), 1, 0, "first time of this card on this device"),
        (DEVICE.is_new(), 1, 0, "first time that this device is seen"),
        (CARD.same_as_last(tx.country), 0, 1, "country is not the same as at the card's last transaction; usually the same"),
        (CARD.speed_kmh(), 850.4, 1.2, "850 km/h from the card's last place; usually 1.2 km/h"),
        (CARD.lag(log1p(tx.amount), last=2)[1], math.log1p(5), math.log1p(40),
         "amount 5.00 EUR at the card's 2nd last transaction; usually 40.00 EUR"),
        ((tx.day_of_week >= 5).named("is_weekend"), 1, 0, "is weekend: yes; usually no"),
        ((tx.amount * 2 + tx.age).named("mix"), 3.5, NAN, "mix is 3.5; usually missing"),
    ],
)  # fmt: skip
def test_a_value_is_said_as_a_person_would(feature, value, usual, text):
    """Counts, sums, ratios, times and flags read as phrases, with units, and never as a feature's name."""
    assert said(feature, value, usual) == text


def test_a_share_says_what_holds():
    """A quotient of two counts of the same window is a percentage."""
    share = CARD.count(over="7d", where=tx.card_present == 0) / CARD.count(over="7d")

    assert said(share, 0.83, 0.1) == "83 % of the transactions of this card in 7 d have card_present == 0; usually 10 %"


def test_a_long_condition_is_left_to_the_name():
    """Where the words would be harder to read than the name, the name stands."""
    long = (tx.mcc == "5732") | (tx.mcc == "5734") | (tx.mcc == "5999")
    feature = CARD.count(over="1d", where=long).named("card_electronics_1d")

    assert said(feature, 3, 0) == "card_electronics_1d is 3; usually 0"


def test_without_a_schema_nothing_is_money():
    """A number that may be anything has no currency and no cents."""
    assert reason_text(tx.amount, 950.0, 42.25, {}) == "amount 950; usually 42.2"


def _examples():
    lists = [PAYMENT_FEATURES]
    lists += [runpy.run_path(str(file))["FEATURES"] for file in sorted(EXAMPLES.glob("*/features.py"))]
    return [feature for features in lists for feature in features]


@pytest.mark.parametrize("value", [0.0, 1.0, -3.75, 1e12, math.inf, NAN])
@pytest.mark.parametrize("usual", [0.0, 2.5, NAN])
def test_every_feature_that_we_ship_is_said(value, usual):
    """No value of any shipped feature breaks the sentence or leaks a NaN into it."""
    for feature in _examples():
        text = said(feature, value, usual)

        assert text
        assert "nan" not in text.lower().replace("finance", "")


def test_windows_of_one_aggregate_are_a_family():
    """The same question over several windows is one thing; another entity, value or condition is another."""
    numbers = families(
        [
            *CARD.count(over=["1h", "1d", "7d"]),
            *DEVICE.count(over=["1h", "1d"]),
            CARD.count(over="1h", where=tx.amount < 5),
            *CARD.sum(tx.amount, over=["1h", "1d"]),
            CARD.mean(tx.amount, over="1d"),
            *(CARD.ratio(tx.amount, over=window) for window in ("7d", "30d")),
        ]
    )

    assert numbers == (0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 5)


def test_functions_of_one_quantity_are_a_family():
    """An amount, its logarithm and a threshold on it are one thing, and so are the halves of a cycle."""
    numbers = families(
        [
            tx.amount, log1p(tx.amount), tx.amount > 500, tx.hour_of_day, *cyclical(tx.hour_of_day, 24),
            tx.hour_of_day < 7, tx.day_of_week, tx.country.category(), tx.country == "NG", tx.mcc.category(),
        ]
    )  # fmt: skip

    assert numbers == (0, 0, 0, 1, 1, 1, 1, 2, 3, 3, 4)


def test_known_frauds_of_one_entity_are_a_family():
    """Counts, rates and times of an entity's known frauds all say that it had some."""
    numbers = families(
        [
            *TERMINAL.fraud_count(over=["1d", "7d"]),
            TERMINAL.fraud_rate(over="7d", delay="7d"),
            TERMINAL.seconds_since_fraud(),
            CARD.fraud_count(over="7d"),
        ]
    )

    assert numbers == (0, 0, 0, 0, 1)


def test_steps_back_are_a_family():
    """The last transactions of an entity are one history, for each value of theirs."""
    numbers = families([*CARD.lag(tx.amount, last=3), *CARD.seconds_since_lag(last=2), *CARD.lag(tx.age, last=1)])

    assert numbers == (0, 0, 0, 1, 1, 2)


def test_a_constant_is_no_quantity():
    """Two features that share nothing but a number are not taken together."""
    assert families([tx.amount + 1, tx.age + 1, constant(1).named("one")]) == (0, 1, 2)
