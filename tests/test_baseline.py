import itertools
from dataclasses import replace

import numpy as np
import pytest

from learning import payments
from tollgate import metrics
from tollgate.baseline import fit_baseline
from tollgate.errors import ModelError
from tollgate.model.calibration import fit_calibration
from tollgate.model.trees import Trees, export_trees

TRAIN, VALIDATION, TEST = payments(1500, seed=0), payments(600, seed=1), payments(600, seed=2)


def noisy(part, seed):
    """The same rows with some labels turned, so that no parameters are perfect."""
    turned = np.random.default_rng(seed).random(len(part)) < 0.05
    return replace(part, is_fraud=part.is_fraud ^ turned)


@pytest.fixture(scope="module")
def plain():
    return fit_baseline(TRAIN, VALIDATION, seed=7)


def test_the_baseline_ranks_fraud_above_good_payments(plain):
    assert metrics.average_precision(TEST.is_fraud, plain.scores(TEST.features)) > 0.9
    assert plain.trials == ()


def test_scores_are_the_calibrated_logits(plain):
    logits = plain.logits(TEST.features)

    assert logits.dtype == np.float64
    assert np.array_equal(plain.scores(TEST.features), plain.calibration.apply(logits))


def test_it_is_calibrated_and_checked_by_trees_that_had_not_seen_the_validation_rows(plain):
    unseen = fit_baseline(TRAIN, VALIDATION, seed=7, refit=False)
    logits = unseen.logits(VALIDATION.features)

    assert plain.calibration == unseen.calibration == fit_calibration(logits, VALIDATION.is_fraud)
    assert np.array_equal(plain.checked, unseen.scores(VALIDATION.features))
    assert plain.validation_ap == metrics.average_precision(VALIDATION.is_fraud, logits)
    assert not np.array_equal(plain.logits(VALIDATION.features), logits)


def test_the_refit_learns_what_only_the_newest_rows_show():
    new_shop = 2.0**51 + 77
    features = VALIDATION.features.copy()
    features[::3, 3] = new_shop
    is_fraud = VALIDATION.is_fraud.copy()
    is_fraud[::3] = True
    newest = replace(VALIDATION, features=features, is_fraud=is_fraud)
    asked = TEST.features.copy()
    asked[:, 3] = new_shop

    first, again = (fit_baseline(TRAIN, newest, seed=7, refit=refit) for refit in (False, True))

    assert again.logits(asked).mean() > first.logits(asked).mean() + 1.0
    assert again.booster.current_iteration() == again.rounds == first.rounds


def test_tuning_is_never_worse_on_validation_than_the_defaults_and_repeats():
    train, validation = noisy(TRAIN, 3), noisy(VALIDATION, 4)
    told = []
    plain = fit_baseline(train, validation, seed=7)
    first, again = (
        fit_baseline(train, validation, 7, budget_s=1.0, max_trials=4, on_trial=told.append, clock=lambda: 0.0)
        for _ in range(2)
    )

    assert first.trials == again.trials == tuple(told[:4])
    assert first.trials[0].value == plain.validation_ap
    assert first.validation_ap == max(trial.value for trial in first.trials)
    assert np.array_equal(first.scores(TEST.features), again.scores(TEST.features))
    best = next(trial for trial in first.trials if trial.value == first.validation_ap)
    assert dict(first.parameters) == dict(best.choices)


def test_a_trial_that_the_end_of_the_time_meets_stops_with_the_trees_it_has():
    ticks = itertools.count()
    baseline = fit_baseline(
        noisy(TRAIN, 3), noisy(VALIDATION, 4), seed=7, budget_s=10.0, clock=lambda: float(next(ticks))
    )
    whole = fit_baseline(noisy(TRAIN, 3), noisy(VALIDATION, 4), seed=7)

    assert len(baseline.trials) == 2  # a second passes for each tree of the second
    assert baseline.trials[0].value == whole.validation_ap
    assert baseline.trials[1].value is not None


@pytest.mark.parametrize("label", [False, True])
@pytest.mark.parametrize("name", ["training", "validation"])
def test_rows_of_one_class_are_refused(name, label):
    parts = {"training": TRAIN, "validation": VALIDATION}
    parts[name] = replace(parts[name], is_fraud=np.full(len(parts[name]), label))

    with pytest.raises(ModelError, match=f"good payments in the {name} rows") as caught:
        fit_baseline(parts["training"], parts["validation"], seed=7)
    assert caught.value.code == "one_class"


def test_a_baseline_is_exported_as_it_is(plain):
    assert export_trees(plain, TEST.features) == export_trees(
        Trees(plain.booster, plain.vocabularies, 1), TEST.features
    )


def test_features_that_say_nothing_are_named_and_if_all_are_such_it_is_refused():
    """Trees would make a model of nothing without a word."""
    still = TRAIN.features.copy()
    still[:, 0] = 3.0

    assert "feature 'amount' is the same" in fit_baseline(replace(TRAIN, features=still), VALIDATION, 7).warnings[0]
    with pytest.raises(ModelError, match="all 4 are missing or constant"):
        fit_baseline(replace(TRAIN, features=np.ones_like(still)), VALIDATION, seed=7)


@pytest.mark.parametrize("late_at", range(1, 12))
def test_a_search_ends_well_whenever_its_time_is_up(late_at):
    """Also between the first tree of a trial and the next: what it has by then is judged."""
    asked = itertools.count()

    baseline = fit_baseline(
        TRAIN, VALIDATION, seed=7, budget_s=1.0, max_trials=3, clock=lambda: float(next(asked) >= late_at)
    )

    assert 1 <= len(baseline.trials) <= 3
    assert all(trial.value is not None for trial in baseline.trials)
    assert baseline.validation_ap >= baseline.trials[0].value
