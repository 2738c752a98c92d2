"""The search for a network's parameters: which are searched, and in what range."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import optuna

from tollgate import metrics
from tollgate.config import TrainConfig
from tollgate.dataset import Split
from tollgate.train.fit import fit
from tollgate.tune import Tried, search

MAX_TRIALS = 200

_SIZES = {"64-32": (64, 32), "128-64": (128, 64), "256-128": (256, 128), "128-128-64": (128, 128, 64)}


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
    names = {sizes: name for name, sizes in _SIZES.items()}
    given = "-".join(map(str, config.hidden))
    sizes = {**_SIZES, names.get(config.hidden, given): config.hidden}

    def suggest(trial: optuna.Trial) -> TrainConfig:
        return msgspec.structs.replace(
            config,
            hidden=sizes[trial.suggest_categorical("hidden", sorted(sizes))],
            dropout=trial.suggest_float("dropout", 0.0, 0.5),
            learning_rate=trial.suggest_float("learning_rate", 2e-4, 1e-2, log=True),
            weight_decay=trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
            batch_size=trial.suggest_categorical("batch_size", sorted({256, 512, 1024, config.batch_size})),
            refit=False,
        )

    def objective(tried: TrainConfig) -> float:
        return metrics.average_precision(parts.validation.is_fraud, fit(parts.train, parts.validation, tried).checked)

    defaults = {
        "hidden": names.get(config.hidden, given),
        "dropout": min(config.dropout, 0.5),
        "learning_rate": min(max(config.learning_rate, 2e-4), 1e-2),
        "weight_decay": min(max(config.weight_decay, 1e-6), 1e-2),
        "batch_size": config.batch_size,
    }
    found = search(
        suggest, objective, defaults, budget_s=budget_s, max_trials=MAX_TRIALS, seed=config.seed, on_trial=on_trial
    )
    return msgspec.structs.replace(found.parameters, refit=config.refit)
