import numpy as np
import pytest

from learning import payments
from tollgate import metrics
from tollgate.config import EvaluateConfig, PolicyConfig
from tollgate.duration import DAY_US
from tollgate.errors import InputError
from tollgate.evaluate import evaluate, fraud_groups

TEST = payments(3000, days=6)
RNG = np.random.default_rng(5)
GOOD = np.clip(0.7 * TEST.is_fraud + 0.3 * RNG.random(3000), 0, 1)
POOR = RNG.random(3000)
SCORES = {"model": GOOD, "baseline": POOR}


def test_every_model_is_measured_on_the_same_rows():
    found = evaluate(TEST, SCORES, EvaluateConfig(alerts_per_day=20), PolicyConfig())

    assert list(found.measures) == ["model", "baseline"]
    for name, scores in SCORES.items():
        seen = metrics.alerts(scores, TEST.time_us, 20)
        assert found.measures[name].average_precision == metrics.average_precision(TEST.is_fraud, scores)
        assert found.measures[name].recall == metrics.recall(TEST.is_fraud, seen)
        assert found.measures[name].brier == metrics.brier(TEST.is_fraud, scores)
        assert np.array_equal(found.alerts(name), seen)
    assert (found.model, found.days, found.left_out) == ("model", 6, 0)


def test_known_cards_are_left_out_only_when_asked():
    known = TEST.card % 2 == 0

    every = evaluate(TEST, SCORES, EvaluateConfig(), PolicyConfig(), known)
    fewer = evaluate(TEST, SCORES, EvaluateConfig(drop_known_cards=True), PolicyConfig(), known)

    assert (len(every.test), every.left_out) == (3000, 0)
    assert fewer.left_out == np.count_nonzero(known)
    assert fewer.measures["model"].brier == metrics.brier(TEST.is_fraud[~known], GOOD[~known])
    assert (fewer.test.card % 2 == 1).all()


def test_nothing_left_to_measure_is_refused():
    with pytest.raises(InputError, match="drop_known_cards = false"):
        evaluate(TEST, SCORES, EvaluateConfig(drop_known_cards=True), PolicyConfig(), np.ones(3000, dtype=bool))


def test_a_threshold_is_told_by_what_it_does_to_payments():
    policy = PolicyConfig(review=0.6, block=0.8)

    review, block = evaluate(TEST, SCORES, EvaluateConfig(), policy).points

    held = GOOD >= 0.6
    assert (review.outcome, block.outcome, block.threshold) == ("review", "block", 0.8)
    assert review.payments_per_day == held.sum() / 6
    assert review.precision == pytest.approx(TEST.is_fraud[held].mean())
    assert review.recall == pytest.approx(held[TEST.is_fraud].mean())
    assert review.disturbed == pytest.approx(held[~TEST.is_fraud].mean())
    stolen = TEST.amount[TEST.is_fraud & (GOOD >= 0.8)].sum() / TEST.amount[TEST.is_fraud].sum()
    assert block.value_detection_rate == pytest.approx(stolen)


def test_a_measure_that_is_not_defined_is_null_in_a_manifest():
    good = TEST.take(~TEST.is_fraud)

    found = evaluate(good, {"model": GOOD[~TEST.is_fraud]}, EvaluateConfig(), PolicyConfig()).measures["model"]

    assert found.as_metrics()["recall"] is None
    assert found.as_metrics()["brier"] == found.brier


def test_groups_are_those_that_have_frauds_the_largest_first():
    day = TEST.time_us // DAY_US
    group = np.where(TEST.is_fraud, np.where(day % 3 == 0, "rare", "common"), "none").astype(object)

    groups = fraud_groups(TEST, group)

    assert list(groups) == ["common", "rare"]
    assert groups["rare"].sum() == (TEST.is_fraud & (day % 3 == 0)).sum()
