"""Rows as columns: the bits and the errors of reading value by value, and of a frame of the same values."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tollgate.config import parse_config
from tollgate.errors import InputError
from tollgate.frame import FrameColumns
from tollgate.intake import TransactionReader
from tollgate.schema import payment_schema

FOREIGN = parse_config(
    """
    [money]
    currency = "EUR"
    [schema]
    ignore = ["note"]
    [schema.columns]
    risk = { kind = "number", required = true }
    born = { kind = "timestamp", zone = "Europe/Berlin" }
    since = { kind = "timestamp", unit = "s" }
    transaction_id = { kind = "id", from = "ref" }
    total = { kind = "money", currency = "JPY", required = true }
    tip = { kind = "money", currency_column = "tip_currency" }
    tip_currency = { kind = "category" }
    effective_time = { kind = "timestamp", from = "when", unit = "ms" }
    shop_id = { kind = "entity", from = "shop", required = true }
    shop = { kind = "category" }
    score = { kind = "number", from = "shop" }
    known = { kind = "flag", required = true }
    home = { kind = "location", lat = "y", lon = "x", required = true }
    [[money.rates]]
    date = 1970-01-02
    to_base = { JPY = 0.006, USD = 0.9 }
    """,
    "test",
)
BARE = parse_config(
    """
    [schema.columns]
    transaction_id = { kind = "id" }
    effective_time = { kind = "timestamp" }
    """,
    "test",
)
READERS = {
    "payment": TransactionReader(payment_schema(), FOREIGN.money, b"k" * 16),
    "foreign": TransactionReader(FOREIGN.table, FOREIGN.money, b"k" * 16),
    "bare": TransactionReader(BARE.table, BARE.money, b"k" * 16),
}

NOTHING = st.none() | st.just("") | st.just(math.nan)
TIMES = st.sampled_from([
    "2026-01-31T12:00:00Z", "2026-01-31 12:00:00.5+01:00", "2026-01-31T12:00:00", "2026-01-31", "soon", "1960-01-01T00:00Z",
    1_769_860_800, 1_769_860_800_000, 1.5, -0.0, -1, -0.4, 10**400, 1e300, "1769860800", "2026-07-01T12:00:00.123456Z",
    datetime(2026, 1, 31, 12, tzinfo=UTC), datetime.fromisoformat("2026-01-31T12:00:00"), "2026-01-31T12:00:00Z" + " " * 300,
])  # fmt: skip
TEXTS = st.text(max_size=12) | st.sampled_from(
    ["x" * 256, "x" * 257, "é" * 256, "é" * 257, "\0", "\ud800", "a\0b", "7"]
)
IDS = TEXTS | st.sampled_from([7, 7.0, -0.0, 0.5, 10**300, True, math.inf, 2**70]) | st.integers()
AMOUNTS = st.integers(0, 10**7).map(lambda cents: cents / 100) | st.sampled_from(
    [0, -0.0, 1.005, -1.0, 1e12, "12.30", "x", True, 10**400, math.inf, 100, 5.0]
)
NUMBERS = st.floats(-90, 90) | st.sampled_from([0, 91, -180.5, 180, "52.5", "x", True, math.inf, 10**400, -0.0])
FLAGS = st.booleans() | st.sampled_from([0, 1, 2, "true", "no", 1.0])
CURRENCIES = st.sampled_from(["EUR", "EUR", "USD", "JPY", "GBP", "XXX", "eur", 7])


FIELDS = {
        "transaction_id": IDS, "ref": IDS, "effective_time": TIMES, "when": TIMES, "born": TIMES, "since": TIMES,
        "amount": AMOUNTS, "total": AMOUNTS, "tip": AMOUNTS, "currency": CURRENCIES, "tip_currency": CURRENCIES,
        "lat": NUMBERS, "lon": NUMBERS, "x": NUMBERS, "y": NUMBERS, "risk": NUMBERS,
        "card_present": FLAGS, "known": FLAGS, "shop": IDS | NUMBERS,
}  # fmt: skip


GOOD = {
    "transaction_id": "t", "ref": "t", "effective_time": "2026-01-31T12:00:00Z", "when": 1_769_860_800_000,
    "amount": 1.0, "total": 100.0, "currency": "EUR", "card_id": "c", "x": 1.0, "y": 1.0, "risk": 1.0, "known": True,
    "shop": "7",
}  # fmt: skip


def strange(reader):
    """Rows with any value in any field, most fields as they should be."""
    fields = list(dict.fromkeys(s for name in reader.schema.columns for s in reader.schema.sources(name)))
    usual = {field: st.just(GOOD.get(field)) for field in fields}
    return st.fixed_dictionaries({
        field: usual[field] | usual[field] | usual[field] | NOTHING | FIELDS.get(field, IDS) for field in fields
    })  # fmt: skip


def one_by_one(reader, row):
    try:
        return reader.read_row(row)
    except InputError as error:
        return error


@pytest.mark.parametrize("case", READERS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_columns_have_the_bits_and_the_errors_of_reading_value_by_value(case, data):
    """Whatever a batch holds, each of its rows is what it is alone."""
    reader = READERS[case]
    rows = data.draw(st.lists(strange(reader), min_size=1, max_size=6))
    converted = reader.convert([reader.row(row) for row in rows])
    batch = converted.batch
    assert len(batch) == len(rows)
    for place, row in enumerate(rows):
        want = one_by_one(reader, row)
        if isinstance(want, InputError):
            assert converted.errors[place].as_dict() == want.as_dict()
            assert batch.keys[:, place].tolist() == [0] * len(batch.keys)
            assert np.isnan(batch.values[:, place]).all()
        else:
            assert place not in converted.errors
            identifier, time_us, keys, values = want
            assert (batch.ids[place], batch.time_us[place], batch.keys[:, place].tolist()) == (
                identifier,
                time_us,
                keys,
            )
            assert batch.values[:, place].tobytes() == np.array(values).tobytes()


def test_no_rows_are_an_empty_batch():
    """An empty array is answered with an empty array."""
    converted = READERS["payment"].convert([])
    assert (len(converted.batch), converted.errors) == (0, {})
    assert converted.batch.values.shape == (9, 0)
    assert converted.batch.keys.shape == (5, 0)


OFFSETS = st.integers(-720, 720).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime.fromisoformat("1969-12-31"), datetime.fromisoformat("2200-01-02"), timezones=OFFSETS)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
PLAIN = st.fixed_dictionaries({
    "transaction_id": WORDS,
    "effective_time": MOMENTS.map(datetime.isoformat) | st.sampled_from(["2026-01-31", "2026-01-31T12:00", "soon"]),
    "amount": st.none() | st.integers(-5, 10**7).map(lambda cents: cents / 100) | st.sampled_from([1.005, -0.0, 1e12]),
    "currency": st.sampled_from(["EUR", "EUR", "EUR", "JPY", "USD", "XXX", "", None]),
    "card_id": WORDS | st.none(),
    "merchant_id": st.none() | st.integers(0, 9),
    "mcc": st.none() | st.integers(0, 9999),
    "channel": WORDS | st.none(),
    "lat": st.none() | st.floats(-91, 91),
    "lon": st.none() | st.floats(-181, 181),
    "card_present": st.none() | st.booleans(),
})  # fmt: skip
TYPES = {
    "transaction_id": pl.String, "effective_time": pl.String, "amount": pl.Float64, "currency": pl.String,
    "card_id": pl.String, "merchant_id": pl.Int64, "mcc": pl.Int64, "channel": pl.String, "lat": pl.Float64,
    "lon": pl.Float64, "card_present": pl.Boolean,
}  # fmt: skip
ROW = {
    "transaction_id": "t", "effective_time": "2026-01-31T12:00:00Z", "amount": -0.0, "currency": "EUR", "card_id": "c",
    "merchant_id": 7, "mcc": 5411, "channel": "é\0", "lat": -0.0, "lon": None, "card_present": True,
}  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(PLAIN, min_size=1, max_size=5))
@example([ROW])
def test_json_and_a_frame_of_the_same_values_agree(rows):
    """One transaction has one meaning: the same rows are refused, and the others have the same bits."""
    reader = READERS["payment"]
    _, decoded = reader.decode(json.dumps(rows).encode())
    converted = reader.convert(decoded)
    frame = FrameColumns(pl.DataFrame(rows, schema=TYPES), reader)
    ids, time_us = frame.texts("transaction_id"), frame.times()
    keys = np.array([frame.keys(name) for name in reader.schema.entities])
    values = np.array([frame.values(name, time_us) for name in reader.schema.values])
    frame.require(reader.required)
    assert set(frame.errors) == set(converted.errors)
    for row in set(range(len(rows))) - set(converted.errors):
        assert ids[row] == converted.batch.ids[row]
        assert time_us[row] == converted.batch.time_us[row]
        assert keys[:, row].tobytes() == converted.batch.keys[:, row].tobytes()
        assert values[:, row].tobytes() == converted.batch.values[:, row].tobytes()
