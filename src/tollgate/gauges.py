"""What a monitor found, as metrics: for Prometheus to scrape, or for node_exporter's textfile collector."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from tollgate.decision import Outcome
from tollgate.durable import replacing
from tollgate.duration import DAY_US, SECOND_US
from tollgate.errors import ConfigError
from tollgate.monitor import Finding, State
from tollgate.observation import Observation


class Gauges(Collector):
    """The newest observation as metrics; one thread shows, any may scrape."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._lock = threading.Lock()
        self._shown: list[Metric] = []

    def show(self, seen: Observation, found: Sequence[Finding]) -> None:
        """Take the place of what was shown before."""
        shown = list(_families(seen, found))
        with self._lock:
            self._shown = shown

    def collect(self) -> Iterator[Metric]:
        """Yield what was shown last."""
        with self._lock:
            yield from self._shown

    def write(self, path: Path) -> None:
        """Write the metrics to a file, whole or not at all, as the textfile collector wants it.

        Raises:
            ConfigError: It could not be written.
        """
        try:
            with replacing(path) as file:
                file.write(generate_latest(self.registry))
        except OSError as error:
            raise ConfigError("cannot_write", f"could not write {path}: {error}", file=str(path)) from error


def _families(seen: Observation, found: Sequence[Finding]) -> Iterator[Metric]:
    start_us, end_us = seen.period_us
    days = (end_us - start_us) / DAY_US
    drifts = [*([] if seen.score is None else [seen.score]), *seen.features]
    rows = max(seen.traffic.transactions, 1)
    done = seen.performance
    single: tuple[tuple[str, str, float | None], ...] = (
        ("run_timestamp_seconds", "When the monitor last looked.", seen.at_us / SECOND_US),
        ("transactions", "Decided by the bundle in the newest period.", seen.traffic.transactions),
        ("newest_age_seconds", "Age of the newest payment.", seen.age_s),
        ("degraded_ratio", "Share of the decisions made without the model.", seen.traffic.degraded / rows),
        ("late_ratio", "Share of the payments that came late.", seen.traffic.late / rows),
        ("mature_transactions", "Payments whose labels have come.", done.transactions),
        ("mature_frauds", "Known frauds among them.", done.frauds),
        ("precision_ratio", "Share of known alerts that is fraud.", done.precision),
        ("recall_ratio", "Share of known frauds that was held or blocked.", done.recall),
        ("value_detection_ratio", "Share of their money that was.", done.value_detection_rate),
        ("expected_frauds", "By the scores, of payments that were not blocked.", seen.calibration.expected),
        ("observed_frauds", "Of the same payments.", seen.calibration.frauds),
    )
    for name, text, value in single:
        if value is not None:
            yield GaugeMetricFamily(f"tollgate_monitor_{name}", text, value=value)
    yield _gauge("psi", "Drift of a feature or of the score.", ("feature",), {(d.name,): d.psi for d in drifts})
    yield _gauge(
        "psi_chance", "What drift may look like by chance.", ("feature",), {(d.name,): d.chance for d in drifts}
    )
    yield _gauge(
        "missing_ratio", "Share of missing values.", ("feature",), {(d.name,): d.missing for d in seen.features}
    )
    yield _gauge(
        "outcomes_per_day",
        "Decisions a day in the newest period.",
        ("outcome",),
        {(one.value,): seen.traffic.outcomes[one] / days for one in Outcome},
    )
    yield _gauge(
        "label_lag_seconds",
        "From transaction to label.",
        ("source", "quantile"),
        {
            (one.source, quantile): value
            for one in seen.lags
            for quantile, value in (("0.5", one.median_s), ("0.9", one.slow_s))
        },
    )
    yield _gauge(
        "challenger_agreement_ratio",
        "Share of the payments that champion and challenger treat alike.",
        ("bundle",),
        {(one.bundle,): one.same for one in seen.challengers},
    )
    yield _gauge(
        "findings",
        "What was looked at, by how it stands.",
        ("state",),
        {(state.value,): sum(one.state is state for one in found) for state in State},
    )


def _gauge(name: str, text: str, labels: tuple[str, ...], values: dict[tuple[str, ...], float | None]) -> Metric:
    family = GaugeMetricFamily(f"tollgate_monitor_{name}", text, labels=labels)
    for label, value in values.items():
        if value is not None:
            family.add_metric(label, value)
    return family
