"""How sure a measure is: bootstrap intervals of one model's measures, and of the difference of two models'.

A card's frauds come together, so payments are not independent: cards are resampled, not rows (the cluster bootstrap;
Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8). Intervals are percentiles of the
resamples. Cards with and without fraud are not drawn apart: AP moves with the share of fraud, and to hold that share
fixed made intervals too short (with 100 cards of fraud, 91% of the 95% intervals of AP held the true value; drawn
together, 94%).

A resample is a whole number for each card: how often it was drawn. Rows are sorted once, and each resample costs a few
weighted running sums: a copy of a row counts as a row that ties with it, a copy of a card as another card like it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tollgate.duration import DAY_US

Counts = NDArray[np.int64]

RANKED = ("average_precision", "auc_roc")
WITHIN_BUDGET = ("recall", "precision", "value_detection_rate")
CARD = ("card_precision",)
MEASURES = RANKED + CARD + WITHIN_BUDGET
RESAMPLES = 200
LEVEL = 0.95


class Rows(Protocol):
    """N payments, as a `Dataset` holds them: bool, int64 (microseconds), float64 and uint64 (N,)."""

    @property
    def is_fraud(self) -> NDArray[np.bool_]:
        """The labels."""

    @property
    def time_us(self) -> NDArray[np.int64]:
        """Effective times."""

    @property
    def amount(self) -> NDArray[np.float64]:
        """In one currency."""

    @property
    def card(self) -> NDArray[np.uint64]:
        """Keys of the cards; 0 is missing."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A measure, and between what it would lie on other such cards.

    Attributes:
        value: On the rows as they are; NaN where it is not defined.
        low: Lower end.
        high: Upper end.
        level: How often such an interval should hold the true value: 0.95.
    """

    value: float
    low: float
    high: float
    level: float = LEVEL

    @property
    def holds_zero(self) -> bool:
        """Whether a difference of nothing is inside: the sign may be chance. True where it is not defined."""
        return not (self.low > 0 or self.high < 0)


class Pair(NamedTuple):
    """The scores of two models on the rows of one fold, such as a test week.

    Attributes:
        rows: N payments.
        first: Scores of one model, float64 (N,).
        second: Scores of the other, float64 (N,).
        units: What is resampled, int64 (N,): rows of equal number go together. Cards, where it is None.
    """

    rows: Rows
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    units: NDArray[np.int64] | None = None


def intervals(
    rows: Rows,
    scores: NDArray[np.float64],
    measures: Collection[str] = MEASURES,
    *,
    budget: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    units: NDArray[np.int64] | None = None,
) -> dict[str, Interval]:
    """Return the interval of each measure, by name.

    Args:
        rows: N payments.
        scores: float64 (N,).
        measures: Some of `MEASURES`.
        budget: Alerts a day (UTC), and cards a day for card precision.
        resamples: How many; the ends of a 95% interval are rough below 200.
        seed: Of the drawing.
        level: Share of the resamples inside. Those without a fraud, or without a good payment, are left out.
        units: What is resampled, see `Pair`.
    """
    units = card_units(rows.card) if units is None else _numbered(units)
    counted = _Counted(rows, scores, units, budget, measures)
    random = np.random.default_rng(seed)
    size = int(units.max(initial=-1)) + 1
    whole = counted.measure(np.ones(size, dtype=np.int64))
    found = [counted.measure(_resample(size, random)) for _ in range(resamples)]
    return {name: _interval(whole[name], [one[name] for one in found], level) for name in measures}


def difference_interval(
    folds: Sequence[Pair],
    measure: str = "average_precision",
    *,
    budget: int = 100,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Return the interval of the first model's measure less the second's, meaned over the folds.

    Both models see the same resample (paired), so that what they share cancels out. Each fold is resampled by itself.

    Args:
        folds: At least one.
        measure: One of `MEASURES`.
        budget: Alerts or cards a day, where the measure has a budget.
        resamples: How many.
        seed: Of the drawing.
        level: How much of the resamples lies inside.
    """
    random = np.random.default_rng(seed)
    whole, found = 0.0, np.zeros(resamples)
    for rows, first, second, given in folds:
        units = card_units(rows.card) if given is None else _numbered(given)
        size = int(units.max(initial=-1)) + 1
        one, other = (_Counted(rows, scores, units, budget, (measure,)) for scores in (first, second))
        everyone = np.ones(size, dtype=np.int64)
        whole += one.measure(everyone)[measure] - other.measure(everyone)[measure]
        for place in range(resamples):
            counts = _resample(size, random)
            found[place] += one.measure(counts)[measure] - other.measure(counts)[measure]
    return _interval(whole / len(folds), found / len(folds), level)


