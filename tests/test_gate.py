"""The gate: what is better passes, and each way of being worse is named."""

import numpy as np
import pytest

from learning import payments
from tollgate.config import EvaluateConfig, GateConfig
from tollgate.gate import Contest, enough_frauds, examine, passed

ROWS = payments(6000, seed=3)
MEASURED = EvaluateConfig(alerts_per_day=20, resamples=100)
ONE_GROUP = {"shop": {"first": ROWS.features[:, 3] == ROWS.features[:, 3].min()}}


def scored(noise, seed=0):
    """Calibrated scores that know the fraud but for some noise on the log odds."""
    rng = np.random.default_rng(seed)
    logits = np.where(ROWS.is_fraud, 2.0, -3.0) + rng.normal(0, noise, len(ROWS))
    bins = np.digitize(logits, np.quantile(logits, np.linspace(0, 1, 41)[1:-1]))
    share = np.bincount(bins, ROWS.is_fraud) / np.bincount(bins)
    return np.clip(share[bins] + logits * 1e-6, 0, 1)  # what is in one bin keeps its order


def contest(challenger, champion, **changes):
    fields = {"rows": ROWS, "slices": {}, "challenger_us": 40.0, "champion_us": 40.0}
    return Contest(challenger=challenger, champion=champion, **fields | changes)


def failed(*given, config=GateConfig(min_frauds=30), **changes):
    return [check.name for check in examine(contest(*given, **changes), config, MEASURED) if not check.passed]


def test_a_better_challenger_passes_every_check():
    checks = examine(contest(scored(1.5), scored(3.0), slices=ONE_GROUP), GateConfig(min_frauds=30), MEASURED)
    assert passed(checks)
    assert {check.name for check in checks} >= {
        "average_precision_gain", "average_precision_margin", "value_detection_rate_margin",
        "calibration", "slice_shop=first", "latency",
    }  # fmt: skip
    assert all(check.why and check.found is not None for check in checks)


def test_a_worse_challenger_is_refused_for_its_gain_and_its_margin():
    assert {"average_precision_gain", "average_precision_margin"} <= set(failed(scored(3.0), scored(1.5)))


def test_the_same_model_again_is_no_gain():
    """Nothing is promoted for being as good."""
    same = scored(1.5)
    assert failed(same, same) == ["average_precision_gain"]


def test_a_gain_below_what_is_asked_for_is_refused():
    assert failed(scored(1.5), scored(3.0), config=GateConfig(min_gain=0.9)) == ["average_precision_gain"]


@pytest.mark.parametrize(("frauds", "good"), [(29, False), (30, True)])
def test_too_few_frauds_tell_nothing(frauds, good):
    """Differences on a handful are chance."""
    assert enough_frauds(frauds, GateConfig(min_frauds=30)).passed == good


def test_scores_that_rank_well_but_are_no_probabilities_are_refused():
    assert failed(scored(1.0) ** 0.2, scored(3.0)) == ["calibration"]


def test_a_champion_that_is_calibrated_worse_is_the_measure():
    """What is no worse than today is no reason to keep today."""
    assert failed(scored(1.0) ** 0.2, scored(3.0) ** 0.2) == []


def test_what_all_gain_must_not_be_paid_for_by_one_slice():
    group = ONE_GROUP["shop"]["first"]
    better = np.where(group, 0.0, scored(0.5))
    assert "slice_shop=first" in failed(better, scored(2.0), slices=ONE_GROUP)


def test_a_slice_with_few_frauds_is_not_looked_at():
    few = np.zeros(len(ROWS), dtype=np.bool_)
    few[np.flatnonzero(ROWS.is_fraud)[:3]] = True
    better = np.where(few, 0.0, scored(1.0))
    assert failed(better, scored(3.0), slices={"shop": {"few": few}}) == []


@pytest.mark.parametrize(("challenger_us", "expected"), [(80.0, []), (81.0, ["latency"])])
def test_a_slower_model_is_refused(challenger_us, expected):
    assert failed(scored(1.5), scored(3.0), challenger_us=challenger_us) == expected
