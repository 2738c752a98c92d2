"""Labelled transactions as they are gathered, part by part, into a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tollgate.dataset import Dataset
from tollgate.errors import InputError
from tollgate.features import FeaturePlan
from tollgate.spool import Spool
from tollgate.transaction import Batch


class Collection:
    """Gathers what a model learns from."""

    def __init__(self, plan: FeaturePlan, card: str, max_bytes: int) -> None:
        """Begin with nothing.

        Args:
            plan: Of the features.
            card: The entity that stands for the card in the measures.
            max_bytes: Of features in memory; more go to a file.

        Raises:
            InputError: The schema has no entity `card`.
        """
        if card not in plan.schema.entities:
            raise InputError(
                "no_card",
                f"expected an entity '{card}' in the schema for card precision; set [evaluate] card",
                column=card,
            )
        self._plan = plan
        self._card = card
        self._spool = Spool(len(plan.names), np.float64, max_bytes)
        self._parts: list[tuple[NDArray[Any], ...]] = []

    def add(
        self,
        batch: Batch,
        features: NDArray[np.float64],
        rows: NDArray[np.bool_],
        is_fraud: NDArray[np.bool_],
        available_us: NDArray[np.int64],
    ) -> None:
        """Add the chosen rows, bool (N,), of N transactions with their features, float64 (N, F), and labels, (N,)."""
        self._spool.append(features[rows])
        amount = batch.value("amount") / self._plan.money_scale
        ids = np.asarray(batch.ids, dtype=object)
        columns = (is_fraud, available_us, batch.time_us, amount, batch.key(self._card), ids)
        self._parts.append(tuple(column[rows] for column in columns))

    def dataset(self) -> Dataset | None:
        """Return all that was added; None where that is nothing. It takes no more."""
        if not any(len(part[0]) for part in self._parts):
            return None
        is_fraud, available_us, time_us, amount, card, ids = (
            np.concatenate(column) for column in zip(*self._parts, strict=True)
        )
        plan = self._plan
        return Dataset(
            self._spool.rows(), plan.names, plan.categorical, plan.back, is_fraud, available_us, time_us, amount, card,
            ids,
        )  # fmt: skip
