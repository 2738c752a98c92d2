"""Slices and weeks, each against the same measure of the same rows taken alone."""

import math
from dataclasses import replace

import numpy as np
import pytest

from learning import DAY_0, payments
from tollgate import metrics
from tollgate.breakdown import (
    FEWEST_FRAUDS,
    MISSING,
    OTHERS,
    amount_bands,
    by_value,
    by_week,
    newness,
    slices,
    texts_of,
)
from tollgate.dataset import first_of_card
from tollgate.duration import DAY_US

TEST = payments(4000, days=16, delay_days=9)
SCORES = np.clip(0.7 * TEST.is_fraud + 0.5 * np.random.default_rng(1).random(4000), 0, 1)
SEEN = metrics.alerts(SCORES, TEST.time_us, 10)


def test_a_slice_is_measured_on_its_rows_at_the_budget_of_all():
    """AP, AUC and calibration are those of the rows; alerts are those of the whole budget."""
    rows = TEST.amount > 100

    (found,) = slices(TEST, SCORES, SEEN, {"amount": {"large": rows}})

    assert (found.by, found.name, found.rows, found.frauds) == (
        "amount",
        "large",
        rows.sum(),
        (rows & TEST.is_fraud).sum(),
    )
    assert found.average_precision == metrics.average_precision(TEST.is_fraud[rows], SCORES[rows])
    assert found.auc_roc == metrics.auc_roc(TEST.is_fraud[rows], SCORES[rows])
    assert found.recall == pytest.approx((SEEN & rows & TEST.is_fraud).sum() / (rows & TEST.is_fraud).sum())
    assert found.precision == pytest.approx(TEST.is_fraud[SEEN & rows].mean())
    assert found.mean_score == pytest.approx(SCORES[rows].mean())
    assert found.fraud_share == pytest.approx(TEST.is_fraud[rows].mean())


def test_a_slice_with_few_frauds_tells_only_its_counts():
    """One fraud short of enough, no measure is told; with just enough, all are."""
    frauds = np.flatnonzero(TEST.is_fraud)
    few, enough = ~TEST.is_fraud, ~TEST.is_fraud
    few[frauds[: FEWEST_FRAUDS - 1]] = True
    enough = enough.copy()
    enough[frauds[:FEWEST_FRAUDS]] = True

    short, told = slices(TEST, SCORES, SEEN, {"some": {"few": few, "enough": enough, "none": np.zeros(4000, bool)}})

    assert short.frauds == FEWEST_FRAUDS - 1
    for name in ("average_precision", "auc_roc", "recall", "precision", "mean_score", "fraud_share"):
        assert math.isnan(getattr(short, name)), name
        assert not math.isnan(getattr(told, name)), name


def test_bands_hold_each_amount_once_and_are_quartiles_unless_given():
    """Every row is in exactly one band; quartile bands are about equal, given edges are kept."""
    bands = amount_bands(TEST.amount)
    fixed = amount_bands(TEST.amount, (100.0, 10.0))

    assert (sum(rows.astype(int) for rows in bands.values()) == 1).all()
    assert len(bands) == 4
    assert all(abs(rows.sum() - 1000) < 20 for rows in bands.values())
    assert list(fixed) == ["up to 10.00", "10.00 to 100.00", "over 100.00"]
    assert (fixed["10.00 to 100.00"] == ((TEST.amount > 10) & (TEST.amount <= 100))).all()


def test_amounts_that_are_all_the_same_make_two_bands_of_which_one_is_empty():
    """Quartiles that coincide are one edge."""
    bands = amount_bands(np.full(5, 9.99))

    assert list(bands) == ["up to 9.99", "over 9.99"]
    assert bands["up to 9.99"].all()


def test_a_card_is_new_once_and_no_card_is_never_new():
    """The first payment of each card is marked, in the order in which they came."""
    card = np.array([5, 0, 5, 3, 0, 3, 9], dtype=np.uint64)

    new = first_of_card(card)

    assert new.tolist() == [True, False, False, True, False, False, True]
    assert [rows.tolist() for rows in newness(new).values()] == [new.tolist(), (~new).tolist()]


def test_the_most_frequent_values_get_a_group_and_the_rest_share_one():
    """Values beyond the limit, and missing ones, have names of their own, and no row is lost."""
    texts = np.array(["a"] * 5 + ["b"] * 3 + [None, ""] + ["c", "d"], dtype=object)

    groups = by_value(texts, most=3)

    assert list(groups) == ["a", "b", MISSING, OTHERS]
    assert [int(rows.sum()) for rows in groups.values()] == [5, 3, 2, 2]


def test_codes_are_shown_as_their_texts():
    """A code without a text, and a missing one, has none."""
    found = texts_of(np.array([7.0, np.nan, 8.0, 7.0]), {7.0: "web"})

    assert found.tolist() == ["web", None, None, "web"]


def test_weeks_are_counted_from_the_first_day_and_measured_alone():
    """16 days are two weeks and two days, each with the measures of its rows and the day its labels were known."""
    weeks = by_week(TEST, SCORES, 10)

    assert [(week.start_us, week.days) for week in weeks] == [
        (DAY_0 * DAY_US, 7),
        ((DAY_0 + 7) * DAY_US, 7),
        ((DAY_0 + 14) * DAY_US, 2),
    ]
    assert sum(week.rows for week in weeks) == 4000
    for week in weeks:
        part = TEST.take((TEST.time_us >= week.start_us) & (TEST.time_us < week.start_us + 7 * DAY_US))
        scores = SCORES[(TEST.time_us >= week.start_us) & (TEST.time_us < week.start_us + 7 * DAY_US)]
        seen = metrics.alerts(scores, part.time_us, 10)
        assert (week.rows, week.frauds, week.known_us) == (len(part), part.frauds, part.available_us.max())
        assert week.average_precision == metrics.average_precision(part.is_fraud, scores)
        assert week.card_precision == metrics.card_precision(part.is_fraud, scores, part.card, part.time_us, 10)
        assert week.recall == metrics.recall(part.is_fraud, seen)
        assert week.calibration_error == metrics.expected_calibration_error(part.is_fraud, scores)


def test_a_week_without_payments_is_left_out():
    """A gap moves no later week."""
    gap = (TEST.time_us < (DAY_0 + 7) * DAY_US) | (TEST.time_us >= (DAY_0 + 14) * DAY_US)

    weeks = by_week(TEST.take(gap), SCORES[gap], 10)

    assert [week.start_us // DAY_US - DAY_0 for week in weeks] == [0, 14]


def test_a_week_without_fraud_has_no_average_precision():
    """What is not defined in a week is not a number there."""
    second = (TEST.time_us >= (DAY_0 + 7) * DAY_US) & (TEST.time_us < (DAY_0 + 14) * DAY_US)
    quiet = replace(TEST, is_fraud=TEST.is_fraud & ~second)

    first, empty, _ = by_week(quiet, SCORES, 10)

    assert first.average_precision > 0
    assert (empty.frauds, math.isnan(empty.average_precision), math.isnan(empty.recall)) == (0, True, True)
