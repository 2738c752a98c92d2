"""`tollgate monitor`: how the champion does, from the ledger alone."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Never

import msgspec
import numpy as np
import typer
from prometheus_client import start_http_server
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tollgate.bundle import Bundle, CanaryShare
from tollgate.cli.extras import extra_module
from tollgate.cli.wiring import ERR, OUT, BundleOption, ConfigOption, now_us, open_bundle, open_config, open_registry
from tollgate.config import Config, PolicyConfig
from tollgate.duration import SECOND_US, parse_duration_us
from tollgate.errors import EXIT_ATTENTION, BundleError, ConfigError, LedgerError
from tollgate.gauges import Gauges
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger
from tollgate.ledger.decided import decided_since, newest_us
from tollgate.ledger.labels import labels_of
from tollgate.monitor import Finding, State, findings, worst
from tollgate.observation import Observation, Observer, Periods

_HOST = "127.0.0.1"  # of the metrics: for a scraper on this machine
_COLOURS = {State.ATTENTION: "bold red", State.WATCH: "yellow", State.UNKNOWN: "dim", State.FINE: "green"}
_DAY_S = 86_400
_PLAIN: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False}
_READING_KEY = bytes(16)  # entities are not looked at, so any key does


def monitor(
    window: Annotated[str | None, typer.Option(help="How much is looked at; \\[monitor] window by default.")] = None,
    at: Annotated[
        dt.datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Look as of then (UTC); now by default."),
    ] = None,
    every: Annotated[str | None, typer.Option(help="Look again and again, such as every 10m.")] = None,
    port: Annotated[int | None, typer.Option(help="With --every: serve /metrics on this port of 127.0.0.1.")] = None,
    textfile: Annotated[
        Path | None, typer.Option(help="Write metrics for node_exporter's textfile collector, such as tollgate.prom.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with plots, such as monitor.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Show what is fine, too.")] = False,
    config: ConfigOption = None,
    bundle: BundleOption = None,
) -> None:
    """Show drift, freshness and how good decisions were, from the ledger, beside a running server; worst first.

    Ends with exit code 6 when something is over its limit (see docs/monitoring.md).
    """
    settings = open_config(config)
    if window is not None:
        settings = msgspec.structs.replace(settings, monitor=msgspec.structs.replace(settings.monitor, window=window))
    if port is not None and every is None:
        raise ConfigError("bad_option", "--port serves metrics as long as the monitor runs; use it with --every")
    if at is not None and every is not None:
        raise ConfigError("bad_option", "--at looks at one moment, --every again and again; leave one of them out")
    outputs = _Outputs(Gauges(), as_json, show_all, textfile, report)
    if port is not None:
        _serve(port, outputs.gauges)
    if every is not None:
        _watch(settings, bundle, outputs, every)
    at_us = now_us() if at is None else int(at.replace(tzinfo=dt.UTC).timestamp()) * SECOND_US
    if _run(settings, bundle, outputs, at_us) is State.ATTENTION:
        raise typer.Exit(EXIT_ATTENTION)


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Where to say what was found."""

    gauges: Gauges
    as_json: bool
    show_all: bool
    textfile: Path | None
    report: Path | None


def _serve(port: int, gauges: Gauges) -> None:
    try:
        server, _ = start_http_server(port, _HOST, gauges.registry)
    except OSError as error:
        raise ConfigError("port_in_use", f"could not serve on {_HOST}:{port}: {error}; use another port") from error
    ERR.print(f"metrics on http://{_HOST}:{server.server_port}/metrics", **_PLAIN)


def _watch(settings: Config, bundle: str | None, outputs: _Outputs, every: str) -> Never:
    """Look again and again; what cannot be read now may be read the next time."""
    pause_s = parse_duration_us(every) / SECOND_US
    while True:
        try:
            _run(settings, bundle, outputs, now_us())
        except (LedgerError, BundleError) as error:  # the metric of the last run's time says how old all others are
            ERR.print(f"[red]{error.code}[/red]: {escape(error.message)}; looking again in {every}", soft_wrap=True)
        time.sleep(pause_s)


def _run(settings: Config, bundle: str | None, outputs: _Outputs, at_us: int) -> State:
    """Look once; return how the worst of what was found stands."""
    chosen = open_bundle(settings, bundle)
    seen = look(settings, chosen, at_us)
    found = findings(seen, settings.monitor)
    outputs.gauges.show(seen, found)
    _tell(seen, found, _canary(settings), as_json=outputs.as_json, show_all=outputs.show_all)
    if outputs.textfile is not None:
        outputs.gauges.write(outputs.textfile)
    if outputs.report is not None:
        _report(outputs.report, seen, found, chosen)
    return worst(found)


