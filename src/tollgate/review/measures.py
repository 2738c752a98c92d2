"""What the review counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tollgate.duration import SECOND_US
from tollgate.ledger.cases import Disposition
from tollgate.review.queue import Queue
from tollgate.serve.collector import BoundedCounter


class Measures(Collector):
    """Open cases, read when somebody scrapes, and dispositions, counted."""

    def __init__(self, queue: Queue, clock_us: Callable[[], int]) -> None:
        """Begin at 0."""
        self._queue = queue
        self._clock_us = clock_us
        self._dispositions = BoundedCounter(
            "tollgate_dispositions", "Cases that analysts disposed of.", ("disposition",)
        )
        for one in Disposition:
            self._dispositions.add((one.value,), 0)

    def disposed(self, disposition: Disposition) -> None:
        """Count one."""
        self._dispositions.add((disposition.value,))

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: the registry must not read the queue before it runs."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        now = self._queue.numbers()
        cases = GaugeMetricFamily("tollgate_open_cases", "Held or blocked, and not judged yet.", labels=("outcome",))
        for outcome, count in now.open.items():
            cases.add_metric((outcome.value,), count)
        yield cases
        yield GaugeMetricFamily("tollgate_left_out_cases", "Older than what the queue holds.", value=now.left_out)
        if now.oldest_us is not None:
            age_s = (self._clock_us() - now.oldest_us) / SECOND_US
            yield GaugeMetricFamily("tollgate_oldest_case_age_seconds", "Age of the oldest open case.", value=age_s)
        yield from self._dispositions.collect()
