"""What a monitor found, as a page. Needs the extra `train`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tollgate import charts
from tollgate.decision import Outcome
from tollgate.drift import Drift
from tollgate.duration import DAY_US
from tollgate.monitor import Finding, State
from tollgate.observation import Observation
from tollgate.page import Page, Picture, Section, Table, render

_MOST_PICTURES = 6  # of features: those that moved most
_DASH = "\N{EN DASH}"


def monitor_report(seen: Observation, found: Sequence[Finding], currency: str) -> str:
    """Return the report as HTML.

    Args:
        seen: What was seen.
        found: What it means, the worst first.
        currency: Of the amounts.
    """
    done = seen.performance
    bad = [one for one in found if one.state is State.ATTENTION]
    lead = (
        f"{len(bad)} of {len(found)} things that were looked at ask for attention: "
        + ", ".join(f"{one.subject} ({one.measure})" for one in bad[:8])
        + (", and more." if len(bad) > 8 else ".")
        if bad
        else f"Nothing asks for attention, of {len(found)} things that were looked at."
    )
    start_us, end_us = seen.period_us
    days = (end_us - start_us) / DAY_US
    tiles = [
        (f"{seen.traffic.transactions:,}", f"payments decided in the newest {days:g} days"),
        (f"{seen.traffic.alerts / days:,.1f}", "alerts a day"),
        (_share(done.recall), f"of {done.frauds:,} known frauds held or blocked"),
        (_share(done.precision), f"of {done.alerts:,} known alerts is fraud"),
        (_share(done.value_detection_rate), f"of {done.fraud_value:,.0f} {currency} in frauds held or blocked"),
    ]
    return render(
        Page(
            title="Monitoring report",
            about=f"Bundle {seen.bundle}, as seen at {_time(seen.at_us)}. Newest payments: {_period(seen.period_us)}; "
            f"payments whose labels have come: {_period(seen.mature_us)}.",
            lead=[lead],
            tiles=tiles,
            sections=_sections(seen, found),
        )
    )


def _sections(seen: Observation, found: Sequence[Finding]) -> list[Section]:
    findings = Table(
        ("", "what", "figure", "value", "limit", "meaning"),
        [(one.state.value, one.subject, one.measure, one.value, one.limit, one.text) for one in found],
        words=6,
        marks=[one.state.value for one in found],
    )
    sections = [Section("Findings, the worst first", findings)]
    if seen.traffic.days:
        labels = [one.day[5:] for one in seen.traffic.days]
        layers = {
            outcome.value: [one.outcomes[outcome] for one in seen.traffic.days]
            for outcome in (Outcome.REVIEW, Outcome.BLOCK)
        }
        picture = Picture("Day by day (UTC)", "Reviewed and blocked.", charts.stacked(labels, layers, "payments"))
        sections.append(Section("Alerts", pictures=[picture]))
    drifts = [one for one in ([seen.score] if seen.score else []) if one.psi is not None]
    drifts += sorted((one for one in seen.features if one.psi is not None), key=lambda one: -(one.psi or 0.0))
    if drifts:
        pictures = [
            Picture(one.name, f"PSI {one.psi:.3f}; by chance up to {one.chance:.3f}.", charts.shares(one))
            for one in drifts[:_MOST_PICTURES]
        ]
        sections.append(Section("What moved most", pictures=pictures))
    if seen.calibration.bins:
        picture = Picture(
            "Does 10% mean 10%?",
            "Dots on the line are right; bars are 95% intervals.",
            charts.calibration(seen.calibration.bins),
        )
        sections.append(Section("Calibration", _calibration(seen), [picture]))
    if seen.lags:
        rows = [
            (one.source, f"{one.labels:,}", f"{one.frauds:,}", _days(one.median_s), _days(one.slow_s))
            for one in seen.lags
        ]
        note = "Of payments so old that labels of the configured delay have come."
        sections.append(
            Section(
                "How long labels take", Table(("source", "labels", "frauds", "median", "nine of ten"), rows, note=note)
            )
        )
    if seen.challengers:
        sections.append(Section("Challenger", _challengers(seen)))
    if seen.features:
        sections.append(Section("All features", _features(seen.features)))
    return sections


def _calibration(seen: Observation) -> Table:
    rows = [
        (
            f"{one.low:g} to {one.high:g}",
            f"{one.transactions:,}",
            f"{one.expected:,.1f}",
            f"{one.frauds:,}",
            f"{one.least * one.transactions:,.1f} to {one.most * one.transactions:,.1f}",
        )
        for one in seen.calibration.bins
    ]
    note = (
        f"{seen.performance.blocked_unknown:,} blocked payments have no label. All that were blocked are left "
        "out here: a payment that did not happen brings no chargeback."
    )
    return Table(("score", "payments", "frauds expected", "seen", "95% interval"), rows, note=note)


def _challengers(seen: Observation) -> Table:
    rows = [
        (
            one.bundle,
            f"{one.transactions:,}",
            f"{one.unscored:,}",
            _share(one.same),
            f"{one.mean_difference:+.4f}",
            f"{one.mean_distance:.4f}",
            f"{one.alerts:,}",
            f"{one.champion_alerts:,}",
            f"{one.alerts_in_common:,}",
        )
        for one in seen.challengers
    ]
    headings = (
        "bundle", "payments", "unscored", "treated alike", "mean difference", "mean distance", "its alerts",
        "champion's", "in common",
    )  # fmt: skip
    return Table(headings, rows)


def _features(features: Sequence[Drift]) -> Table:
    rows = [
        (
            one.name,
            _DASH if one.psi is None else f"{one.psi:.3f}",
            f"{one.expected:.3f}",
            f"{one.chance:.3f}",
            _share(one.missing),
            _share(one.missing_before),
        )
        for one in sorted(features, key=lambda one: -(one.psi or 0.0))
    ]
    note = (
        "Expected is the PSI without any drift; by chance it exceeds the next column once in a thousand, if payments "
        "are independent."
    )
    return Table(("feature", "PSI", "expected", "by chance", "missing", "in training"), rows, note=note)


def _share(value: float | None) -> str:
    return _DASH if value is None else f"{value:.1%}"


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:.1f} d"


def _time(moment_us: int) -> str:
    return str(np.datetime64(moment_us, "us"))[:16].replace("T", " ") + " UTC"


def _period(period: tuple[int, int]) -> str:
    return f"{_time(period[0])} to {_time(period[1])}"
