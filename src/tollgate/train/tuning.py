"""The search for a network's parameters: which are searched, and in what range."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import optuna

from tollgate import metrics
from tollgate.config import TrainConfig
from tollgate.dataset import Split
from tollgate.train.fit import fit
from tollgate.tune import Tried, search

_HIDDEN = ((64, 32), (128, 64), (256, 128), (128, 128, 64))
_BATCHES = (256, 512, 1024)
_DROPOUT = (0.0, 0.5)
_LEARNING_RATE = (2e-4, 1e-2)
_WEIGHT_DECAY = (1e-6, 1e-2)


def tune(
    parts: Split, config: TrainConfig, budget_s: float, on_trial: Callable[[Tried], None] | None = None
) -> TrainConfig:
    """Return `config` with the parameters that gave the best validation AP before the time was up.

    The configuration itself is the first trial. The test rows are not looked at.

    Args:
        parts: The rows to fit and to judge by.
        config: Of a network.
        budget_s: In seconds; the trial that the end of the time meets is finished.
        on_trial: Told of each trial as it ends.

    Raises:
        ModelError: Every trial failed.
    """
    hidden = {"-".join(map(str, sizes)): sizes for sizes in {*_HIDDEN, config.hidden}}

    def suggest(trial: optuna.Trial) -> TrainConfig:
        return msgspec.structs.replace(
            config,
            hidden=hidden[trial.suggest_categorical("hidden", sorted(hidden))],
            dropout=trial.suggest_float("dropout", *_DROPOUT),
            learning_rate=trial.suggest_float("learning_rate", *_LEARNING_RATE, log=True),
            weight_decay=trial.suggest_float("weight_decay", *_WEIGHT_DECAY, log=True),
            batch_size=trial.suggest_categorical("batch_size", sorted({*_BATCHES, config.batch_size})),
            refit=False,
        )

    def objective(tried: TrainConfig) -> float:
        return metrics.average_precision(parts.validation.is_fraud, fit(parts.train, parts.validation, tried).checked)

    defaults = {
        "hidden": "-".join(map(str, config.hidden)),
        "dropout": float(np.clip(config.dropout, *_DROPOUT)),
        "learning_rate": float(np.clip(config.learning_rate, *_LEARNING_RATE)),
        "weight_decay": float(np.clip(config.weight_decay, *_WEIGHT_DECAY)),
        "batch_size": config.batch_size,
    }
    found = search(suggest, objective, defaults, budget_s=budget_s, seed=config.seed, on_trial=on_trial)
    return msgspec.structs.replace(found.parameters, refit=config.refit)
