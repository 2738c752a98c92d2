"""The honest baseline of every report: LightGBM on the same features, the same rows and the same split.

Its parameters are fixed and ordinary; what is tuned is only the number of trees, as for the network the number of
epochs, on the same validation part.
"""

from __future__ import annotations

from dataclasses import dataclass

import lightgbm
import numpy as np
from numpy.typing import NDArray

from tollgate.dataset import Dataset
from tollgate.model.calibration import Calibration, fit_calibration

MAX_TREES = 1000
PATIENCE_TREES = 50  # without a better validation AP

_PARAMETERS = {
    "objective": "binary",
    "metric": "average_precision",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
}


@dataclass(frozen=True, slots=True)
class Baseline:
    """Fitted trees and what is needed to ask them.

    Attributes:
        booster: The trees.
        vocabularies: For each feature the codes that it knows, rising, or None where it is a number.
        calibration: Fitted as the network's is, so that probabilities compare like with like.
        threads: That scoring may use.
    """

    booster: lightgbm.Booster
    vocabularies: tuple[NDArray[np.float64] | None, ...]
    calibration: Calibration
    threads: int

    def scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities of fraud, float64 (N,), of raw features, float64 (N, F)."""
        return self.calibration.apply(_raw(self.booster, _encode(features, self.vocabularies), self.threads))


def fit_baseline(train: Dataset, validation: Dataset, seed: int, threads: int = 1) -> Baseline:
    """Return LightGBM fitted on `train`, stopped and calibrated on `validation`.

    Args:
        train: The rows to fit.
        validation: Newer rows, to choose the number of trees and to calibrate.
        seed: Of the rows and features that each tree is shown.
        threads: How many to use.
    """
    vocabularies = tuple(
        np.unique(column[~np.isnan(column)]) if is_category else None
        for column, is_category in zip(train.features.T, train.categorical, strict=True)
    )
    columns = [place for place, codes in enumerate(vocabularies) if codes is not None]
    fitted = lightgbm.Dataset(
        _encode(train.features, vocabularies), train.is_fraud, categorical_feature=columns, free_raw_data=False
    )
    encoded = _encode(validation.features, vocabularies)
    booster = lightgbm.train(
        {**_PARAMETERS, "seed": seed, "num_threads": threads},
        fitted,
        num_boost_round=MAX_TREES,
        valid_sets=[lightgbm.Dataset(encoded, validation.is_fraud, reference=fitted)],
        callbacks=[lightgbm.early_stopping(PATIENCE_TREES, verbose=False)],
    )
    return Baseline(
        booster, vocabularies, fit_calibration(_raw(booster, encoded, threads), validation.is_fraud), threads
    )


def _encode(features: NDArray[np.float64], vocabularies: tuple[NDArray[np.float64] | None, ...]) -> NDArray[np.float64]:
    """Return `features` with 52-bit codes as small whole numbers, as LightGBM wants them; unknown is missing."""
    encoded = features.copy()
    for place, codes in enumerate(vocabularies):
        if codes is None:
            continue
        column = features[:, place]
        at = np.minimum(np.searchsorted(codes, column), max(codes.size - 1, 0))
        known = codes[at] == column if codes.size else np.zeros(column.shape, dtype=np.bool_)
        encoded[:, place] = np.where(known, at, np.nan)
    return encoded


def _raw(booster: lightgbm.Booster, encoded: NDArray[np.float64], threads: int) -> NDArray[np.float64]:
    return np.asarray(booster.predict(encoded, raw_score=True, num_threads=threads), dtype=np.float64)
