"""A model of any kind, fitted on one split: what a report compares and a bundle holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tollgate.baseline import DEFAULTS, Baseline, fit_baseline
from tollgate.bundle import MODEL, WEIGHTS
from tollgate.config import TABULAR_MODELS, TrainConfig
from tollgate.dataset import Split
from tollgate.model.calibration import Calibration
from tollgate.model.export import export_onnx
from tollgate.model.prediction import pool
from tollgate.model.trees import export_trees
from tollgate.model.weights import write_weights
from tollgate.train.descent import Epoch
from tollgate.train.fit import Circumstances, Trained, fit
from tollgate.tune import Tried

LIGHTGBM = "lightgbm"

_TITLES = {"mlp": "MLP", "tabm": "TabM", "sequence": "Sequence", LIGHTGBM: "LightGBM"}

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TreeSearch:
    """How the parameters of trees are come by.

    Attributes:
        budget_s: For how long they are searched, in seconds; 0 takes those given.
        on_trial: Told of each trial as it ends.
        parameters: Without a budget.
    """

    budget_s: float = 0.0
    on_trial: Callable[[Tried], None] | None = None
    parameters: Mapping[str, Any] = field(default_factory=lambda: DEFAULTS)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fitted model.

    Attributes:
        name: As a reader knows it.
        members: Logits of its K members, float64 (N, K), of raw features, float64 (N, F).
        calibration: From pooled logits to probabilities.
        checked: Calibrated probabilities of the validation rows, float64 (V,), before it was fitted on them.
        files: The files of its bundle, of a sample of raw features to compare the export on.
        epochs: Every epoch of a network; none of trees.
        best: Number of the epoch that was best.
        warnings: Sentences that a reader should know.
        parameters: Of trees, as they were found or given.
    """

    name: str
    members: Callable[[Floats], Floats]
    calibration: Calibration
    checked: Floats
    files: Callable[[Floats], Mapping[str, bytes]]
    epochs: Sequence[Epoch]
    best: int
    warnings: tuple[str, ...]
    parameters: Mapping[str, Any] | None = None

    def scores(self, features: Floats) -> Floats:
        """Return calibrated probabilities of fraud, float64 (N,), of raw features, float64 (N, F)."""
        return self.calibration.apply(pool(self.members(features)))


def title_of(model: str) -> str:
    """Return a model's name as a reader knows it."""
    return _TITLES.get(model, model.rpartition(":")[2])


def columns_of(model: str, back: Sequence[int]) -> NDArray[np.bool_]:
    """Return which of the F features a model reads, bool (F,): lags are for networks that read sequences."""
    steps = np.asarray(back)
    return steps == 0 if model in TABULAR_MODELS else np.ones(steps.shape, dtype=np.bool_)


def fit_candidate(
    parts: Split, config: TrainConfig, given: Circumstances | None = None, trees: TreeSearch | None = None
) -> Candidate:
    """Return the model that `config` names, fitted on one split.

    Args:
        parts: With the features that the model reads.
        config: Which model, its sizes and rates.
        given: What a network is trained with.
        trees: The parameters of trees, or for how long to search them.

    Raises:
        ModelError: The data cannot be learned from, or training failed.
        ConfigError: There is no such model.
    """
    if config.model == LIGHTGBM:
        trees = trees or TreeSearch()
        baseline = fit_baseline(
            parts.train,
            parts.validation,
            config.seed,
            config.threads,
            trees.budget_s,
            trees.on_trial,
            parameters=trees.parameters,
        )
        return _trees(baseline)
    return _network(fit(parts.train, parts.validation, config, given), config.model)


def _network(trained: Trained, model: str) -> Candidate:
    def files(sample: Floats) -> Mapping[str, bytes]:
        return {
            MODEL: export_onnx(trained.network, sample),
            WEIGHTS: write_weights(trained.network),
        }

    return Candidate(
        name=title_of(model),
        members=trained.members,
        calibration=trained.calibration,
        checked=trained.checked,
        files=files,
        epochs=trained.epochs,
        best=trained.best,
        warnings=trained.warnings,
    )


def _trees(baseline: Baseline) -> Candidate:
    return Candidate(
        name=title_of(LIGHTGBM),
        members=lambda features: baseline.logits(features)[:, None],
        calibration=baseline.calibration,
        checked=baseline.checked,
        files=lambda sample: {MODEL: export_trees(baseline, sample)},
        epochs=(),
        best=0,
        warnings=baseline.warnings,
        parameters=baseline.parameters,
    )
