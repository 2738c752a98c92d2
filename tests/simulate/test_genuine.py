"""The habits of honest customers."""

import numpy as np
import polars as pl


def by_hour(rows: pl.DataFrame) -> np.ndarray:
    hours = rows["effective_time"].dt.hour().to_numpy()
    return np.bincount(hours, minlength=24) / len(rows)


def test_nights_are_quiet_and_each_channel_has_its_own_hours(honest):
    at_home = honest.filter(pl.col("country").is_in(["FR", "DE", "ES", "IT", "NL", "BE", "AT"]))  # all at UTC+1
    pos, ecom, moto = (by_hour(at_home.filter(pl.col("channel") == channel)) for channel in ("pos", "ecom", "moto"))
    assert pos[0:4].sum() < 0.02  # 1 to 5 in the morning, local
    assert pos[16:19].sum() > 0.2
    assert ecom[19:21].sum() > 1.5 * pos[19:21].sum()
    assert moto[7:16].sum() > 0.9


def test_saturday_belongs_to_the_shops_and_sunday_to_the_web(honest):
    counts = dict(
        honest.group_by("channel", honest["effective_time"].dt.weekday().alias("day"))
        .len()
        .select(pl.struct("channel", "day").map_elements(lambda key: f"{key['channel']}{key['day']}", pl.String), "len")
        .iter_rows()
    )
    assert counts["pos6"] > 1.3 * counts["pos7"]
    assert counts["ecom7"] > counts["ecom6"]
    assert counts["moto7"] < 0.3 * counts["moto1"]


def test_weekends_begin_later_than_working_days(honest):
    pos = honest.filter(pl.col("channel") == "pos")
    weekend = pos["effective_time"].dt.weekday() > 5
    assert by_hour(pos.filter(weekend))[5:8].sum() < 0.8 * by_hour(pos.filter(~weekend))[5:8].sum()


def test_a_few_cards_and_merchants_make_most_of_the_payments(honest, scenario):
    for name, total in (("card_id", scenario.cards), ("merchant_id", scenario.merchants)):
        counts = honest.group_by(name).len()["len"].sort(descending=True).to_numpy()
        tenth = counts[: total // 10].sum() / len(honest)
        least = counts[total // 2 :].sum() / len(honest)
        assert 0.3 < tenth < 0.9, name
        assert least < 0.25, name


def test_some_customers_pay_abroad_and_most_never_do(honest):
    shops = honest.filter("card_present").drop_nulls(["customer_id", "country"])
    countries = shops.group_by("customer_id").agg(pl.col("country").n_unique(), pl.len()).filter(pl.col("len") > 5)
    travellers = (countries["country"] > 1).mean()
    assert 0.1 < travellers < 0.6


def test_households_share_devices_and_agents_pay_with_many_cards(honest):
    owners = honest.drop_nulls(["device_id", "customer_id"]).group_by("device_id").agg(pl.col("customer_id").n_unique())
    assert (owners["customer_id"] > 1).mean() > 0.03
    assert owners["customer_id"].max() > 10


def test_customers_get_new_devices_in_the_middle_of_the_scenario(honest):
    middle = honest["effective_time"].min() + (honest["effective_time"].max() - honest["effective_time"].min()) / 2
    seen = (
        honest.drop_nulls(["device_id"])
        .group_by("card_id", "device_id")
        .agg(pl.col("effective_time").min().alias("first"), pl.len())
    )
    active = (
        honest.filter(pl.col("effective_time") < middle).group_by("card_id").len().filter(pl.col("len") > 20)["card_id"]
    )
    late = seen.filter(pl.col("card_id").is_in(active.implode()), pl.col("first") > middle, pl.col("len") > 3)
    assert len(late) > 5


def test_honest_speeds_are_seldom_above_an_airliners(honest, implied_speed):
    speed = implied_speed(honest).drop_nulls("speed_kmh")
    far = (speed["speed_kmh"] > 1000) & (speed["distance_km"] > 100)
    assert 0 < far.mean() < 0.004  # a VPN, now and then
