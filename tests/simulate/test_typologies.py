"""The signature of each kind of fraud, against that of honest payments."""

import datetime as dt

import polars as pl
import pytest


@pytest.fixture(scope="module")
def attacks(frame):
    return {name: rows for (name,), rows in frame.drop_nulls("typology").group_by("typology", maintain_order=True)}


def test_card_testers_try_many_cards_from_one_device_with_tiny_amounts_in_minutes(attacks):
    probes = attacks["card_testing"].filter(pl.col("amount") < 5).drop_nulls("device_id")
    assert len(probes) > 0.7 * len(attacks["card_testing"])
    devices = probes.group_by("device_id").agg(
        pl.col("card_id").n_unique(),
        pl.col("merchant_id").n_unique(),
        pl.col("amount").median(),
        pl.col("effective_time").diff().median().alias("gap"),
    )
    bursts = devices.filter(pl.col("card_id") >= 6)
    assert bursts["card_id"].sum() > 0.8 * len(probes)
    assert bursts["merchant_id"].max() <= 3
    assert bursts["amount"].max() < 3
    assert (bursts["gap"] < dt.timedelta(minutes=1)).mean() > 0.4


def test_cards_that_passed_the_test_are_then_used_for_large_amounts(attacks):
    tested = attacks["card_testing"]
    large = tested.filter(pl.col("amount") > 20)
    first = tested.group_by("card_id").agg(pl.col("effective_time").min().alias("first"), pl.col("amount").first())
    after = large.join(first, on="card_id", suffix="_probe")
    assert len(large) > 0.05 * len(tested)
    assert (after["effective_time"] > after["first"]).mean() > 0.9
    assert large["amount"].median() > 30 * tested.filter(pl.col("amount") < 5)["amount"].median()


def test_takeovers_begin_with_a_device_new_to_the_card(frame, attacks):
    known = frame.filter(~pl.col("is_fraud")).drop_nulls("device_id").select("card_id", "device_id").unique()
    strange = attacks["account_takeover"].drop_nulls("device_id").join(known, on=["card_id", "device_id"], how="anti")
    assert len(strange) > 0.95 * attacks["account_takeover"]["device_id"].count()


def test_many_takeovers_imply_a_speed_above_an_airliners(frame, implied_speed):
    speed = implied_speed(frame).filter(pl.col("typology") == "account_takeover")
    impossible = speed.filter((pl.col("speed_kmh") > 1000) & (pl.col("distance_km") > 100))
    assert impossible["card_id"].n_unique() > 0.3 * speed["card_id"].n_unique()


def test_takeovers_cost_more_and_come_several_in_hours(attacks, honest):
    taken = attacks["account_takeover"]
    assert taken["amount"].median() > 2 * honest.filter(pl.col("channel") == "ecom")["amount"].median()
    pauses = taken.sort("card_id", "effective_time").select(pl.col("effective_time").diff().over("card_id")).to_series()
    assert pauses.drop_nulls().median() < dt.timedelta(hours=2)
    assert taken.group_by("card_id").len()["len"].mean() > 2


def test_stolen_cards_are_spent_in_person_near_where_the_owner_last_paid(frame, attacks, implied_speed):
    stolen = attacks["stolen_card"]
    assert stolen["card_present"].all()
    assert {"pos", "atm"} == set(stolen["channel"])
    hops = implied_speed(frame).filter(pl.col("typology") == "stolen_card").drop_nulls("distance_km")
    assert (hops["distance_km"] < 50).mean() > 0.9
    assert (hops["seconds"] < 2 * 3600).mean() > 0.8


def test_owners_of_stolen_cards_do_not_pay_while_they_wait_for_a_new_one(frame, attacks):
    theft = attacks["stolen_card"].group_by("card_id").agg(pl.col("effective_time").min().alias("theft"))
    waiting = (
        frame.filter(~pl.col("is_fraud"))
        .join(theft, on="card_id")
        .filter(
            pl.col("effective_time") > pl.col("theft"),
            pl.col("effective_time") < pl.col("theft") + dt.timedelta(days=3),
        )
    )
    assert waiting.is_empty()


def test_misused_cards_had_paid_at_a_merchant_in_common(frame, attacks):
    misused = attacks["compromised_merchant"]
    first = misused.group_by("card_id").agg(pl.col("effective_time").min().alias("misuse"))
    visits = (
        frame.filter(~pl.col("is_fraud")).join(first, on="card_id").filter(pl.col("effective_time") < pl.col("misuse"))
    )
    cards = visits.group_by("merchant_id").agg(pl.col("card_id").n_unique())
    honest_cards = frame.filter(~pl.col("is_fraud")).group_by("merchant_id").agg(pl.col("card_id").n_unique())
    both = cards.join(honest_cards, on="merchant_id", suffix="_honest").filter(pl.col("card_id") >= 5)
    lift = both["card_id"] / len(first) / (both["card_id_honest"] / frame["card_id"].n_unique())
    assert lift.max() > 2.5
    assert not misused["card_present"].any()


def test_first_party_fraud_comes_from_the_owners_devices(frame, attacks):
    disputed = attacks["first_party"].drop_nulls("device_id")
    honest = frame.filter(~pl.col("is_fraud")).drop_nulls("device_id").select("card_id", "device_id").unique()
    assert len(disputed.join(honest, on=["card_id", "device_id"], how="semi")) > 0.7 * len(disputed)
    assert set(disputed["channel"]) == {"ecom"}


def test_no_attack_is_given_away_by_one_simple_rule(frame):
    """Honest payments leave each signal too: at the threshold that catches half, most alerts are still false."""
    ecom = frame.filter(pl.col("channel") == "ecom")
    new_device = ecom.filter(pl.struct("card_id", "device_id").is_first_distinct() & pl.col("device_id").is_not_null())
    dear = frame.filter(pl.col("amount") > frame.filter("is_fraud")["amount"].median())
    abroad = frame.filter(pl.col("country") != pl.col("country").mode().first().over("card_id"))
    for alerts in (new_device, dear, abroad):
        assert alerts["is_fraud"].mean() < 0.5
