"""What the server counts and measures, under the names of the design, for Prometheus to scrape.

A server has one `Metrics` with a registry of its own. The event loop's thread adds, once for each batch; what can be
read instead of counted (entities, bytes, what is waiting) is read when somebody scrapes.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from tollgate.decision import Mode, Outcome
from tollgate.label import Label, LabelResult, LabelSource
from tollgate.serve.collector import BatchHistogram, BoundedCounter

ARMS = ("champion", "canary")
STAGES = ("parse", "features", "model", "policy", "ledger")  # of one batch, in this order

REQUEST_EDGES_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
STAGE_EDGES_S = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
BATCH_EDGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)  # transactions
SCORE_EDGES = (0.001, 0.005, 0.01, 0.025, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95, 0.99, 1.0)

_OUTCOMES = tuple(Outcome)
_SERIES = {mode: tuple((outcome.value, mode.value) for outcome in _OUTCOMES) for mode in Mode}
_STATUS_TEXT = {status: (str(status),) for status in range(100, 600)}


class Readings(NamedTuple):
    """The state of a server at one moment.

    Attributes:
        ready: Whether it has caught up with its ledger and the canary is alive.
        breaker_open: Whether the model is left alone because it failed or was too slow.
        champion: Content id of the bundle that decides.
        waiting: Transactions admitted and not answered yet.
        late_events: Transactions that came later than their entity's watermark, since the state began.
        canary_age_s: Seconds since the canary transaction was last scored; None before the first time.
    """

    ready: bool
    breaker_open: bool
    champion: str
    waiting: int = 0
    late_events: int = 0
    entities: int = 0
    state_bytes: int = 0
    ledger_transactions: int = 0
    ledger_index_bytes: int = 0
    canary_age_s: float | None = None


class Metrics:
    """The metrics of one server. One thread adds, any thread may expose."""

    def __init__(self, version: str, read: Callable[[], Readings]) -> None:
        """Make the metrics, all 0.

        Args:
            version: Of Tollgate.
            read: Gives the state of the server, from any thread, at once.
        """
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._transactions = self._counter("transactions", "Transactions decided.", "outcome", "mode")
        for mode in Mode:
            for labels in _SERIES[mode]:
                self._transactions.add(labels, 0)  # there from the start, so that a rate over it is never absent
        self._requests = self._counter("requests", "Requests answered on the public port.", "status")
        self._shed = self._counter("shed", "Requests refused because a limit was reached.", "reason")
        self._degraded = self._counter("degraded", "Transactions decided without the model.", "reason")
        self._arms = self._counter(
            "arm_transactions", "Transactions decided beside a canary, by who decided.", "arm", "bundle", "outcome"
        )
        self._arm_scores = BatchHistogram(
            "tollgate_arm_score", "Calibrated scores beside a canary, by who decided.", SCORE_EDGES, "arm", ARMS
        )
        self.registry.register(self._arm_scores)
        self._arm_times = BatchHistogram(
            "tollgate_arm_model_seconds", "What the model took for its part of a batch.", STAGE_EDGES_S, "arm", ARMS
        )
        self.registry.register(self._arm_times)
        self._canary_failures = self._counter(
            "canary_failures", "Transactions of a canary that the champion decided instead.", "reason"
        )
        self._rules = self._counter("rule_hits", "Transactions on which a rule held.", "rule", "mode")
        self._lists = self._counter("list_hits", "Transactions with an entry of a list.", "list", "column")
        self._labels = self._counter("labels", "Labels that came.", "source", "result")
        for kind in product(LabelSource, LabelResult):
            self._labels.add(kind, 0)
        self._latency = self._histogram(
            "request_latency_seconds", "From the last byte of a request to its answer.", REQUEST_EDGES_S
        )
        self._stages = BatchHistogram(
            "tollgate_stage_latency_seconds", "What a batch spent in one stage.", STAGE_EDGES_S, "stage", STAGES
        )
        self.registry.register(self._stages)
        self._sizes = self._histogram("batch_transactions", "Transactions decided together.", BATCH_EDGES)
        self._scores = self._histogram("score", "Calibrated scores of the champion.", SCORE_EDGES)
        self.registry.register(_State(version, read))

    def batch(
        self,
        stages_s: Sequence[float],
        outcomes: Sequence[int],
        scores: Sequence[float] | NDArray[np.float64],
        mode: Mode = Mode.NORMAL,
    ) -> None:
        """Count one batch that was decided and is durable.

        Args:
            stages_s: Seconds that it spent in each of `STAGES`.
            outcomes: How many transactions got each `Outcome`, in the order of the enumeration.
            scores: The scores, a sequence or float64 (N,); NaN is a transaction without one. Empty in degraded mode.
            mode: Of all its transactions. Those of another mode are counted by `decided`.
        """
        one = self._stages.observe_one
        for place, seconds in enumerate(stages_s):
            one(seconds, place)
        self.decided(outcomes, mode)
        self._sizes.observe_one(len(scores) or sum(outcomes))
        if len(scores):
            self._scores.observe(scores)

    def decided(self, outcomes: Sequence[int], mode: Mode) -> None:
        """Count decisions of one mode: how many got each `Outcome`, in the order of the enumeration."""
        for labels, count in zip(_SERIES[mode], outcomes, strict=True):
            if count:
                self._transactions.add(labels, count)

    def answered(self, latencies_s: Sequence[float] | NDArray[np.float64], statuses: Iterable[int]) -> None:
        """Count requests that were answered: N latencies in seconds, and N HTTP statuses."""
        self._latency.observe(latencies_s)
        for status, count in Counter(statuses).items():
            self._requests.add(_STATUS_TEXT[status], count)

    def shed(self, reason: str, count: int = 1) -> None:
        """Count requests that a limit refused; `reason` is the error's code."""
        self._shed.add((reason,), count)

    def degraded(self, reason: str, count: int) -> None:
        """Count transactions that were decided without the model; `reason` is the error's code."""
        self._degraded.add((reason,), count)

    def arm(
        self, place: int, bundle: str, outcomes: Sequence[int], scores: NDArray[np.float64], model_s: float
    ) -> None:
        """Count what one of `ARMS` decided of a batch while there is a canary.

        Args:
            place: In `ARMS`.
            bundle: Content id of its bundle.
            outcomes: How many transactions got each `Outcome`, in the order of the enumeration.
            scores: float64 (N,); NaN is a transaction without one.
            model_s: Seconds that its model took.
        """
        for outcome, count in zip(_OUTCOMES, outcomes, strict=True):
            if count:
                self._arms.add((ARMS[place], bundle, outcome.value), count)
        for score in scores[~np.isnan(scores)].tolist():
            self._arm_scores.observe_one(score, place)
        self._arm_times.observe_one(model_s, place)

    def canary_failed(self, reason: str, count: int) -> None:
        """Count transactions of a canary that the champion decided instead; `reason` is the error's code."""
        self._canary_failures.add((reason,), count)

    def rule_hits(self, rule: str, mode: str, count: int) -> None:
        """Count transactions on which the rule of that name held, live or in shadow `mode`."""
        self._rules.add((rule, mode), count)

    def list_hits(self, kind: str, column: str, count: int) -> None:
        """Count transactions with an entry of an allow or block list, by the column of the entry."""
        self._lists.add((kind, column), count)

    def labelled(self, labels: Sequence[Label], results: Sequence[LabelResult]) -> None:
        """Count labels by their source and what became of each."""
        for kind, count in Counter(
            (one.source.value, result.value) for one, result in zip(labels, results, strict=True)
        ).items():
            self._labels.add(kind, count)

    def expose(self, accept: str | None) -> tuple[bytes, str]:
        """Return everything as text for a scraper, and its content type: OpenMetrics where `accept` asks for it."""
        # The client's own choice by this header fails on a version that is no number.
        if accept is not None and "application/openmetrics-text" in accept:
            text: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def _counter(self, name: str, text: str, *labels: str) -> BoundedCounter:
        counter = BoundedCounter(f"tollgate_{name}", text, labels)
        self.registry.register(counter)
        return counter

    def _histogram(self, name: str, text: str, edges: Sequence[float]) -> BatchHistogram:
        histogram = BatchHistogram(f"tollgate_{name}", text, edges)
        self.registry.register(histogram)
        return histogram


