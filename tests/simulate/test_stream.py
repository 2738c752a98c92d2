"""The frame as a whole, its file and its JSON bodies."""

import datetime as dt
import json

import numpy as np
import polars as pl
import pytest

from tollgate.errors import ConfigError
from tollgate.intake import TransactionReader
from tollgate.money import Money
from tollgate.schema import payment_schema
from tollgate.simulate import LABEL_FIELDS, PAYMENT_FIELDS, Mix, Scenario, payloads, simulate, write

SMALL = Scenario(transactions=3_000, cards=200, merchants=300, days=10, fraud_rate=0.05)


def test_a_seed_decides_every_payment():
    assert simulate(SMALL).equals(simulate(SMALL))


def test_another_seed_gives_other_payments_under_other_ids():
    one, other = simulate(SMALL), simulate(Scenario(transactions=3_000, cards=200, merchants=300, days=10, seed=8))
    assert not set(one["transaction_id"]) & set(other["transaction_id"])
    assert not one["amount"].equals(other["amount"])


def test_columns_are_the_fields_of_the_built_in_schema_then_the_labels(frame):
    schema = payment_schema()
    assert {source for name in schema.columns for source in schema.sources(name)} == set(PAYMENT_FIELDS)
    time = pl.Datetime("us", "UTC")
    numbers = {"amount": pl.Float64, "lat": pl.Float64, "lon": pl.Float64, "card_present": pl.Boolean}
    others = {"effective_time": time, "label_available": time, "is_fraud": pl.Boolean, **numbers}
    assert dict(frame.schema) == {name: others.get(name, pl.String) for name in (*PAYMENT_FIELDS, *LABEL_FIELDS)}


def test_there_are_as_many_payments_as_asked_sorted_by_time_and_each_with_its_id(frame, scenario):
    assert len(frame) == scenario.transactions
    assert frame["effective_time"].is_sorted()
    assert frame["transaction_id"].n_unique() == len(frame)


def test_all_payments_fall_into_the_days_asked_for(frame, scenario):
    start = dt.datetime.combine(scenario.start, dt.time(), dt.UTC)
    assert start <= frame["effective_time"].min() < start + dt.timedelta(days=1)
    assert start + dt.timedelta(days=scenario.days - 1) < frame["effective_time"].max()
    assert frame["effective_time"].max() < start + dt.timedelta(days=scenario.days)


def test_every_column_but_the_typology_of_the_honest_has_few_values_missing(frame):
    remote = frame.filter(pl.col("channel") == "ecom")
    for name in PAYMENT_FIELDS:
        assert remote[name].null_count() < 0.04 * len(remote), name
    assert remote["ip"].null_count() > 0
    assert frame["lat"].is_null().equals(frame["lon"].is_null())


def test_an_id_never_looks_like_a_card_number(frame):
    for name in ("transaction_id", "card_id", "customer_id", "merchant_id", "device_id"):
        assert not frame[name].str.contains("[0-9]{12,}").any(), name
    assert frame["card_id"].str.contains("^card-[0-9]{6,}$").all()


def test_addresses_are_private_ones(frame):
    assert frame["ip"].drop_nulls().str.contains(r"^10(\.[0-9]{1,3}){3}$").all()


def test_amounts_are_positive_euros_in_whole_cents(frame):
    amount = frame["amount"].to_numpy()
    assert (amount > 0).all()
    assert (np.round(amount, 2) == amount).all()
    assert set(frame["currency"]) == {"EUR"}
    assert (frame.filter(pl.col("channel") == "atm")["amount"] % 10 == 0).all()


def test_who_pays_in_person_has_a_card_present_and_no_device_or_address(frame):
    assert frame["card_present"].equals(frame["channel"].is_in(["pos", "atm"]).rename("card_present"))
    present = frame.filter("card_present")
    assert present["device_id"].null_count() == present["ip"].null_count() == len(present)


def test_the_share_of_fraud_and_of_each_typology_is_as_asked(frame, scenario):
    asked = scenario.mix.divide(round(scenario.transactions * scenario.fraud_rate))
    found = dict(frame.drop_nulls("typology").group_by("typology").len().iter_rows())
    assert found == asked
    assert frame["is_fraud"].equals(frame["typology"].is_not_null().rename("is_fraud"))


def test_a_mix_of_one_typology_gives_only_that_one():
    only = Mix(card_testing=0, account_takeover=1, stolen_card=0, compromised_merchant=0, first_party=0)
    frame = simulate(Scenario(transactions=3_000, cards=200, merchants=300, days=10, fraud_rate=0.05, mix=only))
    assert frame["typology"].drop_nulls().unique().to_list() == ["account_takeover"]


def test_no_fraud_is_made_when_none_is_asked_for():
    assert not simulate(Scenario(transactions=500, cards=20, merchants=200, days=2, fraud_rate=0.0))["is_fraud"].any()


@pytest.mark.parametrize("transactions", [1, 2, 50])
def test_the_smallest_scenarios_work(transactions):
    frame = simulate(Scenario(transactions=transactions, cards=1, merchants=200, days=2, fraud_rate=0.5))
    assert len(frame) == transactions
    assert frame["card_id"].n_unique() == 1


def test_a_written_file_reads_back_equal_and_leaves_nothing_beside_it(tmp_path):
    frame = simulate(SMALL)
    write(frame, tmp_path / "payments.parquet")
    assert pl.read_parquet(tmp_path / "payments.parquet").equals(frame)
    assert [path.name for path in tmp_path.iterdir()] == ["payments.parquet"]


@pytest.mark.parametrize("name", ["payments.csv", "no/such/folder/payments.parquet"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="payments"):
        write(simulate(SMALL), tmp_path / name)


def test_bodies_hold_the_values_of_the_frame_without_labels_and_nulls(frame):
    rows = frame.head(500)
    for body, row in zip(payloads(rows), rows.iter_rows(named=True), strict=True):
        fields = json.loads(body)
        assert fields.pop("effective_time").endswith("Z")
        expected = {name: row[name] for name in PAYMENT_FIELDS if name != "effective_time" and row[name] is not None}
        assert fields == expected


def test_bodies_are_read_by_the_intake_as_the_same_payments(frame):
    rows = frame.head(200)
    reader = TransactionReader(payment_schema(), Money(currency="EUR"), b"k" * 16)
    batch = reader.from_json(b"[" + b",".join(payloads(rows)) + b"]")
    assert list(batch.ids) == rows["transaction_id"].to_list()
    assert batch.time_us.tolist() == rows["effective_time"].dt.epoch("us").to_list()
    assert batch.value("amount").tolist() == (rows["amount"] * 100).round().to_list()
    assert (batch.key("device_id") == 0).tolist() == rows["device_id"].is_null().to_list()
