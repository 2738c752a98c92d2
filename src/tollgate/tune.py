"""The search for better parameters under a time budget, the same for every kind of model.

Tree-structured Parzen estimators (Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization"), by Optuna.
The defaults are tried first, so a search never returns what is worse than them on the rows it judges by.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import optuna
from optuna.trial import TrialState

from tollgate.errors import ModelError, TollgateError

MAX_TRIALS = 200  # of a search, however large its budget

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial of a search.

    Attributes:
        number: From 1.
        choices: The value of each parameter, by its name.
        value: Of the objective, higher being better; None where the trial failed.
        best: The highest value so far; None where every trial failed.
        left_s: Seconds left of the budget, not below 0.
        failure: Why there is no value.
    """

    number: int
    choices: Mapping[str, Any]
    value: float | None
    best: float | None
    left_s: float
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Found(Generic[P]):
    """What a search came to.

    Attributes:
        parameters: The best ones.
        value: Of the objective there.
        best: Which trial it was.
        trials: All of them, in order.
    """

    parameters: P
    value: float
    best: Tried
    trials: tuple[Tried, ...]


def search(
    suggest: Callable[[optuna.Trial], P],
    objective: Callable[[P], float],
    defaults: Mapping[str, Any],
    *,
    budget_s: float,
    seed: int,
    max_trials: int = MAX_TRIALS,
    on_trial: Callable[[Tried], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Found[P]:
    """Return the best parameters that were found before the time was up.

    No trial is begun after that, but one that has begun is not cut short: `objective` bounds its own time. The
    defaults are tried whatever the budget. With the same seed and a budget that is not reached, the search repeats.

    Args:
        suggest: Draws parameters, by the trial's `suggest_*` methods.
        objective: What they are worth, higher being better, say the average precision on the validation part. A
            TollgateError, or a value that is not finite, means that they are no good.
        defaults: What `suggest` draws first, by the names that it uses.
        budget_s: In seconds.
        max_trials: Above 0.
        seed: Of the draws.
        on_trial: Told of each trial as it ends.
        clock: Seconds since any fixed moment.

    Raises:
        ModelError: No trial gave a value.
    """
    assert max_trials > 0
    deadline_s = clock() + budget_s
    with _quiet():
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(dict(defaults))
    trials: list[Tried] = []
    best: tuple[P, float, int] | None = None
    while not trials or (len(trials) < max_trials and clock() < deadline_s):
        trial = study.ask()
        parameters = suggest(trial)
        value, failure = _judge(objective, parameters)
        if value is None:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
            if best is None or value > best[1]:
                best = (parameters, value, len(trials))
        left_s = max(0.0, deadline_s - clock())
        reached = None if best is None else best[1]
        trials.append(Tried(len(trials) + 1, dict(trial.params), value, reached, left_s, failure))
        if on_trial is not None:
            on_trial(trials[-1])
    if best is None:
        raise ModelError(
            "no_trial",
            f"expected a value of at least one of {len(trials)} trials, but all failed; the last: {trials[-1].failure}",
        )
    return Found(best[0], best[1], trials[best[2]], tuple(trials))


def _judge(objective: Callable[[P], float], parameters: P) -> tuple[float | None, str | None]:
    try:
        value = float(objective(parameters))
    except TollgateError as error:
        return None, error.message
    if not math.isfinite(value):
        return None, f"the objective is {value}"
    return value, None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from telling of a new study on the terminal; its level belongs to the process."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
