"""`tollgate backtest`: a bundle over a file and over a ledger."""

import datetime as dt
import json
import re

import msgspec
import polars as pl
import pytest
import typer

from tollgate.bundle import Registry
from tollgate.cli.backtesting import backtest
from tollgate.cli.history import import_history
from tollgate.errors import EXIT_PARTIAL, ConfigError, InputError

BLOCK_ALL = {"name": "all", "when": "tx.amount >= 0", "action": "block", "reason": "all", "mode": "live"}


@pytest.fixture
def run(workspace, invoke, monkeypatch):
    """Runs `tollgate backtest` in the folder of a training."""
    monkeypatch.chdir(workspace)
    app = typer.Typer()
    app.command()(backtest)
    return lambda *arguments, expect=0: invoke(app, *arguments, expect=expect)


def weeks(run, *arguments):
    return json.loads(run("payments.parquet", "--json", *arguments).stdout)


def test_weeks_are_shown_with_those_that_were_trained_on_marked(run, workspace):
    """The table, its totals, what they mean, and a page with pictures."""
    shown = run("payments.parquet", "--report", "backtest.html").output
    training = Registry(workspace / "bundles").load().manifest.training
    rows = re.findall(r"│ (\d{4}-\d\d-\d\d)( \*)? +│", shown)
    assert len(rows) == 7
    assert [bool(mark) for _, mark in rows] == [
        dt.datetime.fromisoformat(day + "T00:00:00+00:00").timestamp() * 1e6 < training.end_us for day, _ in rows
    ]
    assert "│ all " in shown
    assert "not trained on" in shown
    assert "one label delay before the newest" in shown
    page = (workspace / "backtest.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml;base64,") == 4


def test_json_totals_are_those_of_the_weeks_and_of_the_file(run, workspace):
    """Each payment is in one week; since leaves out what is older; a rule that blocks all blocks all."""
    found = weeks(run)
    frame = pl.read_parquet(workspace / "payments.parquet")
    assert sum(one["figures"]["transactions"] for one in found["weeks"]) == found["total"]["transactions"] == len(frame)
    newest = frame["effective_time"].max()
    old = pl.col("effective_time") <= newest - dt.timedelta(days=14)
    known = frame.filter(old & (pl.col("label_available") <= newest))
    assert found["total"]["known"] == len(known)
    assert found["total"]["frauds"] == known["is_fraud"].sum()
    assert found["total"]["fraud_value"] == pytest.approx(known.filter(pl.col("is_fraud"))["amount"].sum())
    later = weeks(run, "--since", str(frame["effective_time"].min().date() + dt.timedelta(days=35)))
    assert later["weeks"] == found["weeks"][5:]
    (workspace / "rules.json").write_text(json.dumps({"rules": [BLOCK_ALL]}))
    blocked = weeks(run, "--rules", "rules.json")["total"]
    assert blocked["blocked"] == blocked["transactions"]
    assert (blocked["recall"], blocked["false_positive_rate"]) == (1.0, 1.0)


def test_a_ledger_of_the_same_history_gives_the_same_figures(run, workspace, invoke):
    """Without a file the ledger is read."""
    importing = typer.Typer()
    importing.command()(import_history)
    invoke(importing, "payments.parquet")
    of_ledger = json.loads(run("--json").stdout)
    assert msgspec.json.encode(of_ledger["total"]) == msgspec.json.encode(weeks(run)["total"])


def test_what_cannot_be_meant_is_refused(run, workspace):
    """Retraining without a first week, a start after the end; rows that cannot be used are told by the exit code."""
    with pytest.raises(ConfigError, match="--since"):
        run("payments.parquet", "--retrain")
    with pytest.raises(InputError, match="name an earlier"):
        run("payments.parquet", "--since", "2099-01-01")
    frame = pl.read_parquet(workspace / "payments.parquet")
    bad = pl.when(pl.int_range(pl.len()) == 3).then(-1.0).otherwise(pl.col("amount"))
    frame.with_columns(bad.alias("amount")).write_parquet(workspace / "bad.parquet")
    run("bad.parquet", expect=EXIT_PARTIAL)
