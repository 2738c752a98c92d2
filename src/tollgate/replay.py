"""History into a training set: the same engine that serves, run over a file in arrival order."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from tollgate.dataset import Dataset, Window
from tollgate.errors import InputError
from tollgate.features import NOT_FRAUD, Arrivals, FeatureEngine
from tollgate.files import Rejected, Transactions
from tollgate.spool import Spool


def replay(
    file: Transactions,
    engine: FeatureEngine,
    card: str,
    keep: Window | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
    max_bytes: int = sys.maxsize,
) -> tuple[Dataset, list[Rejected]]:
    """Return the labelled transactions of a file with their features, and the rows that could not be used.

    Args:
        file: A file or a set of them, opened with its labels.
        engine: Without history, or with the one that the file continues; it is moved on.
        card: The entity that stands for the card in the measures.
        keep: The period to return; the rest only moves the engine.
        progress: Told how many rows were read since the last call.
        max_bytes: Of features in memory; more go to a file, so that a training set may be larger than the memory.

    Raises:
        InputError: No row could be used, or the schema has no entity `card`.
    """
    plan, arrivals = engine.plan, Arrivals(engine)
    if card not in plan.schema.entities:
        raise InputError(
            "no_card", f"expected an entity '{card}' in the schema for card precision; set [evaluate] card", column=card
        )
    spool = Spool(len(plan.names), np.float64, max_bytes)
    parts = []
    rejected: list[Rejected] = []
    for chunk in file.chunks():
        batch = chunk.batch
        assert chunk.is_fraud is not None
        assert chunk.available_us is not None
        features = arrivals.observe(batch, np.where(chunk.is_fraud, chunk.available_us, NOT_FRAUD))
        rows = np.ones(len(batch), dtype=np.bool_) if keep is None else keep.holds(batch.time_us)
        amount = batch.value("amount") / plan.money_scale
        spool.append(features[rows])
        parts.append(
            (
                chunk.is_fraud[rows],
                chunk.available_us[rows],
                batch.time_us[rows],
                amount[rows],
                batch.key(card)[rows],
                np.asarray(batch.ids, dtype=object)[rows],
            )
        )
        rejected += chunk.rejected
        progress(len(batch) + len(chunk.rejected))
    is_fraud, available_us, time_us, amounts, cards, ids = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    if not len(ids):
        why = f"; the first: row {rejected[0].row}: {rejected[0].error.message}" if rejected else ""
        raise InputError("no_rows", f"no row of {file.path} could be used{why}", file=str(file.path))
    dataset = Dataset(
        spool.rows(),
        plan.names,
        plan.categorical,
        plan.back,
        is_fraud,
        available_us,
        time_us,
        amounts,
        cards,
        ids,
    )
    return dataset, rejected
