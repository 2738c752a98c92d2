"""How honest payments change."""

import datetime as dt

import polars as pl
import pytest

from tollgate.errors import ConfigError
from tollgate.simulate import Drift, Rotation, Scenario, Surge, rotating, simulate

YEAR = {"transactions": 30_000, "cards": 1_500, "merchants": 500, "days": 365, "fraud_rate": 0.0}


def online(frame):
    return frame.filter(pl.col("channel") == "ecom")


def quarter(frame, number):
    """Return the payments of a quarter of the year, from 0."""
    start = Scenario().start + dt.timedelta(days=91 * number)
    return frame.filter(pl.col("effective_time").dt.date().is_between(start, start + dt.timedelta(days=90)))


def test_prices_rise_with_inflation_and_banknotes_stay_whole():
    """The same payments, dearer the later they are."""
    plain, dear = simulate(Scenario(**YEAR)), simulate(Scenario(**YEAR, drift=Drift(inflation=1.0)))
    assert plain["transaction_id"].equals(dear["transaction_id"])
    paid = [one.filter(pl.col("channel") != "atm") for one in (plain, dear)]
    first, last = ([quarter(one, number)["amount"].sum() for one in paid] for number in (0, 3))
    assert 1.05 < first[1] / first[0] < 1.15
    assert 1.75 < last[1] / last[0] < 2.0
    assert (dear.filter(pl.col("channel") == "atm")["amount"] % 10 == 0).all()
    assert (dear["amount"].round(2) == dear["amount"]).all()


def test_the_share_of_payments_online_grows():
    """Twice as many a year later, beside as many others."""
    frame = simulate(Scenario(**YEAR, drift=Drift(online_growth=1.0)))
    shares = [len(online(quarter(frame, number))) / len(quarter(frame, number)) for number in (0, 3)]
    assert shares[1] > 1.25 * shares[0]


def test_a_surge_is_of_its_days_and_of_what_is_wanted():
    """Before and after it, as much of that is bought as ever."""
    surge = Surge(first_day=100, days=10, mcc=("5816",), share=0.5, factor=3.0)
    frame = online(simulate(Scenario(**YEAR, drift=Drift(surges=(surge,)))))
    start = dt.datetime.combine(Scenario().start, dt.time(), dt.UTC) + dt.timedelta(days=100)
    then = pl.col("effective_time").is_between(start, start + dt.timedelta(days=10), closed="left")
    bought = pl.col("mcc") == "5816"
    during, usual = frame.filter(then), frame.filter(~then)
    assert during.select(bought.mean()).item() > 0.45
    assert usual.select(bought.mean()).item() < 0.3
    assert during.filter(bought)["amount"].median() > 2 * usual.filter(bought)["amount"].median()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Drift, {"inflation": -1.0}),
        (Drift, {"online_growth": 11.0}),
        (Surge, {"first_day": 0, "days": 1, "mcc": ("5541",), "share": 0.1}),
        (Surge, {"first_day": 0, "days": 1, "mcc": ("5816",), "share": 1.1}),
        (Rotation, {"share": 1.0}),
        (Rotation, {"every_days": 0.0}),
    ],
)
def test_what_cannot_be_is_refused(kind, values):
    """With a message that says what was expected."""
    with pytest.raises(ConfigError, match="expected"):
        kind(**values)


def test_a_seed_decides_which_campaigns_come_and_another_has_others():
    """So several years can be measured."""
    one, same, other = (rotating(Scenario(days=365, seed=seed), Rotation()) for seed in (1, 1, 2))
    assert one == same
    assert one.campaigns != other.campaigns


def test_campaigns_come_all_year_as_often_and_long_and_many_as_asked():
    """Some are under way when it begins; while they last, all are equally strong."""
    days = 3000
    scenario = rotating(Scenario(days=days), Rotation(every_days=10.0, lasting_days=30.0, share=0.6))
    campaigns = scenario.campaigns
    assert 0.8 * days / 10 < len(campaigns) < 1.25 * days / 10
    assert campaigns[0].first_day == 0
    whole = [one.days for one in campaigns if one.first_day > 0 and one.first_day + one.days < days]
    assert 25 < sum(whole) / len(whole) < 37
    assert all(one.first_day + one.days <= days + 1e-9 for one in campaigns)
    assert len({round(one.weight / one.days, 12) for one in campaigns}) == 1
    parts = scenario.divide()
    assert abs(sum(parts[5:]) / sum(parts) - 0.6) < 0.01


def test_without_a_share_there_are_no_campaigns_and_without_surges_none():
    """What does not rotate stays as it is."""
    still = rotating(Scenario(drift=Drift(inflation=0.1)), Rotation(share=0.0, surges_every_days=0.0))
    assert still == Scenario(drift=Drift(inflation=0.1))
