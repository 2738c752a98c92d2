import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollgate.model.calibration import MIN_FRAUDS, Calibration, _loss, fit_calibration, sigmoid


@settings(deadline=None, max_examples=20)
@given(st.floats(0.3, 2.5), st.floats(-3, 1), st.integers(0, 99))
def test_it_finds_the_line_that_the_labels_were_drawn_from(slope, intercept, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, 40_000)
    is_fraud = rng.random(40_000) < sigmoid(slope * logits + intercept)

    found = fit_calibration(logits, is_fraud)

    assert found.slope == pytest.approx(slope, abs=0.15)
    assert found.intercept == pytest.approx(intercept, abs=0.15)
    assert found.warnings == ()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 999), st.floats(-6, 6), st.floats(0.05, 30))
def test_no_line_nearby_is_more_likely(seed, shift, scale):
    rng = np.random.default_rng(seed)
    is_fraud = rng.random(500) < 0.3
    logits = scale * (rng.normal(size=500) + 1.5 * is_fraud) + shift

    found = fit_calibration(logits, is_fraud)

    design = np.column_stack((logits, np.ones(500)))
    best = _loss(design, is_fraud, np.array([found.slope, found.intercept]))
    for step in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)):
        assert best <= _loss(design, is_fraud, np.array([found.slope, found.intercept]) + step) + 1e-9


def test_mean_probability_is_the_prevalence():
    rng = np.random.default_rng(3)
    is_fraud = rng.random(20_000) < 0.01
    logits = rng.normal(size=20_000) + 3 * is_fraud

    assert fit_calibration(logits, is_fraud).apply(logits).mean() == pytest.approx(is_fraud.mean(), rel=1e-6)


def test_the_order_of_scores_does_not_change():
    logits = np.linspace(-30, 30, 1000)

    assert (np.diff(Calibration(0.7, -2.0).apply(logits)) > 0).all()


def test_separated_classes_give_a_finite_line():
    found = fit_calibration(np.repeat([-1.0, 1.0], 50), np.repeat([False, True], 50))

    assert 1 < found.slope < 100
    assert found.warnings == ()


@pytest.mark.parametrize("swap", [False, True])
def test_too_few_of_a_class_leave_the_scores_as_they_are_and_say_so(swap):
    is_fraud = (np.arange(1000) < MIN_FRAUDS - 1) ^ swap

    found = fit_calibration(np.random.default_rng(0).normal(size=1000), is_fraud)

    assert (found.slope, found.intercept) == (1.0, 0.0)
    assert f"there are {MIN_FRAUDS - 1}" in found.warnings[0]


def test_scores_that_rank_backwards_are_left_as_they_are_and_it_says_so():
    rng = np.random.default_rng(0)
    is_fraud = rng.random(2000) < 0.3

    found = fit_calibration(rng.normal(size=2000) - 2 * is_fraud, is_fraud)

    assert (found.slope, found.intercept) == (1.0, 0.0)
    assert "not more often fraud" in found.warnings[0]


@given(st.floats(-700, 700))
def test_sigmoid_is_exact_where_it_is_tiny(logit):
    expected = math.exp(logit) / (1 + math.exp(logit)) if logit < 0 else 1 / (1 + math.exp(-logit))

    assert sigmoid(np.array([logit]))[0] == pytest.approx(expected, rel=1e-12)


def test_it_goes_through_json():
    calibration = Calibration(0.123456789012345, -4.5, ("why",))

    assert msgspec.json.decode(msgspec.json.encode(calibration), type=Calibration) == calibration
