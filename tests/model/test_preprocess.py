from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tollgate.model.preprocess import KNOTS, MIN_CATEGORY_ROWS, Preprocess, fit_tables
from tollgate.model.search import locate

numbers = st.one_of(st.integers(-5, 5).map(float), st.floats(-1e12, 1e12, allow_subnormal=False))


def run(training, rows, categorical=(False,)):
    module = Preprocess(fit_tables(np.asarray(training, dtype=float), categorical))
    found, places = module(torch.tensor(np.asarray(rows, dtype=float)))
    return found.numpy(), places.numpy()


@settings(deadline=None)
@given(st.lists(numbers, min_size=2, max_size=300), st.lists(numbers, min_size=2, max_size=50))
def test_scores_rise_with_the_value_and_are_finite(training, probes):
    probes = sorted(probes)

    found, _ = run(np.array(training)[:, None], np.array(probes)[:, None])

    assert np.isfinite(found).all()
    assert (np.diff(found[:, 0]) >= -1e-6).all()


@settings(deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=KNOTS - 10))
def test_a_value_of_training_gets_the_normal_score_of_its_middle_rank(training):
    values = np.array(training, dtype=float)
    found, _ = run(values[:, None], values[:, None])
    if np.unique(values).size == 1:
        assert (found == 0).all()
        return
    n = values.size
    rank = np.array([((values < v).sum() + (values <= v).sum()) / (2 * n) for v in values])
    expected = np.array([NormalDist().inv_cdf(share) for share in rank.clip(0.5 / n, 1 - 0.5 / n)])
    # The knots of a small sample are evenly spaced in score, so a few inner values lie between two of them.
    assert np.abs(found[:, 0] - expected).max() < 0.35
    at_ends = (values == values.min()) | (values == values.max())
    assert found[at_ends, 0] == pytest.approx(expected[at_ends], abs=1e-6)


def test_beyond_what_was_seen_the_score_stays_at_the_end():
    values = np.arange(1000.0)[:, None]

    found, _ = run(values, [[999.0], [1e300], [np.inf], [0.0], [-np.inf]])

    assert found[0] == found[1] == found[2]
    assert found[3] == found[4] == -found[0]


def test_the_tail_has_knots_of_its_own():
    """One payment in a thousand is over 220; 150 and 220 must not be blurred together."""
    rng = np.random.default_rng(0)
    values = np.concatenate((rng.normal(50, 30, 60_000).clip(1), rng.uniform(220, 1000, 60)))

    found, _ = run(values[:, None], [[150.0], [221.0], [600.0]])

    assert found[1, 0] - found[0, 0] > 0.05
    assert found[2, 0] - found[1, 0] > 0.2


def test_missing_is_a_mask_where_training_had_it_and_nothing_where_not():
    training = np.array([[1.0, 5.0], [2.0, np.nan], [3.0, 7.0]])

    found, _ = run(training, [[np.nan, np.nan], [2.0, 6.0]], (False, False))

    assert found.shape == (2, 3)  # two scores, one mask
    assert found[0].tolist() == [0.0, 0.0, 1.0]
    assert found[1, 2] == 0.0


def test_a_constant_or_empty_feature_gives_zero_whatever_comes():
    training = np.array([[4.0, np.nan]] * 5)

    found, _ = run(training, [[4.0, 1.0], [9.0, np.nan], [np.nan, np.inf]], (False, False))

    assert (found[:, :2] == 0).all()


def test_neighbouring_codes_are_told_apart_and_the_rest_is_unknown():
    codes = 2.0**52 - 3 + np.arange(3)
    training = np.concatenate((np.repeat(codes[:2], MIN_CATEGORY_ROWS), [codes[2]] * (MIN_CATEGORY_ROWS - 1)))

    _, places = run(training[:, None], [[codes[0]], [codes[1]], [codes[2]], [5.0], [np.nan], [np.inf]], (True,))

    assert places[:, 0].tolist() == [1, 2, 0, 0, 0, 0]


def test_features_keep_their_columns():
    rng = np.random.default_rng(0)
    training = np.column_stack((np.repeat([3.0, 8.0], 20), rng.random(40), np.repeat([5.0, 6.0, 7.0, 9.0], 10)))

    found, places = run(training, training, (True, False, True))

    assert places[:, 0].tolist() == [1] * 20 + [2] * 20
    assert places[:, 1].tolist() == np.repeat([1, 2, 3, 4], 10).tolist()
    assert np.argsort(found[:, 0], kind="stable").tolist() == np.argsort(training[:, 1], kind="stable").tolist()


@settings(deadline=None)
@given(
    st.sampled_from([2, 4, 16]),
    st.lists(st.floats(-1e9, 1e9), min_size=16, max_size=16),
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20),
)
def test_the_unrolled_search_finds_what_searchsorted_does(width, entries, values):
    table = np.sort(np.array(entries[:width]))
    expected = np.maximum(np.searchsorted(table, values, side="right") - 1, 0)

    found = locate(torch.tensor(values, dtype=torch.float64)[:, None], torch.tensor(table)[None], width)

    assert found[:, 0].tolist() == expected.tolist()