def card_units(card: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of what each row is resampled with, from 0, int64 (N,): its card, or itself without a card."""
    units = np.unique(card, return_inverse=True)[1].astype(np.int64)
    alone = card == 0
    units[alone] = units.max(initial=0) + 1 + np.arange(np.count_nonzero(alone))
    return _numbered(units)


def weighted_average_precision(is_fraud: NDArray[np.bool_], scores: NDArray[np.float64], counts: Counts) -> float:
    """Return AP where row i counts `counts[i]` times, int64 (N,); NaN without a fraud."""
    return _Ranking(is_fraud, scores, np.arange(scores.size)).measure(counts)["average_precision"]


class _Ranking:
    """AP and AUC of rows that count several times."""

    def __init__(self, is_fraud: NDArray[np.bool_], scores: NDArray[np.float64], units: NDArray[np.int64]) -> None:
        order = np.argsort(-scores, kind="stable")
        ordered, fraud = -scores[order], np.flatnonzero(is_fraud[order])
        self._units, self._fraud_units = units[order], units[order][fraud]
        # Only where a fraud is does a running sum matter: before and after the rows that tie with it.
        self._before = np.searchsorted(ordered, ordered[fraud], side="left")
        self._after = np.searchsorted(ordered, ordered[fraud], side="right")
        self._frauds_before = np.searchsorted(fraud, self._before)
        self._frauds_after = np.searchsorted(fraud, self._after)

    def measure(self, counts: Counts) -> dict[str, float]:
        rows, frauds = _running(counts[self._units]), _running(counts[self._fraud_units])
        weight = counts[self._fraud_units]
        after, caught = rows[self._after], frauds[self._frauds_after]
        precision = np.divide(caught, after, where=after > 0, out=np.zeros(after.shape))
        good_before = rows[self._before] - frauds[self._frauds_before]
        good_after = after - caught
        total, good = int(frauds[-1]), int(rows[-1] - frauds[-1])
        outranked = weight @ (good - (good_before + good_after) / 2)
        return {
            "average_precision": float(weight @ precision) / total if total else np.nan,
            "auc_roc": float(outranked) / (total * good) if total and good else np.nan,
        }


class _Alerts:
    """Recall, precision and value detection rate at the alert budget of rows that count several times."""

    def __init__(self, rows: Rows, scores: NDArray[np.float64], units: NDArray[np.int64], budget: int) -> None:
        days = rows.time_us // DAY_US
        order = np.lexsort((-scores, days))
        ordered_days, fraud = days[order], np.flatnonzero(rows.is_fraud[order])
        self._budget, self._fraud = budget, fraud
        self._units, self._fraud_units = units[order], units[order][fraud]
        self._amount = rows.amount[order][fraud]
        starts = np.flatnonzero(np.diff(ordered_days, prepend=ordered_days[:1] - 1))
        self._edges = np.append(starts, ordered_days.size)
        self._fraud_start = np.searchsorted(ordered_days, ordered_days[fraud])

    def measure(self, counts: Counts) -> dict[str, float]:
        above, weight = _running(counts[self._units]), counts[self._fraud_units]
        left = self._budget - (above[self._fraud] - above[self._fraud_start])
        seen = np.clip(left, 0, weight)  # of equal copies at the edge of the budget, only some
        alerts = int(np.minimum(np.diff(above[self._edges]), self._budget).sum())
        money, frauds = float(weight @ self._amount), int(weight.sum())
        return {
            "recall": int(seen.sum()) / frauds if frauds else np.nan,
            "precision": int(seen.sum()) / alerts if alerts else np.nan,
            "value_detection_rate": float(seen @ self._amount) / money if money > 0 else np.nan,
        }


class _Cards:
    """Card precision of cards that count several times, each copy a card of its own."""

    def __init__(self, rows: Rows, scores: NDArray[np.float64], units: NDArray[np.int64], budget: int) -> None:
        self._budget = budget
        days = rows.time_us // DAY_US
        _, first, place = np.unique(rows.card, return_index=True, return_inverse=True)
        self._units = units[first]
        self._days = []  # of each: places of its cards, the most suspicious first, and which are compromised
        for day in np.unique(days):
            on = np.flatnonzero((days == day) & (rows.card != 0))
            present, at = np.unique(place[on], return_inverse=True)
            highest = np.full(present.shape, -np.inf)
            np.maximum.at(highest, at, scores[on])
            compromised = np.zeros(present.shape, dtype=np.bool_)
            compromised[at[rows.is_fraud[on]]] = True
            order = np.argsort(-highest, kind="stable")
            self._days.append((present[order], compromised[order]))

    def measure(self, counts: Counts) -> dict[str, float]:
        left = counts[self._units]  # cards that were not caught on an earlier day
        hits = 0
        for present, compromised in self._days:
            copies = left[present]
            looked = np.clip(self._budget - (np.cumsum(copies) - copies), 0, copies)
            caught = np.where(compromised, looked, 0)
            left[present] -= caught
            hits += int(caught.sum())
        return {"card_precision": hits / (self._budget * len(self._days)) if self._days else np.nan}


class _Counted:
    """Those of the measures that are asked for, of one model's scores."""

    def __init__(
        self,
        rows: Rows,
        scores: NDArray[np.float64],
        units: NDArray[np.int64],
        budget: int,
        measures: Collection[str],
    ) -> None:
        unknown = set(measures) - set(MEASURES)
        assert not unknown, f"expected measures out of {MEASURES}, but got {unknown}"
        self._parts: list[_Ranking | _Alerts | _Cards] = []
        if not set(RANKED).isdisjoint(measures):
            self._parts.append(_Ranking(rows.is_fraud, scores, units))
        if not set(WITHIN_BUDGET).isdisjoint(measures):
            self._parts.append(_Alerts(rows, scores, units, budget))
        if not set(CARD).isdisjoint(measures):
            self._parts.append(_Cards(rows, scores, units, budget))

    def measure(self, counts: Counts) -> dict[str, float]:
        return {name: value for part in self._parts for name, value in part.measure(counts).items()}


def _resample(size: int, random: np.random.Generator) -> Counts:
    """Return how often each of `size` units is drawn in as many draws with replacement, int64 (U,)."""
    return np.bincount(random.integers(0, max(size, 1), size), minlength=size)


def _running(counts: Counts) -> Counts:
    """Return the sums of the first 0, 1, ... N counts, int64 (N + 1,)."""
    sums = np.zeros(counts.size + 1, dtype=np.int64)
    np.cumsum(counts, out=sums[1:])
    return sums


def _numbered(units: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the units renumbered from 0 without gaps."""
    return np.unique(units, return_inverse=True)[1].astype(np.int64)


def _interval(value: float, found: Sequence[float] | NDArray[np.float64], level: float) -> Interval:
    resampled = np.asarray(found, dtype=np.float64)
    resampled = resampled[~np.isnan(resampled)]
    if np.isnan(value) or resampled.size == 0:
        return Interval(value, np.nan, np.nan, level)
    low, high = np.quantile(resampled, ((1 - level) / 2, (1 + level) / 2))
    return Interval(value, float(low), float(high), level)
