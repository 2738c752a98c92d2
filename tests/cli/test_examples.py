"""The examples on the data that others made: the handbook by its own protocol, and features equal bit for bit."""

import json
import os
import re
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl
import pytest

from cli.running import serving, tollgate
from tollgate.cli.wiring import features_of, open_config, open_labelled
from tollgate.features import FeatureEngine
from tollgate.ledger import Ledger
from tollgate.replay import replay

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
ARRAY = 1000


def data_of(name):
    path = DATA / name
    if not path.is_file():
        assert os.environ.get("CI") != "true", f"{path} is missing"
        pytest.skip(f"needs {path}; examples/{name.split('/')[0]}/README.md says where to get it")
    return path


def configured(folder, name, extra="", changes=MappingProxyType({})):
    """Return a copy of an example's configuration that keeps what it makes in `folder`."""
    text = (ROOT / "examples" / name / "tollgate.toml").read_text()
    text = text.replace("../../build/" + name, ".").replace('"features.py"', f'"{ROOT}/examples/{name}/features.py"')
    text = re.sub("lightgbm_search = .*\n", "", text)
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    (folder / "tollgate.toml").write_text(text + extra)
    return folder / "tollgate.toml"


@pytest.fixture(scope="module")
def handbook(tmp_path_factory):
    """The handbook's payments from three weeks before its training week to its test week, and a model trained on them."""
    folder = tmp_path_factory.mktemp("handbook")
    frame = pl.read_parquet(data_of("handbook/transactions.parquet"))
    start, end = pl.datetime(2018, 7, 4), pl.datetime(2018, 8, 15)
    frame.filter(pl.col("TX_DATETIME").is_between(start, end, closed="left")).write_parquet(folder / "slice.parquet")
    changes = {
        "train_start = 2018-05-06": "train_start = 2018-07-25",
        "folds = 4": "folds = 1",
        '"mlp", "sequence", "lightgbm"': '"lightgbm"',
    }
    configured(folder, "handbook", "\n[train]\nmax_epochs = 8\n", changes)
    return folder, tollgate("train", "slice.parquet", cwd=folder)


def test_the_handbook_is_trained_and_measured_by_its_own_protocol_beside_lightgbm(handbook):
    folder, printed = handbook
    assert "2018-07-25 00:00 to 2018-08-01 00:00" in printed
    assert "2018-08-08 00:00 to 2018-08-15 00:00" in printed
    figures = {
        line.split("│")[1].strip(): [float(cell) for cell in line.split("│")[2:4]]
        for line in tollgate("evaluate", "slice.parquet", cwd=folder).splitlines()
        if line.startswith("│")
    }
    for name, least in (("AUC ROC", 0.83), ("Average precision", 0.58), ("Card precision at 100 a day", 0.26)):
        ours, lightgbm = figures[name]
        assert ours > least, (name, ours)
        assert lightgbm > least, (name, lightgbm)


def test_the_features_that_predict_served_over_a_test_week_are_those_of_the_training_set_bit_for_bit(handbook):
    folder, _ = handbook
    tollgate("import", "slice.parquet", "--before", "7d", cwd=folder)
    week = pl.read_parquet(folder / "slice.parquet").filter(pl.col("TX_DATETIME") >= pl.datetime(2018, 8, 8))
    rows = week.with_columns(pl.col("TX_DATETIME").dt.strftime("%Y-%m-%d %H:%M:%S")).to_dicts()
    with Ledger(f"sqlite:///{folder}/tollgate.db", write=False) as ledger:
        known = ledger.find([str(row["TRANSACTION_ID"]) for row in rows])
    rows = [row for row in rows if str(row["TRANSACTION_ID"]) not in known]
    assert len(rows) > 60_000
    with serving(cwd=folder) as server:
        status, answer = server.predict(json.dumps(rows[0]).encode())  # a raw transaction, one by one
        assert status == 200
        assert answer["transaction_id"] == str(rows[0]["TRANSACTION_ID"])
        for start in range(1, len(rows), ARRAY):
            assert server.predict(rows[start : start + ARRAY])[0] == 200
    config = open_config(folder / "tollgate.toml")
    file, _ = open_labelled(folder / "slice.parquet", config)
    trained, _ = replay(file, FeatureEngine(features_of(config)), "card_id")
    places = {identifier: place for place, identifier in enumerate(trained.ids.tolist())}
    with Ledger(config.ledger.url, write=False) as ledger:
        served = [(places[identifier], np.frombuffer(blob, dtype=np.int64)) for identifier, _, blob in ledger.decided()]
    assert len(served) == len(rows)
    want = trained.features[[place for place, _ in served]].view(np.int64)
    assert (np.stack([bits for _, bits in served]) == want).all()


@pytest.mark.parametrize(("name", "file"), [("ecommerce", "purchases"), ("sparkov", "transactions")])
def test_the_other_examples_train_on_the_newest_of_their_data(tmp_path, name, file):
    frame = pl.read_parquet(data_of(f"{name}/{file}.parquet"))
    if name == "sparkov":
        frame = frame.filter(pl.col("unix_time").is_between(1_590_000_000, 1_595_000_000))
    frame.write_parquet(tmp_path / "some.parquet")
    configured(tmp_path, name, "\n[train]\nmax_epochs = 3\n")
    printed = tollgate("train", "some.parquet", cwd=tmp_path)
    assert "LightGBM" in printed
    assert "rejected" not in printed


@pytest.mark.parametrize("name", ["handbook", "sparkov", "ecommerce"])
def test_each_example_declares_at_least_thirty_features_and_says_where_its_data_comes_from(name):
    config = open_config(ROOT / "examples" / name / "tollgate.toml")
    assert len(features_of(config).names) >= 30
    readme = (ROOT / "examples" / name / "README.md").read_text()
    assert "tollgate train" in readme
    assert "Where to get the data" in readme
