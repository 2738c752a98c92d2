"""`tollgate retrain`: only a better challenger decides, and labels that cannot be believed teach nothing."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cli.trusting import keyed, trust, trusting
from cli.variants import guessing
from tollgate.bundle import SIGNATURE, Registry
from tollgate.cli.app import app
from tollgate.cli.retraining import REPORTS, one_at_a_time
from tollgate.errors import BundleError, ConfigError
from tollgate.label import Label, LabelSource
from tollgate.ledger import Ledger
from tollgate.ledger.controls import Controls

SETTINGS = """
[train]
model = "{model}"
max_epochs = 1
hidden = [2]
learning_rate = {learning_rate}

[evaluate]
resamples = 50

[retrain]
window = "12d"

[retrain.gate]
min_frauds = 10
max_loss = 0.5
max_slice_loss = 0.9
max_slowdown = 100.0

[retrain.feed]
min_labels = {min_labels}
"""
LEDGER = "sqlite:///tollgate.db"
CONTEST_DAYS = -14  # before the newest payment: what the contest is held on is newer


@pytest.fixture
def home(workspace, invoke, monkeypatch):
    """A folder with a champion that has hardly learned anything."""
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("TOLLGATE_HASH_KEY", "a key of sixteen bytes or more")
    configure("lightgbm")
    return workspace


@pytest.fixture
def run(home, invoke):
    """Runs a command of Tollgate and returns what it printed."""
    return lambda *arguments, expect=0: invoke(app, *arguments, expect=expect).output


def configure(model, min_labels=30, learning_rate=5e-3):
    text = SETTINGS.format(model=model, min_labels=min_labels, learning_rate=learning_rate)
    Path("tollgate.toml").write_text(text)


def payments():
    return pl.read_parquet("payments.parquet")


def imported(run, frame, name="history.parquet"):
    frame.write_parquet(name)
    run("import", name)


def day(frame, days):
    """Return which payments are newer than so many days before the newest; days are negative."""
    return pl.col("effective_time") > frame["effective_time"].max() + dt.timedelta(days=days)


def verdict(run, *options, expect):
    return json.loads(run("retrain", "--json", *options, expect=expect).splitlines()[-1])


def champion():
    return Registry(Path("bundles")).champion()


def test_a_better_challenger_is_promoted_and_a_worse_one_is_refused(run, home):
    """From the ledger alone; what was compared is on record, and one command goes back."""
    imported(run, payments())
    first = guessing(home)
    run("bundles", "promote", first)

    tried = verdict(run, "--dry-run", expect=0)
    assert (tried["outcome"], tried["reasons"], champion()) == ("would promote", [], first)

    found = verdict(run, "--by", "ana", expect=0)
    better = found["challenger"]
    assert (found["outcome"], found["champion"], champion()) == ("promoted", first, better)
    assert found["frauds"] >= 10
    gain = next(check for check in found["checks"] if check["name"] == "average_precision_gain")
    assert gain["found"] > 0
    with Controls(LEDGER) as controls:
        record = controls.audit()[-1]
    assert (record.action, record.actor, record.subject) == ("champion.promote", "ana", better)
    assert json.loads(max(Path("bundles", REPORTS).iterdir()).read_bytes()) == found

    configure("mlp", learning_rate=1e-12)
    printed = run("retrain", expect=6)
    assert "average_precision_gain" in printed
    assert f"{better} goes on deciding" in printed
    assert champion() == better
    run("bundles", "rollback")
    assert champion() == first


def test_with_trusted_keys_a_challenger_is_signed_before_it_is_promoted(run, home, monkeypatch):
    """Without a key that is trusted nothing is trained; what is only tried needs no key, and is not signed."""
    imported(run, payments())
    first = guessing(home)
    public = keyed(monkeypatch, "a")
    run("bundles", "sign", first)
    run("bundles", "promote", first)
    trust(public)
    stored = Registry(Path("bundles")).list()

    keyed(monkeypatch, "b")
    with pytest.raises(ConfigError, match="add this public key to trusted_keys"):
        run("retrain", "--every", "1d")
    monkeypatch.delenv("TOLLGATE_SIGNING_KEY")
    with pytest.raises(ConfigError, match="neither is set"):
        run("retrain")
    assert (Registry(Path("bundles")).list(), champion()) == (stored, first)

    monkeypatch.setenv("TOLLGATE_SIGNING_KEY", "no key: it is not even read")
    tried = verdict(run, "--dry-run", expect=0)
    assert tried["outcome"] == "would promote"
    assert not Path("bundles", tried["challenger"], SIGNATURE).exists()

    keyed(monkeypatch, "a")
    better = verdict(run, "--by", "ana", expect=0)["challenger"]
    assert trusting(public).load().id == better
    with Controls(LEDGER) as controls:
        *_, signed, promoted = controls.audit()
    assert (signed.action, signed.actor, signed.subject, signed.detail) == (
        "bundle.sign", "ana", better, {"key": public},
    )  # fmt: skip
    assert (promoted.action, promoted.subject) == ("champion.promote", better)


def test_flipped_labels_are_refused_before_anything_is_trained(run, home):
    """One label in twenty of the new ones says the opposite: ten times the usual frauds."""
    frame = payments()
    flipped = pl.Series(np.random.default_rng(1).random(len(frame)) < 0.05)
    poisoned = frame.with_columns(
        is_fraud=pl.when(day(frame, CONTEST_DAYS) & flipped).then(~pl.col("is_fraud")).otherwise("is_fraud")
    )
    imported(run, poisoned)
    before = Registry(Path("bundles")).list()
    found = verdict(run, expect=6)
    assert (found["outcome"], found["reasons"]) == ("refused", ["fraud_share_import"])
    assert found["challenger"] is None
    assert Registry(Path("bundles")).list() == before


def test_a_source_that_turned_its_labels_round_is_refused(run, home):
    """Analysts who call the obvious frauds good and good payments fraud: the order of the scores tells."""
    imported(run, payments())
    frame = payments().filter(day(payments(), CONTEST_DAYS))
    frauds, goods = (frame.filter(pl.col("is_fraud") == one)["transaction_id"].to_list() for one in (True, False))
    at_us = int(frame["effective_time"].dt.epoch("us").max())
    with Ledger(LEDGER) as ledger:
        wrong = [(one, False) for one in frauds] + [(one, True) for one in goods[:60]]
        labels = [Label(one, said, LabelSource.ANALYST, at_us + 86_400_000_000 * 8) for one, said in wrong]
        assert {one.accepted for one in ledger.add_labels(labels, "analysts", at_us)} == {True}
    configure("lightgbm", min_labels=5)
    found = verdict(run, expect=6)
    assert "order_analyst" in found["reasons"]
    assert found["challenger"] is None


def test_a_day_without_labels_is_survived_and_a_window_without_them_refused(run, home):
    """What nobody has complained of is taken for good; without known frauds nothing can be compared."""
    frame = payments()
    one_day = day(frame, -5) & ~day(frame, -4)
    imported(run, frame.with_columns(is_fraud=pl.col("is_fraud") & ~one_day))
    run("bundles", "promote", guessing(home))
    assert verdict(run, "--dry-run", expect=0)["outcome"] == "would promote"

    Path("tollgate.db").unlink()
    imported(run, frame.with_columns(is_fraud=pl.col("is_fraud") & ~day(frame, CONTEST_DAYS)))
    configure("lightgbm", min_labels=10**6)  # the share of fraud would be noticed first
    found = verdict(run, expect=6)
    assert (found["reasons"], found["challenger"]) == (["enough_frauds"], None)


def test_another_schema_is_refused(run, home):
    """Running servers would not take what is trained: that is not for a nightly job to decide."""
    imported(run, payments())
    with Path("tollgate.toml").open("a") as file:
        file.write('\n[money]\ncurrency = "USD"\n')
    found = verdict(run, expect=6)
    assert (found["reasons"], found["challenger"]) == (["same_schema"], None)


def test_two_retrainings_of_one_registry_are_kept_apart(run, home):
    """The second one ends at once and says so."""
    with one_at_a_time(Path("bundles")), pytest.raises(BundleError, match="another process retrains"):
        run("retrain")


def test_a_training_goes_on_from_the_champions_weights(run, home):
    """The challenger has the champion's features and network, whatever the configuration says."""
    imported(run, payments())
    first = Registry(Path("bundles")).load()
    text = Path("tollgate.toml").read_text()
    Path("tollgate.toml").write_text(text.replace("[retrain.gate]", "[retrain.gate]\nmin_gain = 1.0"))
    found = verdict(run, "--incremental", expect=6)
    second = Registry(Path("bundles")).load(found["challenger"])
    assert found["reasons"] == ["average_precision_gain"]
    assert second.manifest.names == first.manifest.names
    assert second.manifest.train == first.manifest.train
