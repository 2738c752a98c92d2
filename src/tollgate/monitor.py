"""From what was seen to what it means: findings, each with its limit, the worst first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from tollgate.config import MonitorConfig
from tollgate.drift import Drift
from tollgate.duration import DAY_US
from tollgate.observation import Observation

_MORE = 3.0  # standard deviations from which frauds are more or fewer than chance explains
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_DASH = "\N{EN DASH}"


class State(StrEnum):
    """How a finding stands, the worst first."""

    ATTENTION = "attention"  # over its limit
    WATCH = "watch"  # on its way there
    UNKNOWN = "unknown"  # too little to tell
    FINE = "fine"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        subject: What: `score`, the name of a feature, `recall`.
        measure: Which figure of it: `drift`, `missing`, `share`.
        state: How it stands.
        value: The figure, as people read it.
        limit: From when on it asks for attention, likewise; empty without a limit.
        text: What it means, as a sentence.
        weight: The figure over its limit; orders findings of one state.
    """

    subject: str
    measure: str
    state: State
    value: str
    limit: str
    text: str
    weight: float = 0.0


def findings(seen: Observation, config: MonitorConfig) -> tuple[Finding, ...]:
    """Return what an observation means, the worst first."""
    found = [
        *_traffic(seen, config),
        *([] if seen.score is None else _drift(seen.score, "the score", config)),
        *(finding for one in seen.features for finding in _drift(one, "this feature", config)),
        *_performance(seen, config),
    ]
    states = list(State)
    return tuple(sorted(found, key=lambda one: (states.index(one.state), -one.weight)))


def worst(found: Sequence[Finding]) -> State:
    """Return how the worst of some findings stands."""
    return found[0].state if found else State.FINE


def _traffic(seen: Observation, config: MonitorConfig) -> list[Finding]:
    traffic, age_s = seen.traffic, seen.age_s
    rows = traffic.transactions
    others = f", beside {traffic.others:,} by other bundles" if traffic.others else ""
    found = [
        Finding(
            "decisions",
            "count",
            State.FINE if rows else State.ATTENTION,
            f"{rows:,}",
            "",
            f"decided by this bundle in the newest period{others}"
            if rows
            else f"this bundle decided nothing in the newest period{others}: is it the champion?",
        ),
        _over(
            ("newest payment", "age"),
            math.inf if age_s is None else age_s,
            config.stale_s,
            f"{_lasting(age_s)}",
            _lasting(config.stale_s),
            "since the newest payment: if traffic should come, look for where it stops",
        ),
    ]
    if rows:
        degraded, late = traffic.degraded / rows, traffic.late / rows
        found += [
            _over(
                ("degraded", "share"),
                degraded,
                config.degraded_limit,
                _percent(degraded),
                _percent(config.degraded_limit),
                "decided by the fallback, without the model: see tollgate_degraded_total for the reasons",
            ),
            _over(
                ("late", "share"),
                late,
                config.late_limit,
                _percent(late),
                _percent(config.late_limit),
                f"came more than {config.late_after} behind an earlier one: see docs/features.md",
            ),
            _alerts(seen, config),
        ]
    return found


def _alerts(seen: Observation, config: MonitorConfig) -> Finding:
    start_us, end_us = seen.period_us
    a_day = seen.traffic.alerts * DAY_US / (end_us - start_us)
    text = "held or blocked, a day: what analysts are to look at"
    if config.alerts_per_day is None:
        return Finding("alerts", "a day", State.FINE, f"{a_day:,.1f}", "", text)
    return _over(("alerts", "a day"), a_day, config.alerts_per_day, f"{a_day:,.1f}", f"{config.alerts_per_day:,}", text)


def _drift(one: Drift, what: str, config: MonitorConfig) -> list[Finding]:
    if one.psi is None or one.rows < config.fewest_rows:
        return [
            Finding(
                one.name,
                "drift",
                State.UNKNOWN,
                _DASH if one.psi is None else f"{one.psi:.3f}",
                f"{config.psi_limit:g}",
                f"{one.rows:,} payments are too few to tell: without any drift {one.expected:.3f} is to be expected",
            )
        ]
    state = State.FINE
    if one.is_beyond_chance:
        state = _state(one.psi, config.psi_watch, config.psi_limit)
    meaning = {
        State.FINE: f"{what} is distributed as in training",
        State.WATCH: f"{what} has moved since training",
        State.ATTENTION: f"{what} has moved far since training: {_moved(one)}",
        State.UNKNOWN: "",
    }[state]
    if state is State.FINE and one.psi >= config.psi_watch:
        meaning = f"no more than chance explains with {one.rows:,} payments, which may give {one.chance:.3f}"
    found = [
        Finding(
            one.name, "drift", state, f"{one.psi:.3f}", f"{config.psi_limit:g}", meaning, one.psi / config.psi_limit
        )
    ]
    if one.lost > config.missing_limit and one.missing is not None:
        why = (
            "is a field not sent any more?"
            if one.missing > one.missing_before
            else "is a field newly sent, or did the training begin with empty windows?"
        )
        text = f"missing, {_percent(one.missing_before)} in training: {why}"
        change = f"{_percent(one.missing_before)} \N{PLUS-MINUS SIGN} {_percent(config.missing_limit)}"
        found.append(
            Finding(
                one.name,
                "missing",
                State.ATTENTION,
                _percent(one.missing),
                change,
                text,
                one.lost / config.missing_limit,
            )
        )
    return found


