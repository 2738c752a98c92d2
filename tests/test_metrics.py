"""Every measure against its definition, worked out the slow way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate import metrics
from tollgate.duration import DAY_US

# Few distinct scores, so that ties are common.
rows = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.integers(0, 3), st.integers(0, 4)),
    min_size=1,
    max_size=30,
)


def columns(table):
    is_fraud, scores, days, cards = (np.array(column) for column in zip(*table, strict=True))
    return is_fraud.astype(bool), scores.astype(float), days * DAY_US + 5, cards.astype(np.uint64)


def same(found, expected):
    return (math.isnan(found) and math.isnan(expected)) or found == pytest.approx(expected)


@given(rows)
def test_average_precision_sums_precision_over_the_steps_of_recall(table):
    is_fraud, scores, _, _ = columns(table)
    expected, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        flagged = scores >= threshold
        recall = (is_fraud & flagged).sum() / max(is_fraud.sum(), 1)
        expected += (recall - before) * (is_fraud & flagged).sum() / flagged.sum()
        before = recall

    assert same(metrics.average_precision(is_fraud, scores), expected if is_fraud.any() else math.nan)


@given(rows)
def test_auc_is_the_chance_that_a_fraud_outranks_a_good_payment(table):
    is_fraud, scores, _, _ = columns(table)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[is_fraud] for b in scores[~is_fraud]]

    assert same(metrics.auc_roc(is_fraud, scores), float(np.mean(pairs)) if pairs else math.nan)


@given(rows, st.sampled_from([0.0, 0.01, 0.2, 0.5, 1.0]))
def test_recall_at_fpr_is_the_best_of_all_thresholds_within_the_limit(table, limit):
    is_fraud, scores, _, _ = columns(table)
    best = math.nan
    if is_fraud.any() and not is_fraud.all():
        best = max(
            np.mean(scores[is_fraud] >= threshold)
            for threshold in [*scores, np.inf]
            if np.mean(scores[~is_fraud] >= threshold) <= limit
        )

    assert same(metrics.recall_at_fpr(is_fraud, scores, limit), best)


@given(rows, st.integers(1, 6))
def test_alerts_are_the_highest_scores_of_each_day_and_earlier_ones_first(table, budget):
    _, scores, time_us, _ = columns(table)
    expected = set()
    for day in set(time_us.tolist()):
        places = [place for place in range(len(scores)) if time_us[place] == day]
        expected |= set(sorted(places, key=lambda place: (-scores[place], place))[:budget])

    assert set(np.flatnonzero(metrics.alerts(scores, time_us, budget)).tolist()) == expected


@given(rows, st.integers(1, 6))
def test_recall_precision_and_money_are_shares_of_what_is_flagged(table, budget):
    is_fraud, scores, time_us, cards = columns(table)
    flagged = metrics.alerts(scores, time_us, budget)
    amount = cards + 0.5
    hits = [place for place in range(len(scores)) if flagged[place] and is_fraud[place]]
    stolen = sum(amount[is_fraud])

    assert same(metrics.recall(is_fraud, flagged), len(hits) / is_fraud.sum() if is_fraud.any() else math.nan)
    assert same(metrics.precision(is_fraud, flagged), len(hits) / flagged.sum())
    found = metrics.value_detection_rate(is_fraud, flagged, amount)
    assert same(found, sum(amount[hits]) / stolen if is_fraud.any() else math.nan)


@given(rows, st.integers(1, 6), st.sampled_from([0.0, 0.75, 5.0]))
def test_money_saved_is_that_of_the_frauds_seen_less_each_review(table, budget, review_cost):
    """Each alert costs, and each fraud among them pays; the sum may be negative."""
    is_fraud, scores, time_us, cards = columns(table)
    flagged = metrics.alerts(scores, time_us, budget)
    amount = cards + 0.5
    expected = sum((amount[place] if is_fraud[place] else 0) - review_cost for place in np.flatnonzero(flagged))

    assert metrics.money_saved(is_fraud, flagged, amount, review_cost) == pytest.approx(expected)


@given(rows, st.integers(1, 4))
def test_card_precision_is_that_of_the_handbook(table, k):
    is_fraud, scores, time_us, cards = columns(table)
    days, caught = [], set()
    for day in sorted(set(time_us.tolist())):
        best = {}
        for place in np.flatnonzero(time_us == day).tolist():
            card = int(cards[place])
            if card and card not in caught:
                highest, compromised = best.get(card, (-math.inf, False))
                best[card] = (max(highest, scores[place]), compromised or bool(is_fraud[place]))
        top = sorted(best, key=lambda card: (-best[card][0], card))[:k]
        hits = {card for card in top if best[card][1]}
        caught |= hits
        days.append(len(hits) / k)

    assert same(metrics.card_precision(is_fraud, scores, cards, time_us, k), float(np.mean(days)))


@given(rows)
def test_brier_and_log_loss_are_means_over_rows(table):
    is_fraud, scores, _, _ = columns(table)
    brier = np.mean([(p - y) ** 2 for y, p in zip(is_fraud, scores, strict=True)])
    kept = [min(max(p, 1e-15), 1 - 1e-15) for p in scores]
    loss = np.mean([-math.log(p if y else 1 - p) for y, p in zip(is_fraud, kept, strict=True)])

    assert metrics.brier(is_fraud, scores) == pytest.approx(brier)
    assert metrics.log_loss(is_fraud, scores) == pytest.approx(loss, rel=1e-3)


@given(rows)
def test_calibration_error_of_one_score_a_bin_is_the_gap_of_each_score(table):
    is_fraud, scores, _, _ = columns(table)
    gap = sum(abs(is_fraud[scores == s].mean() - s) * np.mean(scores == s) for s in set(scores.tolist()))

    found = metrics.expected_calibration_error(is_fraud, scores, bins=1000)  # each of 6 scores gets its own

    assert found == pytest.approx(gap)


def test_calibration_bins_hold_equally_many_rows():
    probabilities = np.linspace(0.001, 0.2, 1000)
    is_fraud = np.random.default_rng(0).random(1000) < probabilities
    expected = np.mean(
        [abs(is_fraud[part].mean() - probabilities[part].mean()) for part in np.split(np.arange(1000), 20)]
    )

    assert metrics.expected_calibration_error(is_fraud, probabilities) == pytest.approx(expected, abs=1e-3)


def test_nothing_to_measure_is_not_a_number():
    nobody, nothing = np.zeros(0, dtype=bool), np.zeros(0)

    assert math.isnan(metrics.brier(nobody, nothing))
    assert math.isnan(metrics.log_loss(nobody, nothing))
    assert math.isnan(metrics.expected_calibration_error(nobody, nothing))
