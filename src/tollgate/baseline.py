"""The honest baseline of every report: LightGBM on the same features, the same rows and the same split.

Without a budget its parameters are ordinary and fixed; with one they are searched for, as a network's are. Either
way the number of trees is the one with the best average precision on the validation part.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import optuna
from numpy.typing import NDArray

from tollgate import metrics
from tollgate.dataset import Dataset
from tollgate.inspection import inspect
from tollgate.model.calibration import Calibration, fit_calibration
from tollgate.model.trees import Trees, encode, fit_vocabularies
from tollgate.tune import MAX_TRIALS, Found, Tried, search

MAX_TREES = 1000
PATIENCE_TREES = 50  # without a better validation AP

_FIXED = {
    "objective": "binary",
    "metric": "average_precision",
    "bagging_freq": 1,
    "feature_pre_filter": False,  # one binned data set serves every min_data_in_leaf
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
}
DEFAULTS = {
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "lambda_l2": 1.0,
    "max_bin": 255,
    "scale_pos_weight": 1.0,
}
_BINS = (63, 127, 255, 511)  # few sizes, for each has its own copy of the rows
_MAX_WEIGHT = 100.0  # of a fraud, in good payments


@dataclass(frozen=True, slots=True)
class Baseline(Trees):
    """Fitted trees with their calibration.

    Attributes:
        calibration: Fitted as the network's is, so that probabilities compare like with like.
        checked: Calibrated probabilities of the validation rows, float64 (V,), of the trees that had not seen them.
        parameters: LightGBM's, those that are searched for.
        rounds: How many trees it was given.
        validation_ap: Average precision on the validation rows, of the trees that had not seen them.
        trials: Of the search, in order; the first is of the defaults. Empty without a budget.
        warnings: What a reader of the report should know, as sentences.
    """

    calibration: Calibration
    checked: NDArray[np.float64]
    parameters: Mapping[str, Any]
    rounds: int
    validation_ap: float
    trials: tuple[Tried, ...]
    warnings: tuple[str, ...]

    def scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities of fraud, float64 (N,), of raw features, float64 (N, F)."""
        return self.calibration.apply(self.logits(features))


def fit_baseline(
    train: Dataset,
    validation: Dataset,
    seed: int,
    threads: int = 1,
    budget_s: float = 0.0,
    on_trial: Callable[[Tried], None] | None = None,
    *,
    parameters: Mapping[str, Any] = DEFAULTS,
    refit: bool = True,
    max_trials: int = MAX_TRIALS,
    clock: Callable[[], float] = time.monotonic,
) -> Baseline:
    """Return LightGBM fitted on `train`, stopped, calibrated and, with a budget, tuned on `validation`.

    Args:
        train: The rows to fit.
        validation: Newer rows, to choose parameters and the number of trees, and to calibrate.
        seed: Of the rows and features that each tree is shown, and of the search.
        threads: How many to use.
        budget_s: Seconds that the search may take; 0 keeps the defaults. The trial that the end of the time meets
            stops with the trees that it has; only the defaults' trial is always grown out. The refit comes after.
        on_trial: Told of each trial as it ends.
        parameters: To use without a budget.
        refit: Whether to fit once more on all rows, with as many trees, for the newest rows say most of what comes.
            The calibration is of the trees before: those after have seen the rows that it would be fitted on.
        max_trials: Of the search.
        clock: Seconds since any fixed moment.

    Raises:
        ModelError: Nothing can be learned from the rows, such as where all are of one class.
    """
    warnings = inspect(train, validation)
    rows = _Rows(train, validation, seed, threads)
    chosen: dict[str, Any] = dict(parameters)
    trials: tuple[Tried, ...] = ()
    if budget_s > 0:
        booster, found = _tuned(rows, budget_s, max_trials, on_trial, clock)
        chosen, trials = found.parameters, found.trials
    else:
        booster = rows.fit(chosen, _never)
    logits = rows.validate(booster)
    rounds = booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration()
    calibration = fit_calibration(logits, validation.is_fraud)
    trees = rows.refit(chosen, rounds) if refit else Trees(booster, rows.vocabularies, threads)
    return Baseline(
        booster=trees.booster,
        vocabularies=trees.vocabularies,
        threads=threads,
        calibration=calibration,
        checked=calibration.apply(logits),
        parameters=chosen,
        rounds=rounds,
        validation_ap=metrics.average_precision(validation.is_fraud, logits),
        trials=trials,
        warnings=(*warnings, *calibration.warnings),
    )


