"""Counters and histograms that take a batch at a time, for the Prometheus client to expose.

The client's own `Histogram.observe` takes a lock and a walk through the buckets for each value: at 40,000 requests a
second that is a tenth of a core. Here a batch is one call.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

OTHER = "other"  # the label of what came after the limit of different labels was reached
MAX_SERIES = 512  # of one counter: a label that grows without end takes a Prometheus down
_FEW = 32  # up to so many values a loop is faster than arrays

Floats = NDArray[np.float64]


class BoundedCounter(Collector):
    """A counter by labels. One thread adds, any thread collects."""

    def __init__(self, name: str, text: str, labels: Sequence[str], max_series: int = MAX_SERIES) -> None:
        """Make the counter, without any series yet.

        Args:
            name: Of the family, without `_total`.
            text: What it counts, as a sentence.
            labels: Names of the labels.
            max_series: So many combinations of labels are told apart; later ones are counted together as `other`.
        """
        self._name = name
        self._text = text
        self._labels = tuple(labels)
        self._max_series = max_series
        self._values: dict[tuple[str, ...], float] = {}
        self._rest = (OTHER,) * len(self._labels)

    def add(self, labels: tuple[str, ...], amount: float = 1) -> None:
        """Add `amount`, which is not negative, to the series of `labels`, in the order of their names."""
        values = self._values
        if labels in values:
            values[labels] += amount
        elif len(values) < self._max_series:
            values[labels] = amount
        else:
            values[self._rest] = values.get(self._rest, 0) + amount

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the one family."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in list(self._values.items()):
            family.add_metric(labels, value)
        yield family


class BatchHistogram(Collector):
    """A histogram, one for each value of a label where there is one. One thread adds, any thread collects."""

    def __init__(
        self, name: str, text: str, edges: Sequence[float], label: str | None = None, values: Sequence[str] = ("",)
    ) -> None:
        """Make the histogram, with every count 0.

        Args:
            name: Of the family.
            text: What it measures, as a sentence.
            edges: Upper bounds of the E buckets, rising; a value at a bound is in its bucket. One more is for the rest.
            label: Name of the label.
            values: All values of the label.
        """
        assert list(edges) == sorted(set(edges))
        self._name = name
        self._text = text
        self._edges = np.asarray(edges, dtype=np.float64)
        self._bounds = [float(edge) for edge in edges]
        self._label = label
        self._values = tuple(values)
        self._counts = [[0] * (len(edges) + 1) for _ in values]  # lists: one item of an array costs ten times as much
        self._sums = [0.0] * len(values)

    def observe(self, values: Sequence[float] | Floats) -> None:
        """Count N values, a sequence or float64 (N,), of a histogram without label; NaN is left out."""
        if len(values) > _FEW:
            self._observe_many(np.asarray(values, dtype=np.float64))
            return
        counts, bounds, total = self._counts[0], self._bounds, 0.0
        for value in values.tolist() if isinstance(values, np.ndarray) else values:
            if value == value:  # noqa: PLR0124  # not NaN
                counts[bisect_left(bounds, value)] += 1
                total += value
        self._sums[0] += total

    def _observe_many(self, values: Floats) -> None:
        total = float(np.add.reduce(values))
        if math.isnan(total):
            values = values[~np.isnan(values)]
            total = float(np.add.reduce(values))
        found = np.bincount(self._edges.searchsorted(values), minlength=len(self._bounds) + 1)
        self._counts[0] = [before + more for before, more in zip(self._counts[0], found.tolist(), strict=True)]
        self._sums[0] += total

    def observe_one(self, value: float, series: int = 0) -> None:
        """Count one value of the series with that number among the label's values."""
        self._counts[series][bisect_left(self._bounds, value)] += 1
        self._sums[series] += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the one family, with buckets that count what is at or below their bound."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label] if self._label else [])
        names = [*(repr(bound) for bound in self._bounds), "+Inf"]
        for value, counts, total in zip(self._values, self._counts, self._sums, strict=True):
            buckets = list(zip(names, accumulate(counts), strict=True))
            family.add_metric([value] if self._label else [], buckets, total)
        yield family
