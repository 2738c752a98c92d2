"""What the worker counts and measures beside what every decider does: records, commits, and how far behind it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tollgate.serve.collector import BatchHistogram, BoundedCounter, Floats
from tollgate.stream.record import Place

RESULTS = ("decided", "label", "dead_letter")  # what became of a record
COMMITS = ("committed", "failed")
LATENCY_EDGES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
COMMIT_EDGES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Measures:
    """Of one worker. Its thread adds, any thread may collect."""

    def __init__(self) -> None:
        """Make the measures, all 0."""
        self._records = BoundedCounter("tollgate_stream_records", "Records that are committed.", ("result",))
        self._commits = BoundedCounter("tollgate_stream_commits", "Transactions of Kafka.", ("result",))
        for counter, results in ((self._records, RESULTS), (self._commits, COMMITS)):
            for result in results:
                counter.add((result,), 0)
        self._dead = BoundedCounter("tollgate_stream_dead_letters", "Records that could not be used.", ("code",))
        self._latency = BatchHistogram(
            "tollgate_stream_latency_seconds", "From a record's timestamp to its commit.", LATENCY_EDGES_S
        )
        self._commit = BatchHistogram("tollgate_stream_commit_seconds", "Of one transaction of Kafka.", COMMIT_EDGES_S)
        self._behind = _Behind()

    def register(self, registry: CollectorRegistry) -> None:
        """Show them among the metrics of `registry`."""
        for collector in (self._records, self._commits, self._dead, self._latency, self._commit, self._behind):
            registry.register(collector)

    def committed(self, decided: int, labels: int, dead: Sequence[str], latencies_s: Floats) -> None:
        """Count a batch that is committed.

        Args:
            decided: Records that were answered with a decision.
            labels: Records that were recorded as labels.
            dead: The codes of those that became dead letters.
            latencies_s: Of the records that have a timestamp, float64 (N,).
        """
        for result, count in zip(RESULTS, (decided, labels, len(dead)), strict=True):
            self._records.add((result,), count)
        for code in dead:
            self._dead.add((code,))
        self._commits.add(("committed",))
        self._latency.observe(latencies_s)

    def failed(self) -> None:
        """Count a batch that was not committed and comes again."""
        self._commits.add(("failed",))

    def commit_took(self, seconds: float) -> None:
        """Count how long the transaction of a batch took."""
        self._commit.observe_one(seconds)

    def behind(self, lags: Mapping[Place, int]) -> None:
        """Say how many offsets of each partition are not committed."""
        self._behind.lags = dict(lags)


class _Behind(Collector):
    def __init__(self) -> None:
        self.lags: dict[Place, int] = {}

    def collect(self) -> Iterator[Metric]:
        lags = self.lags
        family = GaugeMetricFamily(
            "tollgate_stream_lag", "Offsets that are not committed.", labels=("topic", "partition")
        )
        for place, lag in lags.items():
            family.add_metric((place.topic, str(place.partition)), lag)
        yield family
        yield GaugeMetricFamily("tollgate_stream_partitions", "That this worker reads.", value=len(lags))
