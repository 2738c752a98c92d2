"""One figure hides much: a model's measures by slice of the payments, and week by week."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tollgate import metrics
from tollgate.dataset import Dataset
from tollgate.duration import DAY_US

FEWEST_FRAUDS = 10  # in a slice, for its measures to be told: with fewer, one fraud moves them by a tenth
MOST_VALUES = 10  # of a category that get a slice each, those with the most payments; the others share one
OTHERS = "all others"
MISSING = "(missing)"
_QUARTILES = (0.25, 0.5, 0.75)
_WEEK_DAYS = 7

Groups = Mapping[str, NDArray[np.bool_]]


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A model on some of the payments. With fewer than `FEWEST_FRAUDS` frauds all but the counts is NaN.

    Attributes:
        by: What the payments were divided by.
        name: Which of them these are.
        recall: At the alert budget over all payments, as is `precision`: a slice gets no budget of its own.
        mean_score: Calibrated, it should be near `fraud_share`.
        fraud_share: Share of the payments that is fraud.
    """

    by: str
    name: str
    rows: int
    frauds: int
    average_precision: float = math.nan
    auc_roc: float = math.nan
    recall: float = math.nan
    precision: float = math.nan
    mean_score: float = math.nan
    fraud_share: float = math.nan


class Week(msgspec.Struct, frozen=True, kw_only=True):
    """A model on one week of the test period.

    Attributes:
        start_us: Midnight (UTC) before its first day, microseconds since 1970-01-01.
        days: How many days it has: seven, but for the last one.
        known_us: When the last of its labels was known: before, this row could not have been written.
        card_precision: Card precision@k, k being the alert budget; each week begins with no card caught.
        recall: At the alert budget.
        calibration_error: Expected calibration error.
    """

    start_us: int
    days: int
    rows: int
    frauds: int
    known_us: int
    average_precision: float
    card_precision: float
    recall: float
    calibration_error: float


def slices(
    test: Dataset, scores: NDArray[np.float64], seen: NDArray[np.bool_], divisions: Mapping[str, Groups]
) -> tuple[Slice, ...]:
    """Return the measures of each group of each division, in their order; groups without a payment are left out.

    Args:
        test: N rows.
        scores: Calibrated probabilities, float64 (N,).
        seen: Which rows are alerts within the budget, bool (N,).
        divisions: By what they divide, groups of rows by name, bool (N,) each.
    """
    return tuple(
        _slice(by, name, test, scores, seen, rows)
        for by, groups in divisions.items()
        for name, rows in groups.items()
        if rows.any()
    )


def _slice(
    by: str,
    name: str,
    test: Dataset,
    scores: NDArray[np.float64],
    seen: NDArray[np.bool_],
    rows: NDArray[np.bool_],
) -> Slice:
    is_fraud, part = test.is_fraud[rows], scores[rows]
    count, frauds = is_fraud.size, int(np.count_nonzero(is_fraud))
    if frauds < FEWEST_FRAUDS:
        return Slice(by=by, name=name, rows=count, frauds=frauds)
    return Slice(
        by=by,
        name=name,
        rows=count,
        frauds=frauds,
        average_precision=metrics.average_precision(is_fraud, part),
        auc_roc=metrics.auc_roc(is_fraud, part),
        recall=metrics.recall(is_fraud, seen[rows]),
        precision=metrics.precision(is_fraud, seen[rows]),
        mean_score=float(part.mean()),
        fraud_share=frauds / count,
    )


def amount_bands(amount: NDArray[np.float64], edges: Sequence[float] = ()) -> Groups:
    """Return the rows of each band of amounts, the lowest first; an amount at an edge is below it.

    Args:
        amount: float64 (N,), in major units.
        edges: Between the bands; without any, the quartiles of the amounts, to two decimals.
    """
    limits = np.unique(edges if len(edges) else np.quantile(amount, _QUARTILES).round(2))
    texts = [f"{limit:,.2f}" for limit in limits]
    names = [
        f"up to {texts[0]}",
        *(f"{low} to {high}" for low, high in pairwise(texts)),
        f"over {texts[-1]}",
    ]
    place = np.searchsorted(limits, amount)
    return {name: place == number for number, name in enumerate(names)}


def newness(new_card: NDArray[np.bool_]) -> Groups:
    """Return the rows of new cards and of known ones.

    Args:
        new_card: Which rows have no earlier payment of their card in the data, bool (N,).
    """
    return {"first payment of the card": new_card, "card seen before": ~new_card}


def by_value(texts: NDArray[Any], most: int = MOST_VALUES) -> Groups:
    """Return the rows of each value of a category, the most frequent first, and of all beyond the first `most`.

    Args:
        texts: The value of each row, (N,); None and the empty text are missing.
        most: How many values get a group of their own.
    """
    names = np.array([MISSING if one is None or one == "" else str(one) for one in texts.tolist()], dtype=str)
    values, place, counts = np.unique(names, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    groups = {str(values[value]): place == value for value in order[:most]}
    if order.size > most:
        groups[OTHERS] = np.isin(place, order[most:])
    return groups


def texts_of(codes: NDArray[np.float64], texts: Mapping[float, str]) -> NDArray[np.object_]:
    """Return the texts of a category's codes, object (N,); None where a code is missing or has no text.

    Args:
        codes: A categorical feature, float64 (N,); NaN is missing.
        texts: By code.
    """
    values, place = np.unique(codes, return_inverse=True)
    found = np.empty(values.size, dtype=object)
    found[:] = [texts.get(code) for code in values.tolist()]
    return found[place]


def by_week(test: Dataset, scores: NDArray[np.float64], alerts_per_day: int) -> tuple[Week, ...]:
    """Return the measures of each week of seven days (UTC) from the first test day on; a week without rows is left out.

    Args:
        test: N rows.
        scores: Calibrated probabilities, float64 (N,).
        alerts_per_day: The alert budget.
    """
    day = test.time_us // DAY_US
    first, last = int(day.min()), int(day.max())
    week = (day - first) // _WEEK_DAYS
    made = []
    for number in np.unique(week).tolist():
        start_day = first + _WEEK_DAYS * number
        days = min(_WEEK_DAYS, last - start_day + 1)
        made.append(_week(test, scores, week == number, alerts_per_day, start_us=start_day * DAY_US, days=days))
    return tuple(made)


def _week(
    test: Dataset,
    scores: NDArray[np.float64],
    rows: NDArray[np.bool_],
    alerts_per_day: int,
    *,
    start_us: int,
    days: int,
) -> Week:
    is_fraud, part, time_us = test.is_fraud[rows], scores[rows], test.time_us[rows]
    return Week(
        start_us=start_us,
        days=days,
        rows=is_fraud.size,
        frauds=int(np.count_nonzero(is_fraud)),
        known_us=int(test.available_us[rows].max()),
        average_precision=metrics.average_precision(is_fraud, part),
        card_precision=metrics.card_precision(is_fraud, part, test.card[rows], time_us, alerts_per_day),
        recall=metrics.recall(is_fraud, metrics.alerts(part, time_us, alerts_per_day)),
        calibration_error=metrics.expected_calibration_error(is_fraud, part),
    )
