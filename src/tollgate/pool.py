"""The training pool: all that the ledger holds, with features as they were when each transaction came, and labels.

Nothing else is needed to train again: no export, no feature store, no join.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate.dataset import Dataset
from tollgate.decision import Outcome
from tollgate.errors import InputError
from tollgate.features import FeaturePlan
from tollgate.ledger import Ledger, Verdict
from tollgate.recovery import Recovery
from tollgate.spool import Spool
from tollgate.transaction import Batch

Progress = Callable[[int, int], None]


class Pool(NamedTuple):
    """N transactions in order of arrival, and how they were decided.

    Attributes:
        dataset: With a label for each: what is known of it, or that it is good since nobody has complained for long
            enough.
        scores: With which each was decided, float64 (N,); NaN where it was not decided here, or without the model.
        sources: Who gave the label, object (N,) of texts; empty where nobody did.
        censored: Which were blocked and have no label, bool (N,): what they would have become, nobody knows.
    """

    dataset: Dataset
    scores: NDArray[np.float64]
    sources: NDArray[np.object_]
    censored: NDArray[np.bool_]


def training_pool(
    recovery: Recovery,
    plan: FeaturePlan,
    ledger: Ledger,
    card: str,
    maturity_us: int,
    as_of_us: int,
    progress: Progress = lambda _done, _total: None,
    max_bytes: int = sys.maxsize,
) -> Pool:
    """Return all transactions of a ledger, labelled by what was known at some time.

    Args:
        recovery: Of `plan`, on `ledger`.
        plan: The features.
        ledger: What happened.
        card: The entity that stands for the card in the measures.
        maturity_us: So long after a transaction that nobody has complained of, it is taken for good.
        as_of_us: Labels that became known later do not exist yet.
        progress: Told how many of how many transactions are replayed.
        max_bytes: Of features in memory; more go to a file.

    Raises:
        InputError: The ledger holds no transaction, or the schema has no entity `card`.
    """
    if card not in plan.schema.entities:
        raise InputError(
            "no_card", f"expected an entity '{card}' in the schema for card precision; set [evaluate] card", column=card
        )
    spool = Spool(len(plan.names), np.float64, max_bytes)
    parts: list[tuple[NDArray[np.object_], NDArray[np.int64], NDArray[np.float64], NDArray[np.uint64]]] = []

    def keep(batch: Batch, features: NDArray[np.float64]) -> None:
        spool.append(features)
        amount = batch.value("amount") / plan.money_scale
        parts.append((np.asarray(batch.ids, dtype=object), batch.time_us, amount, batch.key(card)))

    recovery.replay(keep, progress)
    if not parts:
        raise InputError("no_rows", f"expected transactions in the ledger {ledger.url}, but it holds none")
    ids, time_us, amount, cards = (np.concatenate(column) for column in zip(*parts, strict=True))
    is_fraud, available_us, sources = _labels(ledger.verdicts(as_of_us), ids, time_us + maturity_us)
    scores, blocked = _decisions(ledger, ids)
    dataset = Dataset(
        spool.rows(), plan.names, plan.categorical, plan.back, is_fraud, available_us, time_us, amount, cards, ids
    )
    return Pool(dataset, scores, sources, blocked & (sources == ""))


def _labels(
    verdicts: list[Verdict], ids: NDArray[np.object_], mature_us: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.object_]]:
    """Return verdict, when it was known, and whose it is, of every transaction; the silent ones are good in the end."""
    is_fraud = np.zeros(len(ids), dtype=np.bool_)
    sources = np.full(len(ids), "", dtype=object)
    available_us = mature_us.copy()
    old = {one.transaction_id for one in verdicts if one.number is None}
    places = {ids[place]: place for place in np.flatnonzero(np.isin(ids, list(old)))} if old else {}
    for one in verdicts:
        place = places.get(one.transaction_id) if one.number is None else one.number - 1
        if place is not None:
            is_fraud[place], sources[place] = one.is_fraud, one.source.value
            available_us[place] = one.available_us
    return is_fraud, available_us, sources


def _decisions(ledger: Ledger, ids: NDArray[np.object_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores, and which were blocked; what was decided is a part of all that came, in the same order."""
    scores, blocked = np.full(len(ids), np.nan), np.zeros(len(ids), dtype=np.bool_)
    place = 0
    for identifier, decision, _ in ledger.decided():
        while place < len(ids) and ids[place] != identifier:
            place += 1
        if place == len(ids):
            break  # it came after the replay
        if decision.score is not None:
            scores[place] = decision.score
        blocked[place] = decision.outcome is Outcome.BLOCK
    return scores, blocked
