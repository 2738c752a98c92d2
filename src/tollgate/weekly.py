"""A model trained anew for each week of a history, on what was known when the week began. Needs the extra `train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tollgate.config import Config
from tollgate.dataset import Dataset, Split, Window
from tollgate.errors import InputError
from tollgate.features import Arrivals, FeatureEngine, FeaturePlan
from tollgate.past import Past
from tollgate.prequential import WEEK_US, Verdicts, joined, verdicts
from tollgate.spool import Spool
from tollgate.thresholds import choose_thresholds
from tollgate.train import columns_of, fit_candidate


def decide_retrained(
    history: Iterator[Past],
    plan: FeaturePlan,
    config: Config,
    since_us: int,
    progress: Callable[[int], None] = lambda _rows: None,
    training: Callable[[int], None] = lambda _start_us: None,
) -> Verdicts:
    """Return what models that are trained anew each week say of that week's payments.

    Thresholds are chosen anew with each, as the policy of the configuration asks for.

    Args:
        history: In order of arrival; its features are all kept, beyond `[train] memory_gb` in a file.
        plan: The features.
        config: The model, how thresholds are chosen, the label delay, the share that validates.
        since_us: Where the first week begins, microseconds since 1970-01-01 UTC.
        progress: Told how many rows were read since the last call.
        training: Told of each week, by its beginning, before its model is trained.

    Raises:
        InputError: There is too little to train on before a week, or no payment to decide.
        ModelError: A training failed.
    """
    dataset, rows = _gather(history, plan, config, progress)
    parts = []
    newest_us = int(rows.time_us.max(initial=0))
    for start_us in range(since_us, newest_us + 1, WEEK_US):
        week = (rows.time_us >= start_us) & (rows.time_us < start_us + WEEK_US)
        if not week.any():
            continue
        training(start_us)
        split = known_at(dataset, start_us, week, config.label.delay_us, config.split.validation)
        candidate = fit_candidate(split, config.train)
        checked = split.validation
        policy = choose_thresholds(
            checked.is_fraud, candidate.checked, checked.amount, checked.time_us, config.policy
        ).policy
        scores = candidate.scores(split.test.features)
        levels = (scores >= policy.review).astype(np.int8) + (scores >= policy.block).astype(np.int8)
        parts.append(rows.take(week)._replace(levels=levels))
    return joined(parts)


def known_at(dataset: Dataset, start_us: int, week: NDArray[np.bool_], delay_us: int, validation: float) -> Split:
    """Return what a training may see at a moment, and the week that begins then.

    Payments of the last label delay are left out even where their label has come: frauds are known sooner than good
    payments, and a model would learn that what is recent is fraud.

    Args:
        dataset: All rows, N.
        start_us: When the week begins, microseconds since 1970-01-01 UTC.
        week: Which rows are in it, bool (N,).
        delay_us: How long after a transaction its label has come.
        validation: The newest share of the rows.

    Raises:
        InputError: One of the parts holds no fraud, or no good payment.
    """
    end_us = start_us - delay_us
    fitted = dataset.take((dataset.time_us < end_us) & (dataset.available_us <= start_us))
    cut_us = float(np.quantile(fitted.time_us, 1 - validation)) if len(fitted) else 0.0
    train, newest = fitted.take(fitted.time_us < cut_us), fitted.take(fitted.time_us >= cut_us)
    for name, part in (("train", train), ("validate", newest)):
        if part.frauds in (0, len(part)):
            raise InputError(
                "too_little",
                f"expected frauds and good payments to {name} on before {np.datetime64(start_us, 'us')}, but got "
                f"{part.frauds} frauds among {len(part)} payments; begin later with --since",
            )
    nothing = np.zeros(int(np.count_nonzero(week)), dtype=np.bool_)
    first_us = int(fitted.time_us.min())
    periods = Window(first_us, end_us), Window(start_us, start_us + WEEK_US)
    return Split(train, newest, dataset.take(week), nothing, nothing, *periods, 0)


def _gather(
    history: Iterator[Past], plan: FeaturePlan, config: Config, progress: Callable[[int], None]
) -> tuple[Dataset, Verdicts]:
    """Return a history with the features that the model reads; nothing is decided yet."""
    plan = plan.select(columns_of(config.train.model, plan.back))
    arrivals = Arrivals(FeatureEngine(plan))
    spool = Spool(len(plan.names), np.float64, config.train.memory_bytes)
    parts: list[Verdicts] = []
    ids: list[str] = []
    for one in history:
        spool.append(arrivals.observe(one.batch, one.fraud_us))
        parts.append(verdicts(one, np.zeros(len(one.batch), dtype=np.int8), plan.money_scale))
        ids += one.batch.ids
        progress(len(one.batch) + len(one.rejected))
    rows = joined(parts)
    dataset = Dataset(
        spool.rows(),
        plan.names,
        plan.categorical,
        plan.back,
        rows.is_fraud,
        rows.available_us,
        rows.time_us,
        rows.amount,
        np.zeros(len(ids), dtype=np.uint64),  # no measure by card is taken
        np.array(ids, dtype=object),
    )
    return dataset, rows
