import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from tollgate.metrics import expected_calibration_error, log_loss
from tollgate.model.calibration import (
    MIN_FRAUDS,
    MIN_ISOTONIC_FRAUDS,
    Calibration,
    _loss,
    fit_beta,
    fit_calibration,
    fit_isotonic,
    fit_platt,
    pool_violators,
    sigmoid,
)

BETA = Calibration(0.5, -1.0, method="beta", upper_slope=2.5)
LINE = Calibration(0.8, -1.0)
CURVES = [
    LINE,
    BETA,
    Calibration(0.02, -3.0, method="beta", upper_slope=0.02),
    Calibration(0.3, method="isotonic", knots=(-4.0, 0.5, 0.500001, 7.0), values=(-9.0, -3.0, 2.0, 2.2)),
]


def steps(logits):
    """Shares of fraud that no line or beta curve has."""
    return np.select([logits < -2, logits < 0, logits < 2], [0.005, 0.03, 0.3], 0.8)


def drawn(true_probability, n, seed):
    """Logits, and labels drawn from what they truly mean."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.5, 2.2, n)
    return logits, rng.random(n) < true_probability(logits)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.3, 2.5), st.floats(-3, 1), st.integers(0, 99))
def test_it_finds_the_line_that_the_labels_were_drawn_from(slope, intercept, seed):
    """Platt's line comes back as it was drawn from, whatever it was."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, 40_000)
    is_fraud = rng.random(40_000) < sigmoid(slope * logits + intercept)

    found = fit_platt(logits, is_fraud)

    assert found.slope == pytest.approx(slope, abs=0.15)
    assert found.intercept == pytest.approx(intercept, abs=0.15)


@settings(deadline=None, max_examples=15)
@given(st.floats(0.3, 2.5), st.floats(0.3, 2.5), st.floats(-2, 1), st.integers(0, 99))
def test_it_finds_the_beta_curve_that_the_labels_were_drawn_from(lower, upper, intercept, seed):
    """All three numbers of a beta curve come back from labels drawn from it."""
    true = Calibration(lower, intercept, method="beta", upper_slope=upper)
    logits = np.random.default_rng(seed).normal(0, 2.5, 200_000)
    is_fraud = np.random.default_rng(seed + 1).random(200_000) < true.apply(logits)

    found = fit_beta(logits, is_fraud)

    assert found.slope == pytest.approx(lower, abs=0.3)
    assert found.upper_slope == pytest.approx(upper, abs=0.3)
    assert found.intercept == pytest.approx(intercept, abs=0.3)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 999), st.floats(-6, 6), st.floats(0.05, 30))
def test_no_line_nearby_is_more_likely(seed, shift, scale):
    """The fit is the best of its kind, however far off the scores are."""
    rng = np.random.default_rng(seed)
    is_fraud = rng.random(500) < 0.3
    logits = scale * (rng.normal(size=500) + 1.5 * is_fraud) + shift

    found = fit_platt(logits, is_fraud)

    design = np.column_stack((logits, np.ones(500)))
    best = _loss(design, is_fraud, np.array([found.slope, found.intercept]))
    for step in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)):
        assert best <= _loss(design, is_fraud, np.array([found.slope, found.intercept]) + step) + 1e-9


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 9999), st.integers(2, 400), st.integers(1, 50))
def test_the_blocks_are_those_of_isotonic_regression(seed, n, levels):
    """The shares of the blocks are scikit-learn's, with ties among the logits too."""
    rng = np.random.default_rng(seed)
    logits = rng.integers(-levels, levels, n) / 4
    is_fraud = rng.random(n) < sigmoid(logits)
    expected = IsotonicRegression().fit_transform(logits, is_fraud.astype(float))

    blocks = pool_violators(logits, is_fraud)

    shares, rows = np.unique(expected.round(12), return_counts=True)
    np.testing.assert_allclose(blocks.frauds / blocks.rows, shares, atol=1e-9)
    np.testing.assert_array_equal(blocks.rows, rows)
    for share, centre in zip(shares, blocks.centre, strict=True):
        assert centre == pytest.approx(logits[expected.round(12) == share].mean())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("truth", "method"), [(LINE.apply, "platt"), (BETA.apply, "beta"), (steps, "isotonic")])
def test_the_curve_that_the_rows_ask_for_is_taken(truth, method, seed):
    """A line, a bend and steps are told apart by what they say on rows that were not fitted."""
    assert fit_calibration(*drawn(truth, 20_000, seed)).method == method


@pytest.mark.parametrize("truth", [LINE.apply, BETA.apply, steps])
def test_predicted_shares_of_fraud_come_near_the_observed_ones(truth):
    """On new rows the calibration error falls to an eighth of the model's, and no line does better than the choice."""
    logits, is_fraud = drawn(truth, 40_000, 1)
    found, line = fit_calibration(logits, is_fraud), fit_platt(logits, is_fraud)

    new, new_fraud = drawn(truth, 40_000, 2)

    before = expected_calibration_error(new_fraud, sigmoid(new))
    assert expected_calibration_error(new_fraud, found.apply(new)) < before / 8
    assert log_loss(new_fraud, found.apply(new)) <= log_loss(new_fraud, line.apply(new))


def test_few_frauds_get_no_steps():
    """Below the named number of frauds isotonic regression is not asked."""
    logits = np.linspace(-6, 6, 4000)
    is_fraud = np.zeros(4000, dtype=bool)
    is_fraud[-MIN_ISOTONIC_FRAUDS + 1 :] = True  # an edge as sharp as can be: steps would win

    assert fit_calibration(logits, is_fraud).method != "isotonic"


