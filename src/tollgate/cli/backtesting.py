"""`tollgate backtest`: a bundle over labelled history, week by week."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from rich.table import Table

from tollgate.bundle import Bundle
from tollgate.cli.extras import extra_module
from tollgate.cli.wiring import (
    ERR,
    OUT,
    BundleOption,
    ConfigOption,
    features_of,
    hash_key,
    open_bundle,
    open_config,
    open_file,
    plan_of,
    progress_bar,
    report_rejected,
    runtime_of,
    score_of,
)
from tollgate.config import Config
from tollgate.duration import SECOND_US
from tollgate.errors import EXIT_PARTIAL, ConfigError
from tollgate.features import FeatureEngine
from tollgate.files import Rejected
from tollgate.intake import TransactionReader
from tollgate.ledger import Ledger
from tollgate.past import Past, past_of_file, past_of_ledger
from tollgate.policy import Policy
from tollgate.prequential import Figures, Verdicts, Weeks, by_week, decide
from tollgate.rules import compile_rules, read_rules

_PLAIN: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False}
_DASH = "-"


def backtest(
    data: Annotated[
        str | None,
        typer.Argument(help="Labelled transactions in order of time; the ledger without it."),
    ] = None,
    since: Annotated[
        dt.datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Where the first week begins; what is older only fills the windows."),
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train a new model for each week on what was known then; needs --since.")
    ] = False,
    rules: Annotated[Path | None, typer.Option(help="Live rules of this file decide with the thresholds.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with plots, such as backtest.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigOption = None,
    bundle: BundleOption = None,
) -> None:
    """Decide history week by week with what was known then, and show what it would have caught, disturbed and saved.

    Features are replayed; a label counts once it had come. Lists are left out: they are of today. Money is counted by
    the costs of the configuration.
    """
    settings = open_config(config)
    since_us = None if since is None else int(since.replace(tzinfo=dt.UTC).timestamp()) * SECOND_US
    if retrain and (since_us is None or rules is not None or bundle is not None):
        raise ConfigError(
            "bad_option",
            "--retrain trains a model for each week from --since on: expected --since, and no --bundle and no --rules",
        )
    if retrain:
        title, currency, trained_us = f"{settings.train.model}, trained anew each week", settings.money.currency, (0, 0)
        decided, rejected = _retrained(settings, since_us or 0, data)
    else:
        chosen = open_bundle(settings, bundle)
        title, currency = f"bundle {chosen.id}", chosen.manifest.money.currency
        trained_us = (chosen.manifest.training.start_us, chosen.manifest.training.end_us)
        decided, rejected = _decided(settings, chosen, rules, data)
    found = by_week(
        decided,
        settings.policy.costs,
        since_us=since_us,
        trained_us=trained_us,
        delay_us=settings.label.delay_us,
    )
    if as_json:
        typer.echo(msgspec.json.encode(_as_data(found, title, currency)))
    else:
        OUT.print(weeks_table(found, title, currency))
        for sentence in summary(found, currency):
            OUT.print(sentence, **_PLAIN)
    if report is not None:
        _report(report, found, title, currency)
    if data is not None and report_rejected(rejected, data):
        raise typer.Exit(EXIT_PARTIAL)


def _decided(settings: Config, chosen: Bundle, rules: Path | None, data: str | None) -> tuple[Verdicts, list[Rejected]]:
    """Return what a bundle says of a history, and the rows that could not be used."""
    manifest, plan = chosen.manifest, plan_of(chosen)
    policy = Policy(manifest.policy, None if rules is None else compile_rules(read_rules(rules), plan))
    score = score_of(chosen, runtime_of(chosen))
    reader = TransactionReader(manifest.schema_, manifest.money, hash_key())
    with _replaying(settings, reader, data) as (history, advance, rejected):
        return decide(history, FeatureEngine(plan), lambda features: score(features)[0], policy, advance), rejected


def _retrained(settings: Config, since_us: int, data: str | None) -> tuple[Verdicts, list[Rejected]]:
    """Return what models that are trained week by week say of a history."""
    module = extra_module("weekly", "train", "'tollgate backtest --retrain' needs")
    plan = features_of(settings)
    reader = TransactionReader(settings.table, settings.money, hash_key())
    with _replaying(settings, reader, data) as (history, advance, rejected):
        decided: Verdicts = module.decide_retrained(
            history, plan, settings, since_us, advance,
            lambda start_us: ERR.print(f"training for the week from {_day(start_us)}", **_PLAIN),
        )  # fmt: skip
        return decided, rejected


@contextmanager
def _replaying(
    settings: Config, reader: TransactionReader, data: str | None
) -> Iterator[tuple[Iterator[Past], Callable[[int], None], list[Rejected]]]:
    """Yield a history, what is to be told how many rows were read, and where rows go that cannot be used."""
    rejected: list[Rejected] = []
    with ExitStack() as stack:
        if data is not None:
            file = open_file(data, settings, reader, labelled=True)
            history, total, name = past_of_file(file), file.rows, file.name
        else:
            ledger = stack.enter_context(Ledger(settings.ledger.url, write=False))
            history = past_of_ledger(ledger, reader, settings.label.delay_us)
            total, name = ledger.transactions, "the ledger"
        progress = stack.enter_context(progress_bar())
        task = progress.add_task(f"replaying {name}", total=total)
        yield _keeping(history, rejected), lambda rows: progress.advance(task, rows), rejected


def _keeping(history: Iterator[Past], rejected: list[Rejected]) -> Iterator[Past]:
    for one in history:
        rejected.extend(one.rejected)
        yield one


def weeks_table(found: Weeks, title: str, currency: str) -> Table:
    """Return the weeks, one a row, and their totals."""
    table = Table(title=f"{title}: {len(found.weeks)} weeks", title_justify="left")
    table.add_column("week from", no_wrap=True)
    headings = (
        "payments", "reviews a day", "frauds", "caught", "caught %", f"caught {currency} %", "blocked wrongly",
        "disturbed %", "precision %", f"saved {currency}",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right")
    for one in found.weeks:
        mark = " *" if one.trained else ""
        table.add_row(_day(one.start_us) + mark, *cells(one.figures))
    table.add_section()
    table.add_row("all", *cells(found.total), style="bold")
    if found.unseen is not None:
        table.add_row("not trained on", *cells(found.unseen), style="bold")
    return table


def cells(figures: Figures) -> tuple[str, ...]:
    """Return figures as text, in the order of the table's columns."""
    return (
        f"{figures.transactions:,}",
        f"{figures.reviews_per_day:,.1f}",
        f"{figures.frauds:,}" if figures.known else _DASH,
        f"{figures.caught:,}" if figures.known else _DASH,
        _percent(figures.recall),
        _percent(figures.value_detection_rate),
        f"{figures.blocked_good:,}" if figures.known else _DASH,
        _percent(figures.false_positive_rate, 2),
        _percent(figures.precision),
        f"{figures.saved:,.0f}" if figures.known else _DASH,
    )