def _moved(one: Drift) -> str:
    """Return which bin has gained most, and what it had."""
    gains = [now - then for now, then in zip(one.shares, one.shares_before, strict=True)]
    place = max(range(len(gains)), key=gains.__getitem__)
    share = f"holds {_percent(one.shares[place])} of the payments, {_percent(one.shares_before[place])} in training"
    if place == len(gains) - 1:
        return f"missing {share}"
    if one.categorical:
        return f"{'one category' if place < len(one.edges) else 'what was rare'} {share}"
    if not one.edges:
        return f"what was always missing {share}"
    if place == 0:
        return f"below {one.edges[0]:.4g} {share}"
    if place == len(one.edges):
        return f"from {one.edges[-1]:.4g} on {share}"
    return f"{one.edges[place - 1]:.4g} to {one.edges[place]:.4g} {share}"


def _performance(seen: Observation, config: MonitorConfig) -> list[Finding]:
    done = seen.performance
    if done.frauds < config.fewest_frauds:
        text = (
            f"{done.transactions:,} payments are old enough for their labels, with {done.frauds:,} known frauds: with "
            f"fewer than {config.fewest_frauds} nothing is judged"
        )
        return [Finding("performance", "frauds known", State.UNKNOWN, f"{done.frauds:,}", "", text)]
    left_out = (
        f"; {done.blocked_unknown:,} blocked ones have no label and count nowhere" if done.blocked_unknown else ""
    )
    return [
        _least(
            "precision",
            done.precision,
            config.precision_limit,
            f"of {done.alerts:,} held or blocked is fraud{left_out}",
        ),
        _least("recall", done.recall, config.recall_limit, f"of {done.frauds:,} known frauds was held or blocked"),
        _least("value detection", done.value_detection_rate, None, "of the money in them was"),
        _calibration(seen, config),
    ]


def _calibration(seen: Observation, config: MonitorConfig) -> Finding:
    calibration = seen.calibration
    ratio, limit = calibration.ratio, config.calibration_limit
    told = f"{calibration.frauds:,} of {calibration.expected:,.1f}"
    bounds = f"{1 / limit:.2f} to {limit:.2f} times"
    if ratio is None or max(calibration.expected, calibration.frauds) < config.fewest_frauds:
        text = "frauds came of those that the scores expect among payments let through or held: too few to judge"
        return Finding("calibration", "frauds", State.UNKNOWN, told, bounds, text)
    off = max(ratio, 1 / ratio if ratio > 0 else math.inf)
    chance = calibration.surprise <= _MORE
    state = State.FINE if chance else _state(off, math.sqrt(limit), limit)
    text = f"frauds came of those that the scores expect: {ratio:.2f} times as many"
    if off > limit and chance:
        text += ", which chance explains"
    return Finding("calibration", "frauds", state, told, bounds, text, off / limit)


def _over(names: tuple[str, str], value: float, limit: float, shown: str, shown_limit: str, text: str) -> Finding:
    state = State.ATTENTION if value > limit else State.FINE
    return Finding(*names, state, shown, shown_limit, text, value / limit if limit else value)


def _least(subject: str, value: float | None, limit: float | None, text: str) -> Finding:
    if value is None:
        return Finding(subject, "share", State.UNKNOWN, _DASH, "" if limit is None else _percent(limit), text)
    if limit is None:
        return Finding(subject, "share", State.FINE, _percent(value), "", text)
    state = State.ATTENTION if value < limit else State.FINE
    return Finding(
        subject, "share", state, _percent(value), f"at least {_percent(limit)}", text, limit / max(value, 1e-9)
    )


def _state(value: float, watch: float, limit: float) -> State:
    if value > limit:
        return State.ATTENTION
    return State.WATCH if value > watch else State.FINE


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if share == 0 or share >= 0.001 else f"{100 * share:.3f}%"


def _lasting(seconds: float | None) -> str:
    """Return a time as people say it."""
    if seconds is None:
        return "never"
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.1f} {unit}"
    return f"{seconds:.0f} s"
