"""Files of transactions: one meaning in every format, rejected rows with reasons, clear errors."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from tollgate.config import parse_config
from tollgate.errors import InputError
from tollgate.files import TransactionFile, rejected_line
from tollgate.frame import LabelFields
from tollgate.intake import TransactionReader
from tollgate.money import Money
from tollgate.schema import payment_schema
from tollgate.transaction import concatenate

READER = TransactionReader(payment_schema(), Money("EUR"), b"k" * 16)
DAY_US = 86_400_000_000
LABELS = LabelFields("is_fraud", None, 7 * DAY_US)


def payments(n=200, **columns):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rng = np.random.default_rng(5)
    return pl.DataFrame({
        "transaction_id": [f"t-{i}" for i in range(n)],
        "effective_time": [start + timedelta(seconds=37 * i, microseconds=i) for i in range(n)],
        "amount": np.round(rng.gamma(2, 30, n), 2),
        "currency": ["EUR"] * n,
        "card_id": [f"card-{i % 17}" for i in range(n)],
        "merchant_id": rng.integers(1, 9, n),
        "device_id": [None if i % 3 else f"d{i % 5}" for i in range(n)],
        "mcc": rng.integers(5000, 5005, n),
        "channel": ["pos" if i % 2 else "ecom" for i in range(n)],
        "lat": rng.uniform(-90, 90, n),
        "lon": rng.uniform(-180, 180, n),
        "card_present": [bool(i % 2) for i in range(n)],
        "is_fraud": [i % 50 == 0 for i in range(n)],
        **columns,
    })  # fmt: skip


def write(frame, path):
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".csv":
        frame.with_columns(pl.col("effective_time").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")).write_csv(path)
    else:
        lines = [{**row, "effective_time": row["effective_time"].isoformat()} for row in frame.to_dicts()]
        path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def read(path, reader=READER, labels=None, **options):
    return list(TransactionFile(path, reader, labels, **options).chunks(64))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_every_format_reads_as_the_same_batch_as_json(tmp_path, suffix):
    frame = payments()
    chunks = read(write(frame, tmp_path / f"payments{suffix}"), labels=LABELS)
    rows = frame.drop("is_fraud").to_dicts()
    body = json.dumps([{**row, "effective_time": row["effective_time"].isoformat()} for row in rows])
    want = READER.from_json(body.encode())
    got = concatenate([chunk.batch for chunk in chunks])
    assert list(got.ids) == list(want.ids)
    assert (got.time_us == want.time_us).all()
    assert (got.keys == want.keys).all()
    assert (got.values.view(np.int64) == want.values.view(np.int64)).all()
    assert np.concatenate([chunk.is_fraud for chunk in chunks]).tolist() == frame["is_fraud"].to_list()
    assert (np.concatenate([chunk.available_us for chunk in chunks]) == got.time_us + 7 * DAY_US).all()
    assert not any(chunk.rejected for chunk in chunks)


BAD = {
    3: ("amount", "abc", "wrong_type"),
    4: ("amount", "nan", "bad_number"),
    5: ("amount", "-3", "bad_amount"),
    6: ("amount", "", "missing_value"),
    7: ("amount", "1.005", "bad_amount"),
    70: ("currency", "XXY", "unknown_currency"),
    71: ("effective_time", "2026-01-01T00:00:00", "no_zone"),
    72: ("effective_time", "soon", "bad_timestamp"),
    73: ("transaction_id", "t-1", "duplicate_id"),
    74: ("card_id", "", "missing_value"),
    75: ("lat", "north", "wrong_type"),
    76: ("card_present", "maybe", "wrong_type"),
    150: ("is_fraud", "2", "wrong_type"),
}


def test_rejected_rows_carry_row_column_and_reason_and_the_rest_goes_on(tmp_path):
    path = write(payments(), tmp_path / "payments.csv")
    lines = [line.split(",") for line in path.read_text().splitlines()]
    for row, (column, value, _) in BAD.items():
        lines[row + 1][lines[0].index(column)] = value
    path.write_text("\n".join(",".join(line) for line in lines))
    chunks = read(path, labels=LABELS)
    rejected = {one.row: one for chunk in chunks for one in chunk.rejected}
    assert {row: one.error.code for row, one in rejected.items()} == {row: code for row, (_, _, code) in BAD.items()}
    assert rejected[75].error.where["column"] == "location"
    assert rejected[70].transaction_id == "t-70"
    good = np.concatenate([chunk.rows for chunk in chunks])
    assert sorted([*good.tolist(), *rejected]) == list(range(200))
    line = json.loads(rejected_line(rejected[3]))
    assert line["row"] == 3
    assert "'amount': expected a number, but got 'abc'" in line["message"]


def test_nan_in_parquet_is_a_missing_number_but_no_amount(tmp_path):
    frame = payments(4, amount=[1.0, float("nan"), 3.0, 4.0], lat=[float("nan"), 1.0, 2.0, 3.0])
    (chunk,) = read(write(frame, tmp_path / "p.parquet"))
    assert [one.error.code for one in chunk.rejected] == ["bad_amount"]
    assert np.isnan(chunk.batch.value("location_lat")[0])


def test_times_without_zone_are_refused_unless_the_schema_names_one(tmp_path):
    path = write(payments(3).with_columns(pl.col("effective_time").dt.replace_time_zone(None)), tmp_path / "p.parquet")
    (chunk,) = read(path)
    assert {one.error.code for one in chunk.rejected} == {"no_zone"}
    config = parse_config(
        """
        [schema.columns]
        transaction_id = { kind = "id" }
        effective_time = { kind = "timestamp", zone = "America/New_York" }
        """,
        "test",
    )
    (chunk,) = read(path, TransactionReader(config.table, Money("EUR"), b"k" * 16))
    assert chunk.batch.time_us[0] == 1_767_225_600_000_000 + 5 * 3_600_000_000


def test_an_unsorted_file_can_be_read_in_order_of_time_and_keeps_its_row_numbers(tmp_path):
    frame = payments(50).reverse()
    chunks = read(write(frame, tmp_path / "p.parquet"), sort=True)
    assert np.concatenate([c.batch.time_us for c in chunks]).tolist() == sorted(
        int(t.timestamp() * 1e6) for t in frame["effective_time"]
    )
    assert np.concatenate([c.rows for c in chunks]).tolist() == list(range(49, -1, -1))


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (lambda p: None, "no_file", "there is none"),
        (lambda p: p.write_bytes(b""), "empty_file", "is empty"),
        (lambda p: payments(0).write_parquet(p), "empty_file", "at least one row"),
        (lambda p: p.write_bytes(b"PAR1 this is no parquet"), "unreadable_file", "damaged"),
        (lambda p: payments().drop("amount").write_parquet(p), "missing_column", "expected a column 'amount'"),
        (lambda p: payments().drop("is_fraud").write_parquet(p), "missing_column", "is_fraud"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, make, code, says):
    path = tmp_path / "payments.parquet"
    make(path)
    with pytest.raises(InputError, match=says) as caught:
        read(path, labels=LABELS)
    assert caught.value.code == code
    assert caught.value.exit_code == 3


def test_a_truncated_parquet_is_reported_as_damaged(tmp_path):
    path = write(payments(5000), tmp_path / "p.parquet")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="damaged"):
        read(path)


def test_an_unknown_ending_lists_the_known_ones(tmp_path):
    path = tmp_path / "payments.xls"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"\.parquet, \.csv, \.jsonl"):
        read(path)


def test_columns_that_nothing_reads_are_listed(tmp_path):
    path = write(payments(3, colour=["r", "g", "b"]), tmp_path / "p.parquet")
    assert TransactionFile(path, READER, LABELS).unread == ("colour",)
