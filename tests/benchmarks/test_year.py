"""The year: what an arm may know, and that the benchmark says what it promises."""

import dataclasses
import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.year.arm import ARMS, known
from benchmarks.year.history import NEVER_US, History
from benchmarks.year.plan import read_plan
from tollgate.dataset import Dataset
from tollgate.duration import DAY_US

ROOT = Path(__file__).parents[2]
DAYS, A_DAY = 150, 40
NOW_US = 140 * DAY_US


def past(seed=3):
    """Return made-up payments; the only feature is the row's number."""
    rng = np.random.default_rng(seed)
    n = DAYS * A_DAY
    time_us = np.sort(rng.integers(DAYS * DAY_US, size=n))
    is_fraud = rng.random(n) < 0.1
    data = Dataset(
        features=np.arange(n, dtype=np.float64)[:, None],
        names=("row",),
        categorical=(False,),
        back=(0,),
        is_fraud=is_fraud,
        available_us=time_us + DAY_US,
        time_us=time_us,
        amount=np.ones(n),
        card=np.ones(n, dtype=np.uint64),
        ids=np.arange(n).astype(object),
    )
    told_us = np.where(is_fraud, time_us + rng.integers(40 * DAY_US, size=n), NEVER_US)
    analysed_us = time_us + rng.integers(2 * DAY_US, size=n)
    return History(data, told_us, analysed_us, is_fraud, rng.random(n), 60 * DAY_US)


@pytest.fixture(scope="module")
def config():
    return read_plan()[1]


def learned(history, said_us, config):
    """Return row numbers and labels of what is learned from, as it is at `NOW_US`."""
    split = known(history, said_us, NOW_US, config)
    parts = (split.train, split.validation)
    rows = np.concatenate([part.features[:, 0] for part in parts]).astype(np.int64)
    return rows, np.concatenate([part.is_fraud for part in parts])


def test_nothing_that_becomes_known_later_is_learned_from(config):
    """With every later label, verdict and payment turned round, an arm learns the same."""
    history = past()
    said_us = np.where(np.arange(len(history.data)) % 7 == 0, history.analysed_us, NEVER_US)
    rows, labels = learned(history, said_us, config)

    told = (history.told_us <= NOW_US) | ((said_us <= NOW_US) & history.data.is_fraud)
    other_truth = np.where(told, history.data.is_fraud, np.where(said_us <= NOW_US, history.data.is_fraud, False))
    later = history._replace(
        data=dataclasses.replace(history.data, is_fraud=other_truth),
        told_us=np.where(history.told_us <= NOW_US, history.told_us, NEVER_US),
    )
    again, same = learned(later, np.where(said_us <= NOW_US, said_us, NEVER_US), config)

    assert np.array_equal(rows, again)
    assert np.array_equal(labels, same)


def test_a_fraud_of_which_nobody_has_told_is_taken_for_good_when_it_is_old_enough(config):
    """As it would be in production; a hindsight that leaves it out would flatter every arm."""
    history = past()
    nobody = np.full(len(history.data), NEVER_US)
    rows, labels = learned(history._replace(drawn=np.zeros(len(history.data))), nobody, config)

    time_us, is_fraud = history.data.time_us[rows], history.data.is_fraud[rows]
    untold = is_fraud & (history.told_us[rows] > NOW_US)
    assert untold.sum() > 50
    assert not labels[untold].any()
    assert np.array_equal(labels, is_fraud & ~untold)
    assert time_us[~labels].max() <= NOW_US - config.label.good_after_us
    assert time_us[labels].max() > NOW_US - config.label.good_after_us
    assert time_us.min() >= NOW_US - 120 * DAY_US
    assert time_us.max() < NOW_US


def test_what_an_analyst_has_said_of_an_alert_is_known_at_once(config):
    """A good payment before its silence would say so, a fraud before a customer or a chargeback tells."""
    history = past()._replace(drawn=np.zeros(DAYS * A_DAY))
    rows, labels = learned(history, history.analysed_us, config)

    said = history.analysed_us[rows] <= NOW_US
    recent = history.data.time_us[rows] > NOW_US - config.label.good_after_us
    assert np.array_equal(labels[said], history.data.is_fraud[rows][said])
    assert (recent & said & ~labels).any()
    assert (said & labels & (history.told_us[rows] > NOW_US)).any()


def test_arms_train_on_their_days():
    """All on the first day: none begins with a model that others lack."""
    days = [dt.date(2025, 1, 1) + dt.timedelta(days=number) for number in range(365)]
    counts = {name: sum(due(day, number) for number, day in enumerate(days)) for name, due in ARMS.items()}
    assert counts == {"once": 1, "monthly": 12, "weekly": 53, "daily": 365}
    assert all(due(days[0], 0) for due in ARMS.values())


@pytest.mark.slow
def test_the_last_line_holds_the_promised_measures_and_pictures_are_drawn(tmp_path):
    """A month of few payments, all arms."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.year", "--quick", "--plots", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert {"false_positive_change", "capture_change"} <= set(figures)
    assert figures["capture_change_least"] <= figures["capture_change"] <= figures["capture_change_most"]
    assert 0.2 < figures["capture_monthly"] < 0.9
    assert 0.2 < figures["capture_daily"] < 0.9
    assert (figures["capture_change"] > 0) == (figures["false_positive_change"] < 0)
    assert {path.name for path in tmp_path.iterdir()} == {"capture.svg", "false_positive_rate.svg"}
    for word in ("monthly", "weekly", "daily", "2025-01"):
        assert word in done.stdout
