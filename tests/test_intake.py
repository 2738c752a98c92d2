"""JSON transactions: what is accepted, and what each kind of bad input is told."""

import json
import math

import numpy as np
import pytest

from tollgate.config import parse_config
from tollgate.errors import InputError, MalformedError, TooLargeError
from tollgate.hashing import HashKey, category_code, entity_key
from tollgate.intake import TransactionReader, check_unique
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
    assert batch.missing()[0] == ("customer_id", "merchant_id", "device_id", "ip", "mcc", "country")


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


def test_more_rows_than_the_limit_are_too_many():
    """The limit is the caller's, and an array of exactly that many is read."""
    body = json.dumps([PAYMENT] * 3).encode()
    assert READER.decode(body, 3)[0]
    with pytest.raises(TooLargeError, match="at most 2 transactions in one array, but got 3") as caught:
        READER.decode(body, 2)
    assert caught.value.code == "too_many"


NOTED = parse_config('[schema]\nignore = ["note"]\n[schema.columns]\n'
                     'transaction_id = { kind = "id" }\neffective_time = { kind = "timestamp" }\n', "test").table  # fmt: skip
NOTED_READER = TransactionReader(NOTED, Money("EUR"), KEY)
NESTED = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("reader", [READER, NOTED_READER])
@pytest.mark.parametrize(
    "body",
    [
        NESTED,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"note": %b, "transaction_id": "t-1"}' % NESTED,
        b'{"transaction_id": "t-1", "effective_time": %b}' % NESTED,
    ],
)
def test_deep_nesting_is_refused(reader, body):
    """No body ends in an error that is not an answer, wherever it is nested."""
    with pytest.raises(InputError) as caught:
        reader.decode(body)
    assert caught.value.code in ("invalid_json", "wrong_type", "unknown_field")


def test_deep_nesting_in_an_ignored_field_says_so():
    """What is not read is still read over."""
    with pytest.raises(MalformedError, match="nested too deeply"):
        NOTED_READER.decode(b'{"note": %b, "transaction_id": "t-1", "effective_time": "x"}' % NESTED)


def body(row, reader=READER):
    (decoded,) = reader.decode(json.dumps(row).encode())[1]
    return reader.body(decoded)


def test_equal_transactions_are_equal_bytes():
    """The order of fields, a null and the form of a number make no difference; a value does."""
    shuffled = dict(reversed(PAYMENT.items())) | {"device_id": None, "amount": 12.340}
    assert body(shuffled) == body(PAYMENT)
    assert body(PAYMENT | {"lat": 52}) == body(PAYMENT | {"lat": 52.0})
    assert body(PAYMENT | {"amount": 12.35}) != body(PAYMENT)
    assert json.loads(body(PAYMENT)) == PAYMENT


def test_a_body_is_read_back_as_itself():
    """What is recorded has one form."""
    assert body(json.loads(body(PAYMENT))) == body(PAYMENT)


def test_an_ignored_field_is_not_kept():
    """Whoever names a field to be ignored may count on it not being stored."""
    row = {"transaction_id": "t-1", "effective_time": "2026-01-31T12:00:00Z"}
    assert json.loads(body(row | {"note": {"secret": [1]}}, NOTED_READER)) == row
    assert body(row | {"note": 1}, NOTED_READER) == body(row, NOTED_READER)


def test_errors_are_found_row_by_row_and_the_other_rows_are_read():
    """One bad row does not take the others of its batch with it, and an id may come again."""
    rows = [PAYMENT, PAYMENT | {"amount": -1}, PAYMENT, PAYMENT | {"card_id": ""}]
    converted = READER.convert(READER.decode(json.dumps(rows).encode())[1])
    assert {row: error.as_dict()["code"] for row, error in converted.errors.items()} == {
        1: "bad_amount",
        3: "missing_value",
    }
    assert all("row" not in error.where for error in converted.errors.values())
    assert converted.batch.value("amount")[[0, 2]].tolist() == [1234.0, 1234.0]


def test_recorded_bodies_are_read_as_what_was_recorded():
    """A repeated id is the ledger's to refuse, not the reader's."""
    rows = [PAYMENT | {"amount": float(i)} for i in range(3)]
    batch = READER.from_bodies([body(row) for row in rows])
    assert batch.value("amount").tolist() == [0.0, 100.0, 200.0]
    assert len(READER.from_bodies([])) == 0


@pytest.mark.parametrize("bad", [b"{", b"[]", b"{}", body(PAYMENT).replace(b"12.34", b"-1")])
def test_a_recorded_body_that_cannot_be_read_is_named(bad):
    """So that it can be found in the ledger."""
    with pytest.raises(InputError) as caught:
        READER.from_bodies([body(PAYMENT), bad])
    assert caught.value.where["row"] == 1


def test_the_second_of_two_equal_ids_is_named():
    """Callers with ids in hand get the same refusal as an array does."""
    check_unique(["a", "b"])
    with pytest.raises(InputError, match="'b' came before") as caught:
        check_unique(["a", "b", "c", "b", "a"])
    assert caught.value.as_dict() | {"message": ""} == {
        "code": "duplicate_id", "message": "", "row": 3, "column": "transaction_id",
    }  # fmt: skip


def test_a_file_s_texts_become_the_types_of_json():
    """Numbers are numbers, flags are true or false; ids and times stay as they are, and what is missing is left out."""
    cells = {"transaction_id": "007", "card_id": 7, "currency": "EUR", "amount": "12.30", "lat": "52", "lon": 13, "card_present": "1", "mcc": "0011",
             "effective_time": "2026-01-31 12:00:00Z", "device_id": "", "channel": None, "colour": "red"}  # fmt: skip
    assert json.loads(READER.body(READER.typed(cells))) == {
        "transaction_id": "007", "effective_time": "2026-01-31 12:00:00Z", "amount": 12.3, "mcc": "0011",
        "lat": 52.0, "lon": 13.0, "card_present": True, "currency": "EUR", "card_id": 7,
    }  # fmt: skip


TIMED = '[schema.columns]\ntransaction_id = { kind = "id" }\neffective_time = { kind = "timestamp" UNIT }\n'


@pytest.mark.parametrize(("cell", "kept"), [("2026-01-01", "2026-01-01"), ("1767225600", 1767225600.0)])
def test_a_time_becomes_a_number_where_the_column_counts(cell, kept):
    """A time that is written out stays as it was written."""
    unit = ', unit = "s"' if isinstance(kept, float) else ', zone = "UTC"'
    schema = TIMED.replace("UNIT", unit)
    reader = TransactionReader(parse_config(schema, "test").table, Money("EUR"), KEY)
    written = reader.body(reader.typed({"transaction_id": "t", "effective_time": cell}))
    assert json.loads(written)["effective_time"] == kept
    assert reader.from_bodies([written]).time_us.tolist() == [1_767_225_600_000_000]