class _Rows:
    """The training and validation rows as LightGBM wants them, binned once for each number of bins."""

    def __init__(self, train: Dataset, validation: Dataset, seed: int, threads: int) -> None:
        self.vocabularies = fit_vocabularies(train.features, train.categorical)
        self._train, self._validation = train, validation
        self._encoded = [encode(part.features, self.vocabularies) for part in (train, validation)]
        self.is_fraud = validation.is_fraud
        self.imbalance = min(_MAX_WEIGHT, max(1.0, (len(train) - train.frauds) / train.frauds))
        self.seed = seed
        self._fixed = {**_FIXED, "seed": seed, "num_threads": threads}
        self._threads = threads
        self._binned: dict[int, tuple[lightgbm.Dataset, lightgbm.Dataset]] = {}

    def fit(self, parameters: dict[str, Any], is_late: Callable[[], bool]) -> lightgbm.Booster:
        """Return trees, as many as validate best of those that were grown before it was late."""
        fitted, validating = self._bin(parameters)
        history: dict[str, dict[str, list[float]]] = {}
        return lightgbm.train(
            {**self._fixed, **parameters},
            fitted,
            num_boost_round=MAX_TREES,
            valid_sets=[validating],
            callbacks=[
                lightgbm.record_evaluation(history),
                lightgbm.early_stopping(PATIENCE_TREES, verbose=False),
                _Deadline(history, is_late),
            ],
        )

    def validate(self, booster: lightgbm.Booster) -> NDArray[np.float64]:
        """Return the logits of the validation rows, float64 (N,)."""
        logits = booster.predict(self._encoded[1], raw_score=True, num_threads=self._threads)
        return np.asarray(logits, dtype=np.float64)

    def refit(self, parameters: dict[str, Any], rounds: int) -> Trees:
        """Return `rounds` trees grown on all rows, the validation's included.

        Not more of them, as is customary for more rows: the calibration was fitted on the logits of as many, and
        every further tree stretches them.
        """
        features = np.concatenate((self._train.features, self._validation.features))
        is_fraud = np.concatenate((self._train.is_fraud, self._validation.is_fraud))
        vocabularies = fit_vocabularies(features, self._train.categorical)
        everything = self._dataset(encode(features, vocabularies), is_fraud, parameters)
        booster = lightgbm.train({**self._fixed, **parameters}, everything, num_boost_round=rounds)
        return Trees(booster, vocabularies, self._threads)

    def _bin(self, parameters: dict[str, Any]) -> tuple[lightgbm.Dataset, lightgbm.Dataset]:
        bins: int = parameters["max_bin"]
        if bins not in self._binned:
            fitted = self._dataset(self._encoded[0], self._train.is_fraud, parameters)
            validating = lightgbm.Dataset(self._encoded[1], self._validation.is_fraud, reference=fitted)
            self._binned[bins] = fitted, validating
        return self._binned[bins]

    def _dataset(
        self, encoded: NDArray[np.float64], is_fraud: NDArray[np.bool_], parameters: dict[str, Any]
    ) -> lightgbm.Dataset:
        columns = [place for place, codes in enumerate(self.vocabularies) if codes is not None]
        return lightgbm.Dataset(
            encoded, is_fraud, categorical_feature=columns, params={**self._fixed, "max_bin": parameters["max_bin"]}
        )


class _Deadline:
    """Stops the growing of trees when it is late, and keeps as many of them as validated best until then."""

    def __init__(self, history: dict[str, dict[str, list[float]]], is_late: Callable[[], bool]) -> None:
        # Called after LightGBM's own, which fill the history. It looks for this among the instance's attributes.
        self.order = 100
        self._history, self._is_late = history, is_late

    def __call__(self, _: lightgbm.callback.CallbackEnv) -> None:
        if self._is_late():
            (metric,) = self._history.values()
            (values,) = metric.values()
            raise lightgbm.callback.EarlyStopException(int(np.argmax(values)), [])


def _tuned(
    rows: _Rows,
    budget_s: float,
    max_trials: int,
    on_trial: Callable[[Tried], None] | None,
    clock: Callable[[], float],
) -> tuple[lightgbm.Booster, Found[dict[str, Any]]]:
    """Return the trees that validate best of those of a search, and the search."""
    deadline_s = clock() + budget_s
    kept: list[tuple[float, lightgbm.Booster]] = []

    def objective(parameters: dict[str, Any]) -> float:
        # The defaults, which come first, are fitted to the end: nothing that is returned may be worse.
        booster = rows.fit(parameters, (lambda: clock() >= deadline_s) if kept else _never)
        ap = metrics.average_precision(rows.is_fraud, rows.validate(booster))
        if not kept or ap > kept[0][0]:
            kept[:] = [(ap, booster)]
        return ap

    found = search(
        functools.partial(_suggest, heaviest=rows.imbalance),
        objective,
        DEFAULTS,
        budget_s=budget_s,
        max_trials=max_trials,
        seed=rows.seed,
        on_trial=on_trial,
        clock=clock,
    )
    return kept[0][1], found


def _never() -> bool:
    return False


def _suggest(trial: optuna.Trial, heaviest: float) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 7, 255, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 500, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.3, 1.0),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 1e-3, 100.0, log=True),
        "max_bin": trial.suggest_categorical("max_bin", _BINS),
        # From leaving the classes as they are to giving both the same weight.
        "scale_pos_weight": trial.suggest_float("scale_pos_weight", 1.0, heaviest, log=True),
    }
