"""Durations, money, schema and configuration: what is read, and what is refused with which words."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.config import parse_config, read_config
from tollgate.duration import format_duration, parse_duration_us
from tollgate.errors import ConfigError, InputError
from tollgate.money import EXPONENTS, DatedRates, Money
from tollgate.schema import Column, Kind, Schema, payment_schema


@given(st.integers(1, 10**6), st.sampled_from("smhd"))
def test_a_duration_survives_being_written(count, unit):
    duration_us = parse_duration_us(f"{count}{unit}")
    assert parse_duration_us(format_duration(duration_us)) == duration_us


@pytest.mark.parametrize("text", ["", "7", "d", "1.5h", "-1d", "7 d", "1y"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match="expected a duration such as"):
        parse_duration_us(text)


@given(st.integers(0, 10**11), st.sampled_from(["EUR", "JPY", "BHD", "CLF"]))
def test_a_decimal_amount_becomes_exactly_its_minor_units(minor, currency):
    exponent = EXPONENTS[currency]
    text = f"{minor // 10**exponent}.{minor % 10**exponent:0{exponent}d}" if exponent else str(minor)
    assert Money(currency).to_minor(float(text), currency, 0) == minor


def test_rates_must_be_positive_dated_in_order_and_of_known_currencies():
    with pytest.raises(ConfigError, match="dates that rise"):
        Money("EUR", (DatedRates(date(2026, 2, 1), {}), DatedRates(date(2026, 1, 1), {})))
    with pytest.raises(ConfigError, match="above 0"):
        Money("EUR", (DatedRates(date(2026, 1, 1), {"USD": 0.0}),))
    with pytest.raises(ConfigError, match="'XXY'"):
        Money("EUR", (DatedRates(date(2026, 1, 1), {"XXY": 1.0}),))


def test_a_rate_is_not_used_before_its_date():
    money = Money("EUR", (DatedRates(date(2026, 1, 2), {"USD": 0.9}),))
    with pytest.raises(InputError, match="a rate on 2026-01-01, but got USD"):
        money.to_minor(1, "USD", 1_767_225_600_000_000)


def test_the_built_in_schema_has_the_columns_of_a_card_payment():
    schema = payment_schema()
    assert schema.entities == ("card_id", "customer_id", "merchant_id", "device_id", "ip")
    assert schema.values[-3:] == ("location_lat", "location_lon", "card_present")


IDENTITY = {"transaction_id": Column(Kind.ID), "effective_time": Column(Kind.TIMESTAMP)}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "expected a column 'transaction_id'"),
        (IDENTITY | {"ref": Column(Kind.ID)}, "use 'entity'"),
        (IDENTITY | {"amount": Column(Kind.MONEY)}, "'currency' or 'currency_column'"),
        (IDENTITY | {"amount": Column(Kind.MONEY, currency="XXY")}, "no ISO 4217 code"),
        (IDENTITY | {"amount": Column(Kind.MONEY, currency_column="cur")}, "a category column 'cur'"),
        (IDENTITY | {"age": Column(Kind.NUMBER, zone="UTC")}, "'zone' does not belong to kind 'number'"),
        (IDENTITY | {"my age": Column(Kind.NUMBER)}, "letters, digits and _"),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(columns, says):
    with pytest.raises(ConfigError, match=says):
        Schema(columns)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[policy]\nblok = 0.9", "unknown field `blok`"),
        ("[policy]\nblock = 1.5", "<= 1"),
        ("[policy]\nblock = 0.3", "review <= block"),
        ("[serve]\nport = 'x'", "Expected `int`, got `str` - at `\\$.serve.port`"),
        ("[label]\ndelay = 'a week'", "expected a duration"),
        ("[split]\ntest_share = 0.3\ntest = '7d'", "but got both"),
        ("policy = [", "test.toml"),
    ],
)
def test_a_wrong_configuration_is_refused_and_named(text, says):
    with pytest.raises(ConfigError, match=says) as caught:
        parse_config(text, "test.toml")
    assert caught.value.exit_code == 2


def test_paths_in_a_configuration_are_relative_to_its_folder(tmp_path):
    path = tmp_path / "tollgate.toml"
    path.write_text('features = "f.py"\nbundles = "b"\n[ledger]\nurl = "sqlite:///l.db"\n')
    config = read_config(path)
    assert config.features == str(tmp_path / "f.py")
    assert config.bundles == str(tmp_path / "b")
    assert config.ledger.url == f"sqlite:///{tmp_path}/l.db"


def test_a_configuration_that_is_not_there_says_how_to_name_one(tmp_path):
    with pytest.raises(ConfigError, match="name it with --config"):
        read_config(tmp_path / "none.toml")
