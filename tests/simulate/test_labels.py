"""When labels arrive."""

import datetime as dt

import polars as pl
import pytest


@pytest.fixture(scope="module")
def delays(frame):
    return frame.with_columns(delay=pl.col("label_available") - pl.col("effective_time"))


def test_no_label_arrives_before_its_payment(delays):
    assert delays["delay"].min() > dt.timedelta(0)


def test_honest_payments_are_taken_for_honest_when_the_maturity_has_passed(delays, scenario):
    honest = delays.filter(~pl.col("is_fraud"))["delay"]
    assert set(honest) == {dt.timedelta(days=scenario.maturity_days)}


def test_reports_take_hours_to_days_and_chargebacks_days_to_weeks(delays):
    median = dict(delays.drop_nulls("typology").group_by("typology").agg(pl.col("delay").median()).iter_rows())
    assert dt.timedelta(hours=2) < median["card_testing"] < dt.timedelta(days=3)
    assert dt.timedelta(hours=2) < median["account_takeover"] < dt.timedelta(days=4)
    assert dt.timedelta(days=6) < median["first_party"] < dt.timedelta(days=20)
    assert delays.filter(pl.col("typology") == "first_party")["delay"].min() >= dt.timedelta(days=2)


def test_some_frauds_are_known_only_after_the_maturity(delays, scenario):
    late = delays.filter("is_fraud")["delay"] > dt.timedelta(days=scenario.maturity_days)
    assert 0.02 < late.mean() < 0.4
