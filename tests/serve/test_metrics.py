"""Metrics: what is counted is what is exposed, under bounded labels."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from tollgate.decision import Mode, Outcome
from tollgate.review.case import Case
from tollgate.review.measures import Measures
from tollgate.review.queue import Queue
from tollgate.serve.collector import OTHER, BatchHistogram, BoundedCounter
from tollgate.serve.metrics import STAGES, Metrics, Readings

READY = Readings(ready=True, breaker_open=False, champion="0123456789abcdef", entities=7, canary_age_s=1.5)
EDGES = (0.0, 1.0, 2.5)


def samples(metrics, accept=None):
    """Every sample that is exposed, by its name and labels."""
    text, _ = metrics.expose(accept)
    parse = open_families if accept else families
    return {
        (s.name, *sorted(s.labels.items())): s.value for family in parse(text.decode()) for s in family.samples
    }  # fmt: skip


def make(read=lambda: READY):
    return Metrics("1.2.3", read)


@given(
    st.lists(st.lists(st.one_of(st.sampled_from(EDGES), st.floats(-2, 5), st.just(math.nan)), max_size=80), max_size=4)
)
def test_a_histogram_counts_each_value_at_or_below_each_bound(batches):
    """Buckets, count and sum equal a count by hand, for short and long batches, NaN left out."""
    histogram = BatchHistogram("h", "h", EDGES)
    for place, batch in enumerate(batches):
        histogram.observe(np.array(batch) if place % 2 else batch)
    kept = [value for batch in batches for value in batch if not math.isnan(value)]
    found = {s.labels.get("le", s.name): s.value for family in histogram.collect() for s in family.samples}
    for edge in (*EDGES, math.inf):
        assert found["+Inf" if edge == math.inf else repr(edge)] == sum(value <= edge for value in kept)
    assert found["h_count"] == len(kept)
    assert found["h_sum"] == pytest.approx(sum(kept), abs=1e-9)


def test_labels_beyond_the_limit_are_counted_together():
    """A counter never has more series than its limit and one, and loses no count."""
    counter = BoundedCounter("c", "c", ["rule", "mode"], max_series=3)
    for number in range(10):
        counter.add((f"r{number}", "live"), 2)
    counter.add(("r0", "live"))
    (family,) = counter.collect()
    values = {s.labels["rule"]: s.value for s in family.samples}
    assert values == {"r0": 3, "r1": 2, "r2": 2, OTHER: 14}


def test_a_batch_is_counted_once_in_each_of_its_metrics():
    """Outcomes, stages, size and scores of a batch all appear."""
    metrics = make()
    metrics.batch((0.1, 0.2, 0.3, 0.4, 0.5), (2, 0, 1), np.array([0.1, 0.2, 0.99]))
    found = samples(metrics)
    assert found["tollgate_transactions_total", ("mode", "normal"), ("outcome", "approve")] == 2
    assert found["tollgate_transactions_total", ("mode", "normal"), ("outcome", "block")] == 1
    assert found["tollgate_transactions_total", ("mode", "degraded"), ("outcome", "review")] == 0
    for place, stage in enumerate(STAGES):
        assert found["tollgate_stage_latency_seconds_sum", ("stage", stage)] == pytest.approx((place + 1) / 10)
    assert found["tollgate_batch_transactions_bucket", ("le", "2.0")] == 0
    assert found["tollgate_batch_transactions_bucket", ("le", "4.0")] == 1
    assert found["tollgate_score_count",] == 3


def test_a_degraded_batch_has_a_size_and_no_score():
    """Without the model nothing enters the score's histogram: an error never looks like a score."""
    metrics = make()
    metrics.batch((0, 0, 0, 0, 0), (0, 3, 0), (), Mode.DEGRADED)
    metrics.degraded("model_timeout", 3)
    found = samples(metrics)
    assert found["tollgate_transactions_total", ("mode", "degraded"), ("outcome", "review")] == 3
    assert found["tollgate_batch_transactions_sum",] == 3
    assert found["tollgate_score_count",] == 0
    assert found["tollgate_degraded_total", ("reason", "model_timeout")] == 3


def test_requests_are_counted_by_status():
    """Latencies enter one histogram, statuses one counter."""
    metrics = make()
    metrics.answered([0.001, 0.2], [200, 503])
    metrics.answered(np.full(40, 0.003), [200] * 40)
    metrics.shed("overloaded")
    found = samples(metrics)
    assert found["tollgate_requests_total", ("status", "200")] == 41
    assert found["tollgate_requests_total", ("status", "503")] == 1
    assert found["tollgate_request_latency_seconds_bucket", ("le", "0.003")] == 41
    assert found["tollgate_shed_total", ("reason", "overloaded")] == 1


def test_rules_and_lists_are_counted_by_name():
    """A shadow hit of a rule is told apart from a live one."""
    metrics = make()
    metrics.rule_hits("velocity", "live", 2)
    metrics.rule_hits("velocity", "shadow", 5)
    metrics.list_hits("block", "card_id", 1)
    found = samples(metrics)
    assert found["tollgate_rule_hits_total", ("mode", "live"), ("rule", "velocity")] == 2
    assert found["tollgate_rule_hits_total", ("mode", "shadow"), ("rule", "velocity")] == 5
    assert found["tollgate_list_hits_total", ("column", "card_id"), ("list", "block")] == 1


def test_the_state_is_read_when_it_is_exposed():
    """Gauges follow the server without being set; a canary that never ran has no age."""
    now = [READY._replace(ready=False, canary_age_s=None)]
    metrics = make(lambda: now[0])
    before = samples(metrics)
    now[0] = READY
    after = samples(metrics)
    assert (before["tollgate_ready",], after["tollgate_ready",]) == (0, 1)
    assert ("tollgate_canary_age_seconds",) not in before
    assert after["tollgate_canary_age_seconds",] == 1.5
    assert after["tollgate_entities",] == 7
    assert after["tollgate_champion_info", ("bundle", "0123456789abcdef")] == 1


@pytest.mark.parametrize("accept", [None, "application/openmetrics-text; version=1.0.0"])
def test_both_formats_hold_the_same_counts(accept):
    """The text is valid in the format that the scraper asked for."""
    metrics = make()
    metrics.batch((0.1,) * 5, (1, 0, 0), [0.5])
    found = samples(metrics, accept)
    assert found["tollgate_transactions_total", ("mode", "normal"), ("outcome", "approve")] == 1
    assert found["tollgate_late_events_total",] == 0
    assert any(name.startswith("process_") for name, *_ in found)
    assert ("openmetrics" in metrics.expose(accept)[1]) == (accept is not None)


def test_two_servers_count_apart():
    """There is no registry that servers of one process share."""
    one, other = make(), make()
    one.answered([0.1], [200])
    assert ("tollgate_requests_total", ("status", "200")) not in samples(other)


def test_the_page_names_every_metric():
    """What is exposed is in docs/metrics.md, and nothing else is, but for the monitor's."""
    metrics = make()
    metrics.shed("overloaded")
    queue = Queue()
    queue.add([Case(1, "t-1", Outcome.REVIEW, 0.5, 1.0, 0, "", ())])
    metrics.registry.register(Measures(queue, lambda: 1))
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    table = set(re.findall(r"^\| `(tollgate_(?!monitor_)\w+)", page, re.MULTILINE))
    exposed = set(re.findall(r"^# TYPE (tollgate_\w+)", metrics.expose(None)[0].decode(), re.MULTILINE))
    assert table == exposed