def summary(found: Weeks, currency: str) -> list[str]:
    """Return what the table's figures mean, as sentences."""
    figures = found.unseen or found.total
    immature = found.total.transactions - found.total.known
    said = [
        f"saved: {figures.saved:,.0f} {currency} against letting every payment through, which would have cost "
        f"{figures.approving_cost:,.0f}; by [policy.costs] of the configuration"
        + (", in the weeks not trained on" if found.unseen else ""),
    ]
    if immature:
        said.append(
            f"{immature:,} payments count only as payments and reviews: they are newer than {_day(found.mature_us)}, "
            "one label delay before the newest, or their label had not come, or cannot come since they were blocked"
        )
    if any(one.trained for one in found.weeks):
        said.append("* the model was trained on payments of this week: it scores them better than it will score others")
    return said


def _as_data(found: Weeks, title: str, currency: str) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(found)
    every = [*zip(data["weeks"], (one.figures for one in found.weeks), strict=True)]
    for one, figures in every:
        one["figures"] |= _rates(figures)
    data["total"] |= _rates(found.total)
    if found.unseen is not None:
        data["unseen"] |= _rates(found.unseen)
    return {"decided_by": title, "currency": currency, **data}


def _rates(figures: Figures) -> dict[str, float | None]:
    names = (
        "reviews_per_day", "recall", "value_detection_rate", "precision", "false_positive_rate", "saved",
    )  # fmt: skip
    return {name: getattr(figures, name) for name in names}


def _report(path: Path, found: Weeks, title: str, currency: str) -> None:
    module = extra_module("backtest_report", "train", "'tollgate backtest --report' needs")
    headings = [str(column.header) for column in weeks_table(found, title, currency).columns]
    text = module.backtest_report(found, title, currency, headings, cells, summary(found, currency))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError("cannot_write", f"could not write {path}: {error}", file=str(path)) from error
    ERR.print(f"wrote {path}", **_PLAIN)


def _percent(share: float | None, digits: int = 1) -> str:
    return _DASH if share is None else f"{100 * share:.{digits}f}"


def _day(moment_us: int) -> str:
    return str(np.datetime64(moment_us, "us"))[:10]
