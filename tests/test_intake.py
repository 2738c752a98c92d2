"""JSON transactions: what is accepted, and what each kind of bad input is told."""

import json
import math

import numpy as np
import pytest

from tollgate.config import parse_config
from tollgate.errors import InputError
from tollgate.hashing import HashKey, category_code, entity_key
from tollgate.intake import TransactionReader
from tollgate.money import Money
from tollgate.schema import payment_schema

KEY = b"k" * 16
HASH_KEY = HashKey.of(KEY)
READER = TransactionReader(payment_schema(), Money("EUR"), KEY)
PAYMENT = {
    "transaction_id": "t-1",
    "effective_time": "2026-01-31T12:00:00Z",
    "amount": 12.34,
    "currency": "EUR",
    "card_id": "card-1",
    "channel": "ecom",
    "lat": 52.5,
    "lon": 13.4,
    "card_present": False,
}


def read(reader=READER, **changes):
    row = {key: value for key, value in (PAYMENT | changes).items() if value is not ...}
    return reader.from_json(json.dumps(row).encode())


def test_a_payment_becomes_columns():
    batch = read()
    assert list(batch.ids) == ["t-1"]
    assert batch.time_us.tolist() == [1_769_860_800_000_000]
    assert batch.value("amount").tolist() == [1234.0]
    assert batch.key("card_id").tolist() == [entity_key("card-1", HASH_KEY)]
    assert batch.value("channel").tolist() == [category_code("ecom")]
    assert batch.value("location_lat").tolist() == [52.5]
    assert batch.value("card_present").tolist() == [0.0]
    assert batch.key("device_id").tolist() == [0]
    assert math.isnan(batch.value("mcc")[0])
    assert batch.missing(0) == ("customer_id", "merchant_id", "device_id", "ip", "mcc", "country")


@pytest.mark.parametrize("same", [7, "7", 7.0])
def test_an_id_is_the_same_as_a_text_and_as_a_number(same):
    assert read(card_id=same).key("card_id")[0] == entity_key("7", HASH_KEY)


def test_an_offset_is_taken_into_account():
    assert read(effective_time="2026-01-31T13:00:00+01:00").time_us == read().time_us


@pytest.mark.parametrize(
    ("changes", "code", "column"),
    [
        ({"amount": ...}, "missing_field", "amount"),
        ({"amount": None}, "missing_value", "amount"),
        ({"card_id": ""}, "missing_value", "card_id"),
        ({"amount": "12.34"}, "wrong_type", "amount"),
        ({"amount": -1}, "bad_amount", "amount"),
        ({"amount": 1.234}, "bad_amount", "amount"),
        ({"amount": 1e12}, "bad_amount", "amount"),
        ({"amount": True}, "wrong_type", "amount"),
        ({"currency": "XXY"}, "unknown_currency", "amount"),
        ({"currency": "GBP"}, "no_rate", "amount"),
        ({"effective_time": "2026-01-31T12:00:00"}, "no_zone", "effective_time"),
        ({"effective_time": "yesterday"}, "bad_timestamp", "effective_time"),
        ({"effective_time": "1969-01-01T00:00:00Z"}, "bad_timestamp", "effective_time"),
        ({"effective_time": 1_769_860_800}, "bad_timestamp", "effective_time"),
        ({"lat": 91}, "bad_location", "location"),
        ({"card_present": 3}, "wrong_type", "card_present"),
        ({"card_id": "x" * 257}, "too_long", "card_id"),
        ({"card_id": {"a": 1}}, "wrong_type", "card_id"),
        ({"colour": "red"}, "unknown_field", "colour"),
    ],
)
def test_bad_input_is_named_with_a_stable_code(changes, code, column):
    with pytest.raises(InputError) as caught:
        read(**changes)
    assert caught.value.code == code
    assert caught.value.where["column"] == column
    assert len(caught.value.message) > 20


@pytest.mark.parametrize("body", [b"", b"{", b'{"amount":', b"3", b'"text"', b"[1]", b"\xff\xfe", b'{"amount": NaN}'])
def test_what_is_no_transaction_is_refused(body):
    with pytest.raises(InputError) as caught:
        READER.from_json(body)
    assert caught.value.code in ("invalid_json", "wrong_type")


def test_an_error_in_an_array_names_the_row():
    rows = [PAYMENT, PAYMENT | {"transaction_id": "t-2", "lat": 1000}]
    with pytest.raises(InputError) as caught:
        READER.from_json(json.dumps(rows).encode())
    assert caught.value.where["row"] == 1


def test_an_id_twice_in_one_array_is_refused():
    with pytest.raises(InputError, match="came before") as caught:
        READER.from_json(json.dumps([PAYMENT, PAYMENT]).encode())
    assert caught.value.as_dict()["code"] == "duplicate_id"
    assert caught.value.where["row"] == 1


CONVERTING = parse_config(
    """
    [money]
    currency = "EUR"
    [[money.rates]]
    date = 2026-01-01
    to_base = { GBP = 1.15, JPY = 0.006 }
    [[money.rates]]
    date = 2026-02-01
    to_base = { GBP = 1.20 }
    """,
    "test",
)


@pytest.mark.parametrize(
    ("amount", "currency", "day", "minor"),
    [
        (100, "GBP", "2026-01-31", 11_500),
        (100, "GBP", "2026-02-01", 12_000),
        (1000, "JPY", "2026-02-10", 600),
        (10, "EUR", "2020-01-01", 1000),
    ],
)
def test_other_currencies_are_converted_at_the_newest_rate_not_after_the_day(amount, currency, day, minor):
    reader = TransactionReader(payment_schema(), CONVERTING.money, KEY)
    batch = read(reader, amount=amount, currency=currency, effective_time=f"{day}T12:00:00Z")
    assert batch.value("amount").tolist() == [minor]


def test_a_currency_without_decimals_takes_none():
    reader = TransactionReader(payment_schema(), CONVERTING.money, KEY)
    with pytest.raises(InputError, match="at most 0 decimals in JPY"):
        read(reader, amount=10.5, currency="JPY", effective_time="2026-02-10T12:00:00Z")


def test_foreign_names_zones_units_and_ignored_fields_are_read_by_the_mapping():
    config = parse_config(
        """
        [schema]
        ignore = ["note"]
        [schema.columns]
        transaction_id = { kind = "id", from = "ref" }
        effective_time = { kind = "timestamp", from = "when", zone = "Europe/Berlin" }
        born = { kind = "timestamp", unit = "s" }
        amount = { kind = "money", from = "total", currency = "EUR" }
        shop_id = { kind = "entity", from = "shop" }
        shop = { kind = "category" }
        """,
        "test",
    )
    reader = TransactionReader(config.table, config.money, KEY)
    row = {"ref": 5, "when": "2026-07-01 12:00:00", "total": 1, "shop": "a", "born": -86400, "note": [1, 2]}
    batch = reader.from_json(json.dumps(row).encode())
    assert batch.time_us[0] == 1_782_900_000_000_000  # 10:00 UTC in summer
    assert batch.value("born")[0] == -86400e6
    assert batch.key("shop_id")[0] == entity_key("a", HASH_KEY)
    assert batch.value("shop")[0] == category_code("a")


def test_a_big_array_is_read_row_by_row_in_order():
    rows = [PAYMENT | {"transaction_id": f"t-{i}", "amount": i} for i in range(100)]
    batch = READER.from_json(json.dumps(rows).encode())
    assert batch.value("amount").tolist() == [i * 100 for i in range(100)]
    assert np.unique(batch.keys[0]).size == 1
