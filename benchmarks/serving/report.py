"""The tables of a run and its measures: medians over the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.serving.closed_loop import Closed
from benchmarks.serving.measure import CONNECTIONS, Round
from benchmarks.serving.open_loop import Open
from benchmarks.serving.score_file import Scored
from benchmarks.serving.stacks import BENTOML, FASTAPI_LIGHTGBM, NGINX, TOLLGATE, Stack
from benchmarks.table import show


class Outcome(NamedTuple):
    """What a run measured, by the key of a row.

    Attributes:
        rounds: Of the closed loop.
        not_run: Why a row was not measured.
        opens: Of the open loop.
        scored: The file.
    """

    rounds: dict[str, list[Round]]
    not_run: dict[str, str]
    opens: dict[str, list[Open]]
    scored: Scored | None

    def closed(self, key: str, connections: int, measure: Callable[[Closed], float]) -> float | None:
        """Return the median over the rounds of a measure of the closed loop."""
        return _median([measure(one.closed[connections]) for one in self.rounds.get(key, ())])

    def best(self, key: str) -> float | None:
        """Return requests a second at the number of connections that suits the server better."""
        rates = [self.closed(key, connections, lambda one: one.per_s) for connections in CONNECTIONS]
        return max((rate for rate in rates if rate is not None), default=None)

    def arrays_per_s(self, key: str) -> float | None:
        """Return decisions a second of arrays."""
        return _median([one.arrays_per_s for one in self.rounds.get(key, ()) if one.arrays_per_s is not None])

    def open(self, key: str, measure: Callable[[Open], float]) -> float | None:
        """Return the median over the rounds of a measure of the open loop."""
        return _median([measure(one) for one in self.opens.get(key, ())])


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def measures(outcome: Outcome) -> dict[str, float | None]:
    """Return what the last line says; None is what was not measured."""
    own = outcome.best(TOLLGATE)

    def against(key: str) -> float | None:
        other = outcome.best(key)
        return own / other if own and other else None

    return {
        "vs_fastapi_lightgbm": against(FASTAPI_LIGHTGBM),
        "vs_bentoml": against(BENTOML),
        "requests_per_s": own,
        "open_loop_p99_ms": outcome.open(TOLLGATE, lambda one: one.p99_ms),
        "open_loop_p999_ms": outcome.open(TOLLGATE, lambda one: one.p999_ms),
        "nginx_p99_ms": outcome.open(NGINX, lambda one: one.p99_ms),
        "batch_per_s": outcome.arrays_per_s(TOLLGATE),
    }


def tell(chosen: Sequence[Stack], outcome: Outcome) -> None:
    """Print the tables."""
    own = outcome.best(TOLLGATE)
    headings = [f"{what}, {n} conn." for n in CONNECTIONS for what in ("req/s", "p99 ms")]
    rows = [_closed_row(stack, outcome, own) for stack in chosen]
    show("closed loop, one server core, medians", ["", *headings, "Tollgate is", "errors"], rows)
    if opened := [_open_row(stack, outcome) for stack in chosen if outcome.opens.get(stack.key)]:
        headings = ["req/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "sent late p99", "p99.9 ms", "errors"]
        show("open loop, latency from when a request was due", ["", *headings], opened)
    if many := _many_rows(chosen, outcome):
        show("many at a time", ["", "decisions/s, one core"], many)
    for key, why in outcome.not_run.items():
        print(f"{key}: not run: {why}")


def _open_row(stack: Stack, outcome: Outcome) -> list[str]:
    latencies: tuple[Callable[[Open], float], ...] = (
        lambda one: one.p50_ms,
        lambda one: one.p99_ms,
        lambda one: one.p999_ms,
        lambda one: one.max_ms,
        lambda one: one.late_p99_ms,
        lambda one: one.late_p999_ms,
    )
    return [
        stack.title,
        _text(outcome.open(stack.key, lambda one: one.due / one.seconds if one.seconds else 0.0)),
        *(_text(outcome.open(stack.key, measure), 2) for measure in latencies),
        f"{sum(one.due - one.answered + one.refused for one in outcome.opens[stack.key]):,}",
    ]


def _many_rows(chosen: Sequence[Stack], outcome: Outcome) -> list[list[str]]:
    rows = [[f"{one.title}, arrays", _text(outcome.arrays_per_s(one.key))] for one in chosen if one.own]
    if outcome.scored is not None:
        scored = outcome.scored
        rows.append([f"tollgate score, {scored.rows:,} rows in {scored.seconds:.1f} s", _text(scored.per_s)])
        rows.append([f"  the same with its start of {scored.start_s:.1f} s", _text(scored.rows / scored.seconds)])
    return rows


def _closed_row(stack: Stack, outcome: Outcome, own: float | None) -> list[str]:
    if stack.key in outcome.not_run:
        return [f"{stack.title}: not run", *[""] * (2 * len(CONNECTIONS)), "", ""]
    cells = []
    errors = 0
    for connections in CONNECTIONS:
        cells += [
            _text(outcome.closed(stack.key, connections, lambda one: one.per_s)),
            _text(outcome.closed(stack.key, connections, lambda one: one.p99_ms), 2),
        ]
        errors += sum(
            one.closed[connections].refused + one.closed[connections].broken for one in outcome.rounds[stack.key]
        )
    best = outcome.best(stack.key)
    ratio = f"{own / best:.{1 if own > best else 2}f}x" if own and best and stack.key != TOLLGATE else ""
    return [stack.title, *cells, ratio, f"{errors:,}"]


def _text(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
