"""History into a training set: the same engine that serves, run over a file in arrival order."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from tollgate.collection import Collection
from tollgate.dataset import Dataset, Window
from tollgate.errors import InputError
from tollgate.features import NOT_FRAUD, Arrivals, FeatureEngine
from tollgate.files import Rejected, Transactions


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
    arrivals = Arrivals(engine)
    collection = Collection(engine.plan, card, max_bytes)
    rejected: list[Rejected] = []
    for chunk in file.chunks():
        batch = chunk.batch
        assert chunk.is_fraud is not None
        assert chunk.available_us is not None
        features = arrivals.observe(batch, np.where(chunk.is_fraud, chunk.available_us, NOT_FRAUD))
        rows = np.ones(len(batch), dtype=np.bool_) if keep is None else keep.holds(batch.time_us)
        collection.add(batch, features, rows, chunk.is_fraud, chunk.available_us)
        rejected += chunk.rejected
        progress(len(batch) + len(chunk.rejected))
    dataset = collection.dataset()
    if dataset is None:
        why = f"; the first: row {rejected[0].row}: {rejected[0].error.message}" if rejected else ""
        raise InputError("no_rows", f"no row of {file.path} could be used{why}", file=str(file.path))
    return dataset, rejected
