import numpy as np
import pytest

from learning import halves, payments
from tollgate import metrics
from tollgate.config import EvaluateConfig, PolicyConfig
from tollgate.dataset import first_of_card
from tollgate.duration import DAY_US
from tollgate.errors import InputError
from tollgate.evaluate import differences, evaluate, fraud_groups
from tollgate.thresholds import total_cost

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


def test_money_saved_counts_the_reviews_by_day_and_as_a_share():
    """At the budget: in all, a day, and as a share of the fraud money; dear reviews make it negative."""
    seen = metrics.alerts(GOOD, TEST.time_us, 20)
    stolen = TEST.amount[TEST.is_fraud].sum()
    expected = TEST.amount[TEST.is_fraud & seen].sum() - 2.5 * 120

    own = evaluate(TEST, SCORES, EvaluateConfig(alerts_per_day=20, review_cost=2.5), PolicyConfig()).measures["model"]
    dear = evaluate(TEST, SCORES, EvaluateConfig(alerts_per_day=20, review_cost=1e4), PolicyConfig()).measures["model"]

    assert own.money_saved == pytest.approx(expected)
    assert own.money_saved_per_day == pytest.approx(expected / 6)
    assert own.money_saved_share == pytest.approx(expected / stolen)
    assert dear.money_saved < 0


def test_recall_is_told_at_one_and_at_a_tenth_of_a_percent():
    """The two limits are those that are named."""
    noise = np.random.default_rng(6).normal(size=3000)
    fair = 1 / (1 + np.exp(-2 * TEST.is_fraud - noise))

    own = evaluate(TEST, {"model": fair}, EvaluateConfig(resamples=0), PolicyConfig()).measures["model"]

    assert own.recall_at_fpr == metrics.recall_at_fpr(TEST.is_fraud, fair, 0.01)
    assert own.recall_at_low_fpr == metrics.recall_at_fpr(TEST.is_fraud, fair, 0.001)
    assert own.recall_at_low_fpr < own.recall_at_fpr


def test_intervals_are_around_the_measures_and_the_difference_is_of_the_pair():
    """Each model has an interval of each resampled measure, and the first is compared with every other."""
    found = evaluate(TEST, SCORES, EvaluateConfig(alerts_per_day=20, resamples=50), PolicyConfig())

    for name, measures in found.measures.items():
        for measure, interval in found.intervals[name].items():
            assert interval.value == pytest.approx(getattr(measures, measure)), (name, measure)
            assert interval.low <= interval.value <= interval.high
    (gap,) = found.differences.values()
    model, baseline = (found.measures[name].average_precision for name in SCORES)
    assert gap.value == pytest.approx(model - baseline)
    assert gap.low > 0.5


def test_over_folds_the_difference_is_the_mean_of_theirs():
    """Two test periods: the mean of both differences, of any measure at the budget; none without resampling."""
    config = EvaluateConfig(alerts_per_day=20, resamples=30)
    folds = halves(TEST, SCORES, config)

    for measure in ("average_precision", "recall"):
        expected = [
            getattr(fold.measures["model"], measure) - getattr(fold.measures["baseline"], measure) for fold in folds
        ]
        assert differences(folds, config, measure)["baseline"].value == pytest.approx(np.mean(expected))
    assert differences(folds, EvaluateConfig(resamples=0)) == {}


def test_resampling_can_be_left_out():
    """With `resamples = 0` there are no intervals, and the measures stay."""
    found = evaluate(TEST, SCORES, EvaluateConfig(resamples=0), PolicyConfig())

    assert (found.intervals, found.differences) == ({}, {})
    assert found.measures["model"].average_precision > 0.9


def test_slices_are_of_the_measured_rows():
    """Amount bands always; new cards and categories where they are given, without the rows that are left out."""
    known = TEST.card % 2 == 0
    channel = np.where(TEST.amount > 100, "web", "pos").astype(object)
    config = EvaluateConfig(drop_known_cards=True, amount_bands=(50.0,), resamples=0)

    found = evaluate(
        TEST, SCORES, config, PolicyConfig(), known, new_card=first_of_card(TEST.card), categories={"channel": channel}
    )

    counts = {(one.by, one.name): one.rows for one in found.slices}
    assert counts == {
        ("amount", "up to 50.00"): (~known & (TEST.amount <= 50)).sum(),
        ("amount", "over 50.00"): (~known & (TEST.amount > 50)).sum(),
        ("card", "first payment of the card"): np.unique(TEST.card[~known]).size,
        ("card", "card seen before"): (~known).sum() - np.unique(TEST.card[~known]).size,
        ("channel", "web"): (~known & (TEST.amount > 100)).sum(),
        ("channel", "pos"): (~known & (TEST.amount <= 100)).sum(),
    }
    assert [week.rows for week in found.weeks] == [(~known).sum()]


def test_the_cost_of_the_policy_is_told_beside_that_of_approving_all():
    """Thresholds that catch the frauds cost less than to let them through."""
    found = evaluate(TEST, SCORES, EvaluateConfig(resamples=0), PolicyConfig(review=0.6, block=0.8))

    assert found.policy_cost == total_cost(TEST.is_fraud, GOOD, TEST.amount, found.policy)
    assert found.approving_cost == pytest.approx(TEST.amount[TEST.is_fraud].sum())
    assert found.policy_cost < 0.2 * found.approving_cost


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