def look(settings: Config, chosen: Bundle, at_us: int) -> Observation:
    """Return what is to be seen of a bundle's decisions at a moment."""
    manifest = chosen.manifest
    reader = TransactionReader(manifest.schema_, manifest.money, _READING_KEY)
    with Ledger(settings.ledger.url, write=False) as ledger:
        newest = newest_us(ledger.engine)
        periods = Periods.of(at_us, newest, parse_duration_us(settings.monitor.window), settings.label.delay_us)
        observer = Observer(
            chosen.id, manifest, periods, settings.monitor.late_us, lambda one: _policy(settings, one, manifest.policy)
        )
        for part in decided_since(ledger.engine, periods.since_us):
            observer.add(
                part,
                lambda ids: labels_of(ledger.engine, ids, at_us),
                lambda bodies: reader.from_bodies(bodies).value("amount") / manifest.money.scale,
            )
        return observer.observation(at_us, newest)


def _policy(settings: Config, bundle_id: str, otherwise: PolicyConfig) -> PolicyConfig:
    """Return the thresholds of a challenger; the champion's where its bundle is gone."""
    try:
        return open_bundle(settings, bundle_id).manifest.policy
    except BundleError as error:
        ERR.print(f"[yellow]the challenger is held to the champion's thresholds[/yellow]: {escape(error.message)}")
        return otherwise


def _canary(settings: Config) -> CanaryShare | None:
    """Return the canary; what was found is not held back because it cannot be read."""
    try:
        return open_registry(settings).beside_champion()
    except BundleError as error:
        ERR.print(f"[yellow]whether there is a canary is not known[/yellow]: {escape(error.message)}", soft_wrap=True)
        return None


def _tell(
    seen: Observation, found: Sequence[Finding], canary: CanaryShare | None, *, as_json: bool, show_all: bool
) -> None:
    if as_json:
        typer.echo(msgspec.json.encode({"state": worst(found), "canary": canary, "findings": found, "seen": seen}))
        return
    OUT.print(findings_table(seen, found, show_all=show_all))
    if canary is not None:
        OUT.print(f"canary {canary.bundle}: decides for {canary.percent} of the cards", **_PLAIN)
    for one in seen.challengers:
        OUT.print(
            f"challenger {one.bundle}: {one.transactions:,} payments scored by both, {one.same:.1%} treated alike; it "
            f"would raise {one.alerts:,} alerts, the champion's score raises {one.champion_alerts:,}, "
            f"{one.alerts_in_common:,} in common",
            **_PLAIN,
        )
    for lag in seen.lags:
        OUT.print(
            f"labels by {lag.source}: {lag.labels:,}, half of them within {lag.median_s / _DAY_S:.1f} days, nine of "
            f"ten within {lag.slow_s / _DAY_S:.1f}",
            **_PLAIN,
        )


def findings_table(seen: Observation, found: Sequence[Finding], *, show_all: bool) -> Table:
    """Return findings as a table, the worst first; of features over no limit only how many, unless all are wanted."""
    names = {one.name for one in seen.features}
    quiet = (State.FINE, State.UNKNOWN)
    shown = [one for one in found if show_all or one.state not in quiet or one.subject not in names]
    newest, mature = (" to ".join(map(_day, period)) for period in (seen.period_us, seen.mature_us))
    title = f"bundle {seen.bundle}: payments of {newest}; labels have come for those of {mature}"
    table = Table(title=title, title_justify="left")
    for heading in ("", "what", "figure"):
        table.add_column(heading)
    table.add_column("value", justify="right")
    table.add_column("limit", justify="right")
    table.add_column("what it means", overflow="fold")
    for one in shown:
        cells = (one.subject, one.measure, one.value, one.limit, one.text)
        table.add_row(Text(one.state.value, style=_COLOURS[one.state]), *map(Text, cells))
    hidden = [
        f"{count} {text}"
        for state, text in ((State.FINE, "as in training"), (State.UNKNOWN, "of which too few payments were seen"))
        if (count := sum(one.state is state and one.subject in names for one in found))
    ]
    if hidden and not show_all:
        table.caption = f"other figures of features: {', '.join(hidden)}; --all shows them"
        table.caption_justify = "left"
    return table


def _report(path: Path, seen: Observation, found: Sequence[Finding], chosen: Bundle) -> None:
    page = extra_module("monitor_report", "train", "'tollgate monitor --report' needs")
    try:
        path.write_text(page.monitor_report(seen, found, chosen.manifest.money.currency), encoding="utf-8")
    except OSError as error:
        raise ConfigError("cannot_write", f"could not write {path}: {error}", file=str(path)) from error
    ERR.print(f"wrote {path}", **_PLAIN)


def _day(moment_us: int) -> str:
    return str(np.datetime64(moment_us, "us"))[:10]