@pytest.mark.parametrize("fit", [fit_platt, fit_beta, fit_isotonic])
def test_mean_probability_is_the_prevalence(fit):
    """Every curve expects as many frauds as there were, rare as they are."""
    rng = np.random.default_rng(3)
    is_fraud = rng.random(20_000) < 0.01
    logits = rng.normal(size=20_000) + 3 * is_fraud

    assert fit(logits, is_fraud).apply(logits).mean() == pytest.approx(is_fraud.mean(), rel=1e-6)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.method)
def test_the_order_of_scores_does_not_change(curve):
    """A higher logit is a higher probability, between the knots and beyond them, as far as float64 tells apart."""
    logits = np.linspace(-30, 30, 1000)
    log_odds = curve.log_odds(logits)

    assert (np.diff(log_odds) > 0).all()
    assert (np.diff(curve.apply(logits)[log_odds < 30]) > 0).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9999), st.integers(50, 2000), st.floats(0.02, 0.9), st.floats(0.0, 3.0))
def test_fitted_steps_rise_strictly(seed, n, prevalence, apart):
    """Isotonic regression as fitted makes no ties, at, between and beyond its knots."""
    rng = np.random.default_rng(seed)
    is_fraud = rng.random(n) < prevalence
    logits = (rng.normal(size=n) + apart * is_fraud).round(2)
    curve = fit_isotonic(logits, is_fraud)
    asked = np.unique(np.concatenate((np.linspace(-9, 9, 500), logits, curve.knots)).round(6))

    assert (np.diff(curve.log_odds(asked)) > 0).all() or curve.slope <= 0


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.method)
def test_no_payment_is_certain(curve):
    """A probability is never 0 or 1, whatever the logit."""
    probabilities = curve.apply(np.array([-1e5, -800.0, 800.0, 1e5]))

    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_pure_blocks_are_not_certain():
    """The good below the first fraud and the frauds above the last good count about half a row of what they lack."""
    logits = np.arange(1000.0)
    is_fraud = logits >= 600

    values = fit_isotonic(logits, is_fraud).apply(np.array([299.5, 799.5]))

    assert 0.05 / 601 < values[0] < 5 / 601
    assert 0.05 / 401 < 1 - values[1] < 5 / 401


def test_blocks_that_hardly_differ_still_rise():
    """Between two blocks of almost the same share the curve rises by enough for float64 to tell scores apart."""
    logits = np.repeat([0.0, 1.0], [40_000, 40_003])
    is_fraud = np.concatenate((np.arange(40_000) < 10_000, np.arange(40_003) < 10_001))

    low, high = fit_isotonic(logits, is_fraud).log_odds(np.array([0.0, 1.0]))

    assert low + 0.01 < high < low + 0.03


def test_a_bend_against_the_ranking_is_held_back():
    """Where the surest scores are the least often fraud, the upper slope stays above 0."""
    logits, is_fraud = drawn(lambda z: np.where(z < 0, sigmoid(z + 1), 0.5 - 0.05 * z), 20_000, 0)

    found = fit_beta(logits, is_fraud)

    assert found.upper_slope > 0
    assert (np.diff(found.apply(np.linspace(-20, 20, 400))) > 0).all()


def test_separated_classes_give_a_finite_line():
    """A model that errs nowhere does not become certain."""
    found = fit_calibration(np.repeat([-1.0, 1.0], 50), np.repeat([False, True], 50))

    assert 1 < found.slope < 100
    assert found.warnings == ()


@pytest.mark.parametrize("swap", [False, True])
def test_too_few_of_a_class_leave_the_scores_as_they_are_and_say_so(swap):
    """Nothing is corrected by a handful of rows, and the warning counts them."""
    is_fraud = (np.arange(1000) < MIN_FRAUDS - 1) ^ swap

    found = fit_calibration(np.random.default_rng(0).normal(size=1000), is_fraud)

    assert (found.method, found.slope, found.intercept) == ("platt", 1.0, 0.0)
    assert f"there are {MIN_FRAUDS - 1}" in found.warnings[0]


def test_scores_that_rank_backwards_are_left_as_they_are_and_it_says_so():
    """A curve that would turn the ranking round is refused."""
    rng = np.random.default_rng(0)
    is_fraud = rng.random(2000) < 0.3

    found = fit_calibration(rng.normal(size=2000) - 2 * is_fraud, is_fraud)

    assert (found.method, found.slope, found.intercept) == ("platt", 1.0, 0.0)
    assert "not more often fraud" in found.warnings[0]


def test_the_same_rows_give_the_same_curve():
    """The choice is not a matter of luck."""
    rows = drawn(steps, 5000, 4)

    assert fit_calibration(*rows) == fit_calibration(*rows)


@given(st.floats(-700, 700))
def test_sigmoid_is_exact_where_it_is_tiny(logit):
    """No digits are lost near 0."""
    expected = math.exp(logit) / (1 + math.exp(logit)) if logit < 0 else 1 / (1 + math.exp(-logit))

    assert sigmoid(np.array([logit]))[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("curve", [*CURVES, Calibration(0.123456789012345, -4.5, ("why",))])
def test_it_goes_through_json(curve):
    """A manifest gives back the same curve and the same probabilities, bit for bit."""
    back = msgspec.json.decode(msgspec.json.encode(curve), type=Calibration)
    logits = np.linspace(-9, 9, 50)

    assert back == curve
    np.testing.assert_array_equal(back.apply(logits), curve.apply(logits))
