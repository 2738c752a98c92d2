"""Features of a history in files: by one engine, and by Spark as a user starts it, with the same bits."""

import importlib.util
import json
import random
import shutil

import numpy as np
import polars as pl
import pytest

from cli.running import tollgate
from services import lack
from tollgate.features import NOT_FRAUD, Arrivals, FeatureEngine
from tollgate.features.payments import PAYMENT_FEATURES
from tollgate.features.plan import compile_plan
from tollgate.files import TransactionFile
from tollgate.frame import LabelFields
from tollgate.intake import TransactionReader
from tollgate.money import Money
from tollgate.schema import payment_schema

FEATURES = """
from tollgate.features import entity, tx
from tollgate.features.payments import PAYMENT_FEATURES

card, device, merchant = entity("card_id"), entity("device_id"), entity("merchant_id")
FEATURES = [
    *PAYMENT_FEATURES,
    *merchant.fraud_rate(over=["1d", "7d"], delay="7d"), card.fraud_count(over="7d"), device.seconds_since_fraud(),
    (card.count(over="1h") / device.count(over="1d")).named("card_share_of_device"),
]
"""
PARTS = {"day=2/part-2.parquet": (0, 2500), "day=2/part-10.parquet": (2500, 5000), "day=10/part-0.csv": (5000, 6021)}


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """6000 payments in three files of two formats: some late, some repeated, some that cannot be used."""
    folder = tmp_path_factory.mktemp("history")
    tollgate("simulate", "payments.parquet", "--transactions", 6000, "--days", 30, "--cards", 400, cwd=folder)
    frame = pl.read_parquet(folder / "payments.parquet")
    rng = random.Random(7)
    order = sorted(range(len(frame)), key=lambda i: i + rng.randrange(300) * (rng.random() < 0.1))
    frame = frame[order[:6000]]
    frame = pl.concat([frame[:4000], frame[100:120], frame[4000:4001], frame[4000:]])
    frame = frame.with_columns(
        pl.when(pl.int_range(len(frame)) % 700 == 5).then(-1.0).otherwise("amount").alias("amount")
    )
    (folder / "features.py").write_text(FEATURES)
    (folder / "tollgate.toml").write_text('features = "features.py"\n')
    for name, (start, end) in PARTS.items():
        path = folder / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        some = frame[start:end]
        if path.suffix == ".csv":
            times = [pl.col(one).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ") for one in ("effective_time", "label_available")]
            some.with_columns(times).write_csv(path)
        else:
            some.write_parquet(path)
    (folder / "set" / "_SUCCESS").touch()
    printed = tollgate("backfill", "set", "here", cwd=folder, expect=4)
    assert "set sort = true" in printed
    return folder


def features(folder, name):
    return pl.concat([pl.read_parquet(folder / name / f"{part.rsplit('.', 1)[0]}.parquet") for part in PARTS])


def test_one_engine_gives_what_training_sees(history, tmp_path):
    """The same rows as one file, through the same replay; refused rows are in side files of their parts."""
    frames = [
        pl.read_parquet(history / "set" / part) if part.endswith("parquet") else pl.read_csv(history / "set" / part)
        for part in PARTS
    ]
    frames[2] = frames[2].with_columns(
        pl.col("effective_time", "label_available").str.to_datetime(time_zone="UTC", time_unit="us")
    ).cast(frames[0].schema)  # fmt: skip
    whole = pl.concat(frames).unique("transaction_id", keep="first", maintain_order=True)
    whole = whole.filter(pl.col("amount") > 0)
    whole.write_parquet(tmp_path / "whole.parquet")
    namespace = {}
    exec(FEATURES, namespace)
    plan = compile_plan(namespace["FEATURES"], payment_schema(), Money().scale)
    reader = TransactionReader(payment_schema(), Money(), b"k" * 16)
    file = TransactionFile(tmp_path / "whole.parquet", reader, LabelFields("is_fraud", "label_available", 0))
    arrivals = Arrivals(FeatureEngine(plan))
    want = np.concatenate([
        arrivals.observe(one.batch, np.where(one.is_fraud, one.available_us, NOT_FRAUD)) for one in file.chunks()
    ])  # fmt: skip
    got = features(history, "here")
    assert got["transaction_id"].equals(whole["transaction_id"])
    assert got["is_fraud"].equals(whole["is_fraud"])
    assert (got.select(plan.names).to_numpy().view(np.int64) == want.view(np.int64)).all()
    rejected = [
        json.loads(line) for path in history.glob("here/_rejected/*/*") for line in path.read_text().splitlines()
    ]
    assert {one["code"] for one in rejected} == {"bad_amount", "duplicate_id"}
    assert len(rejected) + len(got) == 6021
    assert json.loads((history / "here/_features.json").read_text())["rows"] == len(got)
    assert PAYMENT_FEATURES


def test_files_need_a_place_and_the_ledger_no_engine(history):
    """What is asked for half ends with what is missing."""
    assert "a place for the output" in tollgate("backfill", "set", cwd=history, expect=2)
    assert "another folder" in tollgate("backfill", "set", "set", cwd=history, expect=2)
    assert "expected DATA" in tollgate("backfill", "--on", "spark", cwd=history, expect=2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_spark_gives_the_same_bits(history):
    """Late rows, labels, repeated ids and missing entities, over three partitions and two processes."""
    if importlib.util.find_spec("pyspark") is None or shutil.which("java") is None:
        lack("spark", "needs pip install 'tollgate[spark]' and Java 17")
    printed = tollgate(
        "backfill", "set", "spark", "--on", "spark", "--master", "local[2]", "--partitions", "3", cwd=history, expect=4
    )
    want, got = features(history, "here"), features(history, "spark")
    assert got.schema == want.schema
    for name in want.columns:
        bits = [
            one[name].to_numpy().view(np.int64) if want[name].dtype == pl.Float64 else one[name] for one in (want, got)
        ]
        assert (bits[0] == bits[1]).all(), name
    counted = [json.loads((history / one / "_features.json").read_text()) for one in ("here", "spark")]
    assert counted[0] == counted[1]
    assert f"{counted[0]['rejected']} rows were rejected" in printed
    repeated = [json.loads(line) for line in (history / "spark/_rejected/_repeated.jsonl").read_text().splitlines()]
    assert len(repeated) >= 15
    assert {one["part"] for one in repeated} <= set(PARTS)
