"""Campaigns: kinds of fraud that are data, and that come and go."""

import datetime as dt
import math

import polars as pl
import pytest

from tollgate.errors import ConfigError
from tollgate.simulate import Campaign, Mix, Scenario, Tactic, simulate

GIFT_CARDS = Tactic(
    mcc=("5947",), amount_eur=50.0, sigma=0.1, payments=3.0, device="shared", merchants=2, city="Lagos", gap_minutes=5
)
PHONE = Tactic(mcc=("4722",), amount_eur=400.0, channel="moto")
TALKED_INTO = Tactic(mcc=("7995",), amount_eur=150.0, device="own")
CAMPAIGNS = (
    Campaign(name="gift cards", tactic=GIFT_CARDS, first_day=10, days=8, weight=0.5),
    Campaign(name="by phone", tactic=PHONE, first_day=20, days=5, weight=0.25),
    Campaign(name="talked into", tactic=TALKED_INTO, first_day=0, days=1000, weight=0.25, told_by_customers=0.0),
)
SCENARIO = Scenario(
    transactions=40_000, cards=2_000, merchants=800, days=42, fraud_rate=0.05, campaigns=CAMPAIGNS, seed=5
)
CAMPAIGN = {"name": "one", "tactic": PHONE, "first_day": 0, "days": 1, "weight": 1}


@pytest.fixture(scope="module")
def frame():
    return simulate(SCENARIO)


@pytest.fixture(scope="module")
def attacks(frame):
    return {name: rows for (name,), rows in frame.drop_nulls("typology").group_by("typology", maintain_order=True)}


def test_frauds_divide_by_the_weights_of_the_mix_and_of_the_campaigns(attacks):
    """Half of what the weights sum to are the campaigns'."""
    asked = dict(zip([*Mix.__struct_fields__, *(one.name for one in CAMPAIGNS)], SCENARIO.divide(), strict=True))
    assert sum(asked.values()) == 2000
    assert asked["gift cards"] == 500
    assert {name: len(rows) for name, rows in attacks.items()} == asked


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda one: one.name)
def test_a_campaign_begins_and_ends_on_its_days(attacks, campaign):
    """No payment of it is outside, and they reach from the one to the other."""
    start = dt.datetime.combine(SCENARIO.start, dt.time(), dt.UTC) + dt.timedelta(days=campaign.first_day)
    end = start + dt.timedelta(days=min(campaign.days, SCENARIO.days))
    times = attacks[campaign.name]["effective_time"]
    assert start <= times.min() < start + dt.timedelta(days=1)
    assert end - dt.timedelta(days=1) < times.max() < end


def test_payments_look_as_the_tactic_says(attacks):
    """Line of business, amounts, merchants, country, and cards that share a device."""
    rows = attacks["gift cards"]
    assert set(rows["mcc"].drop_nulls()) == {"5947"}
    assert rows["merchant_id"].n_unique() <= 2
    assert set(rows["country"].drop_nulls()) == {"NG"}
    assert 45 < rows["amount"].median() < 55
    assert rows["amount"].max() < 90
    assert set(rows["channel"]) == {"ecom"}
    assert rows.group_by("card_id").len()["len"].mean() > 2
    devices = rows.drop_nulls("device_id").group_by("device_id").agg(pl.col("card_id").n_unique())
    assert devices["card_id"].mean() > 4


def test_orders_by_phone_leave_neither_device_nor_address(attacks):
    """As honest ones do not."""
    rows = attacks["by phone"]
    assert set(rows["channel"]) == {"moto"}
    assert rows["device_id"].null_count() == rows["ip"].null_count() == len(rows)


def test_owners_who_are_talked_into_it_pay_from_their_own_devices(frame, attacks):
    """The device says nothing then."""
    known = frame.filter(~pl.col("is_fraud")).drop_nulls("device_id").select("card_id", "device_id").unique()
    rows = attacks["talked into"].drop_nulls("device_id")
    assert len(rows.join(known, on=["card_id", "device_id"], how="semi")) > 0.6 * len(rows)


def test_a_campaign_of_which_no_customer_tells_is_known_by_chargebacks(attacks):
    """They take as long as the scenario says."""
    delay = attacks["talked into"].select(pl.col("label_available") - pl.col("effective_time")).to_series()
    assert dt.timedelta(days=8) < delay.median() < dt.timedelta(days=15)
    assert delay.min() >= dt.timedelta(days=2)


def test_chargebacks_take_as_long_as_asked_and_analysts_can_be_left_out():
    """Without analysts no fraud is known within the half hour that a customer takes at least."""
    frame = simulate(
        Scenario(
            transactions=20_000, cards=1_000, merchants=400, days=42, fraud_rate=0.1, chargeback_days=30, analysts=False
        )
    )
    delays = frame.filter("is_fraud").with_columns(delay=pl.col("label_available") - pl.col("effective_time"))
    assert delays["delay"].min() >= dt.timedelta(minutes=30)
    chargebacks = delays.filter(pl.col("typology") == "first_party")["delay"]
    assert dt.timedelta(days=25) < chargebacks.median() < dt.timedelta(days=36)


def test_a_campaign_after_the_end_makes_no_payments():
    """There is none to make, and honest payments fill up."""
    late = Campaign(name="late", tactic=PHONE, first_day=100, days=5, weight=1.0)
    frame = simulate(
        Scenario(transactions=2_000, cards=100, merchants=300, days=10, fraud_rate=0.05, campaigns=(late,))
    )
    assert len(frame) == 2_000
    assert "late" not in frame["typology"].unique()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"mcc": ()}, "mcc"),
        ({"mcc": ("6011",)}, "6011"),
        ({"amount_eur": 0.0}, "amount_eur"),
        ({"payments": 0.5}, "payments"),
        ({"gap_minutes": math.nan}, "gap_minutes"),
        ({"merchants": 0}, "merchants"),
        ({"city": "Atlantis"}, "Atlantis"),
    ],
)
def test_a_bad_tactic_is_refused_by_name(change, match):
    """The message says which number or name."""
    with pytest.raises(ConfigError, match=match):
        Tactic(**{"mcc": ("5947",), "amount_eur": 50.0, **change})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": ""}, "name"),
        ({"first_day": -1}, "first_day"),
        ({"days": 0}, "days"),
        ({"weight": math.inf}, "weight"),
        ({"told_by_customers": 1.5}, "told_by_customers"),
    ],
)
def test_a_bad_campaign_is_refused_by_name(change, match):
    """The message says which number."""
    with pytest.raises(ConfigError, match=match):
        Campaign(**{**CAMPAIGN, **change})


@pytest.mark.parametrize("names", [("one", "one"), ("stolen_card",)])
def test_campaigns_have_names_of_their_own(names):
    """A typology's name would count its payments as two things."""
    with pytest.raises(ConfigError, match=names[0]):
        Scenario(campaigns=tuple(Campaign(**{**CAMPAIGN, "name": name}) for name in names))
