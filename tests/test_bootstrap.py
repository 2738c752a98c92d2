"""Intervals against resamples that are really made, row by row, and against the truth of a simulated world."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from tollgate import bootstrap, metrics
from tollgate.bootstrap import MEASURES, Pair, card_units, difference_interval, intervals
from tollgate.duration import DAY_US

# Few distinct scores, so that ties are common; card 0 is missing.
tables = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.integers(0, 2), st.integers(0, 5)),
    min_size=1,
    max_size=25,
)


def columns(table):
    is_fraud, scores, days, cards = (np.array(column) for column in zip(*table, strict=True))
    rows = SimpleNamespace(
        is_fraud=is_fraud.astype(bool),
        card=cards.astype(np.uint64),
        time_us=days * DAY_US + 5,
        amount=np.arange(len(table)) % 7 + 1.5,
    )
    return rows, scores.astype(float)


def world(random, cards, per_card=10):
    """Scores of two models; one is better. A card's payments share a part of their score."""
    card = np.repeat(np.arange(1, cards + 1), per_card).astype(np.uint64)
    n = card.size
    is_fraud = np.repeat(random.random(cards) < 0.2, per_card) & (random.random(n) < 0.4)
    shared = np.repeat(random.normal(0, 0.7, cards), per_card)
    rows = SimpleNamespace(
        is_fraud=is_fraud,
        card=card,
        time_us=random.integers(0, 7 * DAY_US, n),
        amount=random.lognormal(3, 1, n),
    )
    return rows, 1.8 * is_fraud + shared + random.normal(size=n), 1.5 * is_fraud + shared + random.normal(size=n)


def really_resampled(rows, units, counts):
    """The rows of each unit as often as it was drawn, each copy of a card under a name of its own."""
    places = np.repeat(np.arange(units.size), counts[units])
    copy = np.concatenate([np.arange(one) for one in counts[units]] or [[]]).astype(np.uint64)
    card = rows.card[places]
    return places, SimpleNamespace(
        is_fraud=rows.is_fraud[places],
        time_us=rows.time_us[places],
        amount=rows.amount[places],
        card=np.where(card == 0, np.uint64(0), card * np.uint64(1000) + copy),
    )


@given(tables, st.integers(1, 5), st.integers(0, 2**32))
def test_a_weighted_resample_measures_what_the_rows_made_for_real_do(table, budget, seed):
    """Each measure of counted units equals that of `metrics` on rows that are repeated, ties and card 0 included."""
    rows, scores = columns(table)
    units = card_units(rows.card)
    counts = np.random.default_rng(seed).integers(0, 4, units.max() + 1)
    places, real = really_resampled(rows, units, counts)

    found = bootstrap._Counted(rows, scores, units, budget, MEASURES).measure(counts)

    if places.size == 0:
        assert math.isnan(found["average_precision"])
        return
    repeated = scores[places]
    seen = metrics.alerts(repeated, real.time_us, budget)
    expected = {
        "average_precision": metrics.average_precision(real.is_fraud, repeated),
        "auc_roc": metrics.auc_roc(real.is_fraud, repeated),
        "precision": metrics.precision(real.is_fraud, seen),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, nan_ok=True), name


@given(tables, st.integers(1, 5), st.integers(0, 2**32))
def test_alerts_and_cards_of_distinct_scores_are_those_of_the_rows_made_for_real(table, budget, seed):
    """Recall, money and card precision of counted units equal those of repeated rows whose copies stay together."""
    rows, scores = columns(table)
    scores = scores + np.arange(scores.size) * 1e-6  # which of two equal cards comes first is arbitrary
    units = card_units(rows.card)
    counts = np.random.default_rng(seed).integers(0, 4, units.max() + 1)
    places, real = really_resampled(rows, units, counts)
    if places.size == 0 or set(np.unique(real.time_us)) != set(np.unique(rows.time_us)):
        return
    seen = metrics.alerts(scores[places], real.time_us, budget)

    found = bootstrap._Counted(rows, scores, units, budget, MEASURES).measure(counts)

    assert found["recall"] == pytest.approx(metrics.recall(real.is_fraud, seen), nan_ok=True)
    assert found["value_detection_rate"] == pytest.approx(
        metrics.value_detection_rate(real.is_fraud, seen, real.amount), nan_ok=True
    )
    assert found["card_precision"] == pytest.approx(
        metrics.card_precision(real.is_fraud, scores[places], real.card, real.time_us, budget)
    )


@given(tables, st.data())
def test_weighted_ap_is_that_of_scikit_learn(table, data):
    """Weighted AP equals scikit-learn's, by weight and on repeated rows."""
    rows, scores = columns(table)
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=scores.size, max_size=scores.size)))

    found = bootstrap.weighted_average_precision(rows.is_fraud, scores, counts)

    if not (rows.is_fraud & (counts > 0)).any():
        assert math.isnan(found)
        return
    assert found == pytest.approx(average_precision_score(rows.is_fraud, scores, sample_weight=counts))
    repeated = np.repeat(rows.is_fraud, counts), np.repeat(scores, counts)
    assert found == pytest.approx(average_precision_score(*repeated))


