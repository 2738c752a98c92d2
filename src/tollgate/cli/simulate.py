"""`tollgate simulate`: synthetic payments into a file, or live to a server."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import polars as pl
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tollgate.duration import SECOND_US, parse_duration_us
from tollgate.errors import EXIT_PARTIAL, ConfigError
from tollgate.simulate import Scenario, payloads, write
from tollgate.simulate import simulate as make_payments
from tollgate.simulate.traffic import Answer, Tally, send

_DEFAULTS = Scenario()
_FIRST_DAY = dt.datetime.combine(_DEFAULTS.start, dt.time())  # the command line knows no dates, only times
_OK = 200
_MILLISECONDS = 1e3  # in a second


def simulate(
    output: Annotated[
        Path | None, typer.Argument(help="Where to write the payments, such as payments.parquet.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Send them live, such as to http://127.0.0.1:8080/predict.", rich_help_panel="Live"),
    ] = None,
    transactions: Annotated[int, typer.Option(help="How many payments, fraud included.")] = _DEFAULTS.transactions,
    cards: Annotated[int, typer.Option(help="How many cards.")] = _DEFAULTS.cards,
    merchants: Annotated[int, typer.Option(help="How many merchants.")] = _DEFAULTS.merchants,
    days: Annotated[int, typer.Option(help="Over how many days.")] = _DEFAULTS.days,
    start: Annotated[
        dt.datetime, typer.Option(formats=["%Y-%m-%d"], help="The first day.", show_default=str(_DEFAULTS.start))
    ] = _FIRST_DAY,
    fraud_rate: Annotated[float, typer.Option(help="Share of fraud.")] = _DEFAULTS.fraud_rate,
    seed: Annotated[int, typer.Option(help="The same seed gives the same payments.")] = _DEFAULTS.seed,
    last: Annotated[str | None, typer.Option(help="Send only the newest, such as 7d.", rich_help_panel="Live")] = None,
    rate: Annotated[float, typer.Option(help="Requests a second.", rich_help_panel="Live")] = 100.0,
    limit: Annotated[str, typer.Option(help="Stop sending after this time.", rich_help_panel="Live")] = "60s",
    connections: Annotated[int, typer.Option(help="Requests on their way at once.", rich_help_panel="Live")] = 32,
) -> None:
    """Make synthetic card payments with five kinds of fraud: into a Parquet file, live to a server, or both."""
    if output is None and url is None:
        raise ConfigError("no_output", "expected a file to write, such as payments.parquet, or --url to send to")
    scenario = Scenario(
        transactions=transactions,
        cards=cards,
        merchants=merchants,
        days=days,
        start=start.date(),
        fraud_rate=fraud_rate,
        seed=seed,
    )
    limit_s = parse_duration_us(limit) / SECOND_US
    last_us = None if last is None else parse_duration_us(last)
    console = Console()
    with console.status(f"simulating {transactions:,} payments"):
        frame = make_payments(scenario)
    console.print(_overview(frame))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        with console.status(f"writing {output}"):
            write(frame, output)
        console.print(f"wrote {output} ({output.stat().st_size / 2**20:.1f} MiB)", soft_wrap=True)
    if url is not None:
        if last_us is not None:
            frame = frame.filter(
                pl.col("effective_time") > pl.col("effective_time").max() - dt.timedelta(microseconds=last_us)
            )
        _send_live(console, frame, url, rate, limit_s, connections)


def _overview(frame: pl.DataFrame) -> Table:
    """Return what was made, by typology."""
    first, final = frame["effective_time"][0], frame["effective_time"][-1]
    table = Table(title=f"{len(frame):,} payments, {first:%Y-%m-%d} to {final:%Y-%m-%d}", title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("payments", "share", "cards", "median EUR", "days to label"):
        table.add_column(heading, justify="right")
    delay_days = (pl.col("label_available") - pl.col("effective_time")).dt.total_seconds() / 86_400
    groups = (
        frame.group_by(pl.col("typology").fill_null("genuine"))
        .agg(
            pl.len(),
            pl.col("card_id").n_unique().alias("cards"),
            pl.col("amount").median(),
            delay_days.median().alias("delay_days"),
        )
        .sort("len", "typology", descending=True)
    )
    for name, count, cards, amount, delay in groups.iter_rows():
        table.add_row(name, f"{count:,}", f"{count / len(frame):.3%}", f"{cards:,}", f"{amount:.2f}", f"{delay:.1f}")
    return table


class _Outcome(msgspec.Struct):
    """What of a decision is shown; its other fields are skipped."""

    outcome: str


def _send_live(console: Console, frame: pl.DataFrame, url: str, rate: float, limit_s: float, connections: int) -> None:
    """Send the payments and show what comes back; exit with `EXIT_PARTIAL` if not all were decided."""
    latencies_s: list[float] = []
    outcomes: Counter[str] = Counter()
    decode = msgspec.json.Decoder(_Outcome).decode
    columns = (
        TextColumn("sending"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=min(len(frame), int(rate * limit_s)))

        def show(answer: Answer) -> None:
            latencies_s.append(answer.latency_s)
            outcomes[decode(answer.body).outcome if answer.status == _OK else answer.failure or str(answer.status)] += 1
            progress.update(bar, advance=1, description=", ".join(f"{n} {name}" for name, n in outcomes.most_common()))

        tally = asyncio.run(
            send(url, payloads(frame), rate=rate, limit_s=limit_s, connections=connections, on_answer=show)
        )
    console.print(_summary(tally, outcomes, latencies_s))
    if tally.failures or set(tally.statuses) - {_OK}:
        raise typer.Exit(EXIT_PARTIAL)


def _summary(tally: Tally, outcomes: Counter[str], latencies_s: list[float]) -> Table:
    table = Table(title=f"{tally.sent:,} requests in {tally.elapsed_s:.1f} s", title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for name, count in outcomes.most_common():
        table.add_row(name, f"{count:,}")
    table.add_row("retried after 503", f"{tally.retries:,}")
    table.add_row("unanswered at the end", f"{tally.unanswered:,}")
    if latencies_s:
        for quantile in (50, 99):
            latency_ms = float(np.percentile(latencies_s, quantile)) * _MILLISECONDS
            table.add_row(f"p{quantile} latency_ms, from when it was due", f"{latency_ms:.1f}")
    return table
