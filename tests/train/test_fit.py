from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from learning import QUICK, SHOPS, payments
from tollgate import metrics
from tollgate.baseline import fit_baseline
from tollgate.errors import ModelError
from tollgate.train import Circumstances, fit, score


@pytest.fixture(scope="module")
def parts():
    return payments(6000, seed=1), payments(3000, seed=2), payments(3000, seed=3)


@pytest.fixture(scope="module")
def trained(parts):
    return fit(parts[0], parts[1], QUICK)


def test_it_finds_the_fraud_in_rows_that_it_never_saw(parts, trained):
    test = parts[2]

    assert metrics.average_precision(test.is_fraud, trained.scores(test.features)) > 0.95


def test_a_threshold_on_an_amount_stays_sharp(parts, trained):
    near = np.tile([0.0, 2.0, 600.0, SHOPS[0]], (2, 1))
    near[:, 0] = 150.0, 260.0  # fraud begins at 200

    low, high = trained.scores(near)

    assert low < 0.1
    assert high > 0.9


def test_probabilities_are_calibrated_at_the_true_prevalence(parts, trained):
    assert trained.checked.mean() == pytest.approx(parts[1].is_fraud.mean(), rel=0.02)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(parts, trained):
    again = fit(parts[0], parts[1], QUICK)
    other = fit(parts[0], parts[1], msgspec.structs.replace(QUICK, seed=8))

    for name, tensor in trained.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name
    assert again.epochs == trained.epochs
    assert not torch.equal(trained.network.body.head.weight, other.network.body.head.weight)


def test_the_random_state_and_the_threads_of_the_caller_are_left_alone(parts):
    torch.manual_seed(1)
    before, threads = torch.get_rng_state(), torch.get_num_threads()

    fit(parts[0], parts[1], msgspec.structs.replace(QUICK, max_epochs=1, threads=threads + 1))

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_without_a_second_fit_the_weights_are_those_of_the_best_epoch(parts):
    """What is kept is what was best on the validation rows, not what came last."""
    trained = fit(parts[0], parts[1], msgspec.structs.replace(QUICK, refit=False))
    best = trained.epochs[trained.best - 1]
    found = metrics.average_precision(parts[1].is_fraud, trained.scores(parts[1].features))

    assert best.is_best
    assert best.validation_ap == max(epoch.validation_ap for epoch in trained.epochs)
    assert found == pytest.approx(best.validation_ap, abs=1e-9)


def test_it_stops_when_patience_ends_and_tells_of_every_epoch(parts):
    told = []
    config = msgspec.structs.replace(QUICK, max_epochs=40, patience=2, learning_rate=0.03, refit=False)

    result = fit(parts[0], parts[1], config, Circumstances(on_epoch=told.append))

    assert tuple(told) == result.epochs
    assert [epoch.number for epoch in told] == list(range(1, len(told) + 1))
    assert len(told) == min(40, result.best + 2)
    assert len(told) < 40


def test_features_that_say_nothing_are_named_and_do_no_harm(parts):
    def spoil(part):
        features = np.column_stack((part.features, np.full(len(part), np.nan), np.full(len(part), 3.0)))
        return replace(part, features=features, names=(*part.names, "empty", "still"), categorical=(False, False, False, True, False, False), back=(0,) * 6)  # fmt: skip

    result = fit(spoil(parts[0]), spoil(parts[1]), QUICK)

    assert [warning.split("'")[1] for warning in result.warnings] == ["empty", "still"]
    probe = spoil(parts[2]).features[:50]
    changed = probe.copy()
    changed[:, 5] = 1e9
    assert np.array_equal(score(result.network, probe), score(result.network, changed))


@pytest.mark.parametrize("value", [False, True])
def test_one_class_only_is_refused(parts, value):
    with pytest.raises(ModelError, match="training rows") as caught:
        fit(replace(parts[0], is_fraud=np.full(6000, value)), parts[1], QUICK)

    assert caught.value.code == "one_class"


def test_features_that_all_say_nothing_are_refused(parts):
    blank = replace(parts[0], features=np.tile([1.0, 2.0, np.nan, SHOPS[0]], (6000, 1)))

    with pytest.raises(ModelError, match="all 4 are missing or constant"):
        fit(blank, parts[1], QUICK)


def test_a_training_that_diverges_is_refused(parts):
    with pytest.raises(ModelError, match="learning_rate"):
        fit(parts[0], parts[1], msgspec.structs.replace(QUICK, learning_rate=1e30))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_refused(parts):
    with pytest.raises(ModelError, match="device = 'auto'"):
        fit(parts[0], parts[1], msgspec.structs.replace(QUICK, device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_learns_as_well_on_a_gpu(parts):
    result = fit(parts[0], parts[1], msgspec.structs.replace(QUICK, device="cuda"))

    assert metrics.average_precision(parts[2].is_fraud, result.scores(parts[2].features)) > 0.95


def test_the_baseline_learns_too_and_the_same_each_time(parts):
    first, again = (fit_baseline(parts[0], parts[1], seed=7) for _ in range(2))
    scores = first.scores(parts[2].features)

    assert metrics.average_precision(parts[2].is_fraud, scores) > 0.95
    assert ((scores >= 0) & (scores <= 1)).all()
    assert np.array_equal(scores, again.scores(parts[2].features))


def test_to_the_baseline_an_unknown_category_is_a_missing_one(parts):
    baseline = fit_baseline(parts[0], parts[1], seed=7)
    unknown, missing = parts[2].features.copy(), parts[2].features.copy()
    unknown[:, 3], missing[:, 3] = 2.0**50, np.nan

    assert np.array_equal(baseline.scores(unknown), baseline.scores(missing))
    assert not np.array_equal(baseline.scores(missing), baseline.scores(parts[2].features))