def test_the_value_is_that_of_the_rows_as_they_are():
    """An interval's value is the measure itself, and lies inside."""
    rows, scores, _ = world(np.random.default_rng(3), 150)
    seen = metrics.alerts(scores, rows.time_us, 20)

    found = intervals(rows, scores, budget=20, resamples=100)

    expected = {
        "average_precision": average_precision_score(rows.is_fraud, scores),
        "auc_roc": roc_auc_score(rows.is_fraud, scores),
        "card_precision": metrics.card_precision(rows.is_fraud, scores, rows.card, rows.time_us, 20),
        "recall": metrics.recall(rows.is_fraud, seen),
        "precision": metrics.precision(rows.is_fraud, seen),
        "value_detection_rate": metrics.value_detection_rate(rows.is_fraud, seen, rows.amount),
    }
    assert set(found) == set(MEASURES)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value), name
        assert found[name].low < value < found[name].high, name


def test_most_intervals_hold_the_truth():
    """Of 90% intervals, about 90% hold the measure of the whole world: of AP, of AUC and of a difference of APs."""
    random = np.random.default_rng(1)
    everyone, better, worse = world(random, 30_000)
    ap, other = (average_precision_score(everyone.is_fraud, scores) for scores in (better, worse))
    truth = np.array([ap, roc_auc_score(everyone.is_fraud, better), ap - other])
    held = np.zeros(3)
    for sample in range(100):
        rows, first, second = world(random, 250)
        found = intervals(
            rows, first, ("average_precision", "auc_roc"), budget=1, resamples=100, seed=sample, level=0.9
        )
        gap = difference_interval([Pair(rows, first, second)], resamples=100, seed=sample, level=0.9)
        held += [one.low <= true <= one.high for one, true in zip((*found.values(), gap), truth, strict=True)]

    assert (held >= 80).all(), held
    assert (held <= 98).all(), held


def test_rows_resampled_alone_look_surer_than_cards_are():
    """Where a card's payments go together, resampling rows gives an interval that is too short."""
    random = np.random.default_rng(4)
    rows, scores, _ = world(random, 60, per_card=50)

    by_card = intervals(rows, scores, ("auc_roc",), budget=1)["auc_roc"]
    by_row = intervals(rows, scores, ("auc_roc",), budget=1, units=np.arange(scores.size))["auc_roc"]

    assert by_card.high - by_card.low > 1.3 * (by_row.high - by_row.low)


def test_a_paired_difference_is_surer_than_two_intervals():
    """The same resample for both models: what they share cancels out, and equal models differ by nothing at all."""
    random = np.random.default_rng(5)
    rows, scores, _ = world(random, 200)
    close = scores + random.normal(0, 0.2, scores.size)

    alone = intervals(rows, scores, ("average_precision",), budget=1)["average_precision"]
    paired = difference_interval([Pair(rows, scores, close)])
    same = difference_interval([Pair(rows, scores, scores * 2)])

    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)
    assert (same.value, same.low, same.high, same.holds_zero) == (0, 0, 0, True)


def test_a_difference_over_folds_is_the_mean_of_the_folds_and_surer_than_one():
    """Several weeks: the value is the mean of their differences, and the interval shrinks."""
    random = np.random.default_rng(6)
    folds = [Pair(*world(random, 150)) for _ in range(4)]

    one = difference_interval(folds[:1], seed=1)
    every = difference_interval(folds, seed=1)

    gaps = [
        average_precision_score(fold.rows.is_fraud, fold.first)
        - average_precision_score(fold.rows.is_fraud, fold.second)
        for fold in folds
    ]
    assert every.value == pytest.approx(np.mean(gaps))
    assert every.high - every.low < 0.8 * (one.high - one.low)
    assert every.low > 0
    assert not every.holds_zero


def test_the_same_seed_gives_the_same_interval():
    """Nothing but the seed is random."""
    rows, scores, _ = world(np.random.default_rng(7), 100)

    first, again, other = (
        intervals(rows, scores, ("auc_roc",), budget=1, resamples=50, seed=seed)["auc_roc"] for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_what_is_not_defined_has_no_interval():
    """Without a fraud there is no AP and no interval of it, and a difference may be chance."""
    rows, scores, _ = world(np.random.default_rng(8), 20)
    rows.is_fraud[:] = False

    found = intervals(rows, scores, ("average_precision",), budget=1, resamples=10)["average_precision"]

    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert found.holds_zero


def test_rows_without_a_card_are_units_of_their_own():
    """Card 0 is no card: its rows are not drawn together."""
    units = card_units(np.array([7, 0, 7, 0, 9], dtype=np.uint64))

    assert units[0] == units[2]
    assert len(set(units.tolist())) == 4
    assert units.max() == 3
