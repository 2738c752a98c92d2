import msgspec
import numpy as np
import pytest

from learning import CATEGORICAL, NAMES, SHOPS, payments
from tollgate.model.profile import BINS, MAX_CODES, FeatureProfile, profile_features


def test_a_number_has_its_median_and_bins_of_equal_rows():
    features = payments(5000).features

    amount, _, gap, _ = profile_features(features, NAMES, CATEGORICAL)

    assert amount.typical == np.median(features[:, 0])
    assert len(amount.edges) == BINS - 1
    assert amount.shares == pytest.approx([1 / BINS] * BINS, abs=0.01)
    assert gap.missing == pytest.approx(0.1, abs=0.02)
    assert sum(gap.shares) == pytest.approx(1)


def test_a_number_with_few_values_has_fewer_bins_that_count_right():
    column = np.repeat([0.0, 1.0, 5.0], [700, 200, 100])

    (profile,) = profile_features(column[:, None], ("n",), (False,))

    below = [np.mean(column < edge) for edge in profile.edges]
    assert np.cumsum(profile.shares)[:-1] == pytest.approx(below)
    assert sum(profile.shares) == pytest.approx(1)


def test_a_category_has_its_most_frequent_code_and_the_share_of_each():
    column = np.concatenate((np.repeat(SHOPS[0], 60), np.repeat(SHOPS[1], 30), [np.nan] * 10))

    (profile,) = profile_features(column[:, None], ("shop",), (True,))

    assert profile.typical == SHOPS[0]
    assert profile.edges == tuple(SHOPS[:2])
    assert profile.shares == pytest.approx((2 / 3, 1 / 3, 0))
    assert profile.missing == pytest.approx(0.1)


def test_rare_codes_are_counted_together():
    column = np.concatenate((np.repeat(np.arange(MAX_CODES, dtype=float), 5), np.arange(100.0, 120.0)))

    (profile,) = profile_features(column[:, None], ("c",), (True,))

    assert profile.edges == tuple(np.arange(MAX_CODES))
    assert profile.shares[-1] == pytest.approx(20 / column.size)


def test_a_feature_that_is_always_missing_has_nothing_typical_and_goes_through_json():
    (profile,) = profile_features(np.full((4, 1), np.nan), ("x",), (False,))

    assert profile.typical is None
    assert profile.missing == 1
    assert msgspec.json.decode(msgspec.json.encode(profile), type=FeatureProfile) == profile
