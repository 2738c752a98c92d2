"""Drift is told as the field measures it, and chance is told from it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from tollgate.drift import FLOOR, Histogram, drift_of, noise, psi
from tollgate.model.profile import profile_features, profile_scores

COUNTS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), min_size=2, max_size=30).filter(
    lambda pairs: sum(a for a, _ in pairs) and sum(b for _, b in pairs)
)
VALUES = st.lists(
    st.one_of(st.just(math.nan), st.integers(-5, 5).map(float), st.floats(-9, 9)), min_size=1, max_size=80
)


@given(COUNTS)
def test_the_index_is_that_of_a_plain_loop(pairs):
    """A sum over the bins of the difference times the logarithm of the ratio; an empty bin has the least share."""
    now, then = (np.array(side) / sum(side) for side in zip(*pairs, strict=True))
    total = 0.0
    for a, b in zip(now.tolist(), then.tolist(), strict=True):
        low, high = max(a, FLOOR), max(b, FLOOR)
        total += (low - high) * math.log(low / high)
    assert psi(now, then) == pytest.approx(total, abs=1e-12)
    assert psi(now, then) >= 0
    assert psi(then, now) == pytest.approx(psi(now, then))


@given(VALUES, VALUES, st.booleans())
def test_values_are_counted_in_the_bins_of_the_profile(before, now, categorical):
    """By numbers and by codes, missing apart, whatever chunks they come in: as a plain loop counts them."""
    if categorical:
        before, now = ([math.nan if math.isnan(v) else float(round(v)) for v in side] for side in (before, now))
    column = np.array(before)[:, None]
    (profile,) = profile_features(column, ("x",), (categorical,))
    histogram = Histogram([profile], len(before))
    for start in range(0, len(now), 7):
        histogram.add(np.array(now[start : start + 7])[:, None])
    (drift,) = histogram.drifts()
    counts = [0] * (len(profile.shares) + 1)
    for value in now:
        if math.isnan(value):
            place = len(profile.shares)
        elif categorical:
            place = profile.edges.index(value) if value in profile.edges else len(profile.shares) - 1
        else:
            place = sum(value >= edge for edge in profile.edges)
        counts[place] += 1
    assert drift.shares == pytest.approx([count / len(now) for count in counts])
    assert drift.missing == pytest.approx(sum(map(math.isnan, now)) / len(now))
    assert sum(drift.shares_before) == pytest.approx(1)


def test_the_same_rows_have_not_moved():
    """A profile against what it was made of: 0 in every feature."""
    rng = np.random.default_rng(0)
    features = np.column_stack((rng.normal(size=3000), rng.integers(0, 40, 3000).astype(float)))
    features[rng.random(3000) < 0.2, 0] = np.nan
    profiles = profile_features(features, ("n", "c"), (False, True))
    histogram = Histogram(profiles, len(features))
    histogram.add(features)
    assert [one.psi for one in histogram.drifts()] == pytest.approx([0, 0], abs=1e-12)


@given(st.integers(2, 30), st.integers(50, 10**6), st.integers(50, 10**6))
def test_chance_is_that_of_the_chi_square_distribution(bins, rows, rows_before):
    """Mean and 99.9% quantile, within the error of the approximation."""
    scale = 1 / rows + 1 / rows_before
    expected, chance = noise(bins, rows, rows_before)
    assert expected == pytest.approx(scale * (bins - 1))
    assert chance == pytest.approx(scale * chi2.ppf(0.999, bins - 1), rel=0.035)


def test_without_drift_the_index_is_what_chance_says():
    """The mean over many draws is the expected one, and hardly any exceeds what chance may give."""
    rng = np.random.default_rng(1)
    beyond, values = 0, []
    for _ in range(400):
        before, now = rng.normal(size=(2000, 1)), rng.normal(size=(400, 1))
        profiles = profile_features(before, ("x",), (False,))
        histogram = Histogram(profiles, len(before))
        histogram.add(now)
        (drift,) = histogram.drifts()
        values.append(drift.psi)
        beyond += drift.is_beyond_chance
    # The edges are those of the reference itself, so its own share of the noise is missing.
    assert 0.75 * drift.expected < np.mean(values) < 1.1 * drift.expected
    assert beyond <= 4


def test_a_field_that_is_not_sent_any_more_is_told_from_one_that_is_missing_by_chance():
    """Beyond chance, and by how much."""
    rng = np.random.default_rng(2)
    (profile,) = profile_features(rng.normal(size=(5000, 1)), ("x",), (False,))
    lost, rare = np.zeros(len(profile.shares) + 1, np.int64), np.zeros(len(profile.shares) + 1, np.int64)
    lost[:-1], lost[-1] = 80, 200
    rare[:-1], rare[-1] = 100, 1
    assert drift_of(profile, lost, 5000).lost == pytest.approx(0.2, abs=0.01)
    assert drift_of(profile, rare, 5000).lost == 0
    assert drift_of(profile, np.zeros_like(lost), 5000).psi is None


def test_the_profile_of_scores_looks_closer_at_the_highest():
    """A tenth of the rows in each bin, the last one cut at 95% and 99%."""
    scores = np.linspace(0, 1, 10_001)[1:]
    kept = profile_scores(scores)
    assert kept.rows == 10_000
    assert kept.profile.shares == pytest.approx([0.1] * 9 + [0.05, 0.04, 0.01], abs=0.001)
