"""Whether anything can be learned from some rows: asked before any model is fitted, trees as networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tollgate.dataset import Dataset
from tollgate.errors import ModelError


def inspect(train: Dataset, validation: Dataset) -> list[str]:
    """Return warnings about the training rows, as sentences.

    Raises:
        ModelError: Nothing can be learned from them.
    """
    for name, part in (("training", train), ("validation", validation)):
        if part.frauds in (0, len(part)):
            raise ModelError(
                "one_class",
                f"expected fraud and good payments in the {name} rows, but {part.frauds} of {len(part)} are fraud; "
                "check the labels, or give more data",
            )
    columns = zip(train.names, train.features.T, strict=True)
    useless = [(name, what) for name, column in columns if (what := _flat(column))]
    if len(useless) == len(train.names):
        raise ModelError(
            "nothing_to_learn",
            f"expected features that vary, but all {len(train.names)} are missing or constant on the training rows",
        )
    return [f"feature '{name}' {what} on all training rows; the model ignores it" for name, what in useless]


def _flat(column: NDArray[np.float64]) -> str | None:
    """Return what is wrong with a feature that never varies."""
    missing = np.isnan(column)
    if missing.all():
        return "is missing"
    return "is the same" if not missing.any() and (column == column[0]).all() else None