class _State(Collector):
    """What is read when somebody scrapes."""

    def __init__(self, version: str, read: Callable[[], Readings]) -> None:
        self._build = {"version": version, "python": platform.python_version()}
        self._read = read

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: the registry must not read the server before it runs."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        now = self._read()
        yield InfoMetricFamily("tollgate_build", "What runs.", value=self._build)
        yield InfoMetricFamily("tollgate_champion", "The bundle that decides.", value={"bundle": now.champion})
        yield CounterMetricFamily(
            "tollgate_late_events", "Transactions later than their entity's watermark.", value=now.late_events
        )
        gauges: tuple[tuple[str, str, float | None], ...] = (
            ("ready", "Whether the server decides: 1 or 0.", now.ready),
            ("model_breaker_open", "Whether the model is left alone: 1 or 0.", now.breaker_open),
            ("waiting_transactions", "Admitted and not answered yet.", now.waiting),
            ("entities", "Entities in the feature state.", now.entities),
            ("state_bytes", "Memory of the feature state and its index.", now.state_bytes),
            ("ledger_transactions", "Transactions in the ledger.", now.ledger_transactions),
            ("ledger_index_bytes", "Memory of the index of ids.", now.ledger_index_bytes),
            ("canary_age_seconds", "Since the canary transaction was last scored.", now.canary_age_s),
        )
        for name, text, value in gauges:
            if value is not None:
                yield GaugeMetricFamily(f"tollgate_{name}", text, value=value)
