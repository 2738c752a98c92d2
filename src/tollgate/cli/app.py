"""`tollgate`: the list of commands, and how they end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tollgate import __version__
from tollgate.cli.actor import ByOption
from tollgate.cli.archive import archive
from tollgate.cli.audit import audit
from tollgate.cli.backfill import backfill
from tollgate.cli.backtesting import backtest
from tollgate.cli.bundles import bundles
from tollgate.cli.extras import extra_module
from tollgate.cli.features import features
from tollgate.cli.history import import_history
from tollgate.cli.keys import keys
from tollgate.cli.labels import label
from tollgate.cli.lists import lists
from tollgate.cli.monitoring import monitor
from tollgate.cli.rules import rules
from tollgate.cli.scoring import score
from tollgate.cli.serving import serve
from tollgate.cli.simulate import simulate
from tollgate.cli.wiring import ERR, BundleOption, ConfigOption
from tollgate.errors import TollgateError

app = typer.Typer(
    name="tollgate",
    help="Decide in milliseconds whether a payment is let through, reviewed or blocked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

DataArgument = Annotated[
    str, typer.Argument(help="Labelled transactions: .parquet, .csv or .jsonl, or a folder or URL of such files.")
]


def _extra(name: str, module: str, extra: str) -> Callable[..., None]:
    """Return a command that needs an extra; a serving image has no PyTorch."""
    command: Callable[..., None] = getattr(extra_module(f"cli.{module}", extra, f"'tollgate {name}' needs"), name)
    return command


def _trainer(name: str) -> Callable[..., None]:
    return _extra(name, {"demo": "demonstration", "retrain": "retraining"}.get(name, "training"), "train")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tollgate {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Decide in milliseconds whether a payment is let through, reviewed or blocked."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo keeps what it makes; emptied first.")] = Path("demo"),
    transactions: Annotated[int, typer.Option(help="How many payments to simulate.", min=20_000)] = 200_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same payments.")] = 7,
) -> None:
    """Simulate, train, evaluate, serve and send live traffic, and show it as it happens."""
    _trainer("demo")(folder, transactions, seed)


@app.command()
def train(
    data: Annotated[
        str | None,
        typer.Argument(
            help="Labelled transactions: .parquet, .csv or .jsonl, or a folder or URL of such files; without one, "
            "those of the ledger."
        ),
    ] = None,
    config: ConfigOption = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Make the bundle the champion even if there is one already.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Train on, in small steps, from a bundle: its id, or 'champion'."),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(help="Search parameters for that long (10m), for the model and for LightGBM each."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="In place of \\[train] model: mlp, tabm, sequence, lightgbm or package.module:Class."),
    ] = None,
) -> None:
    """Train a model on labelled history, measure it beside others, and store it as a bundle.

    A training that was killed goes on where it was when the same command is run again. On several processes or GPUs:
    torchrun --nproc-per-node 2 -m tollgate train ...
    """
    _trainer("train")(data, config, promote, start, tune, model)


@app.command()
def evaluate(data: DataArgument, config: ConfigOption = None, bundle: BundleOption = None) -> None:
    """Measure a bundle on the test period, beside LightGBM on the same features."""
    _trainer("evaluate")(data, config, bundle)


@app.command()
def stream(
    config: ConfigOption = None,
    bundle: BundleOption = None,
    internal_port: Annotated[
        int | None, typer.Option(help="Port for operators; \\[serve] internal_port by default, 0 takes a free one.")
    ] = None,
    schemas: Annotated[
        bool, typer.Option("--schemas", help="Print the JSON Schema of the records of every topic, and end.")
    ] = False,
) -> None:
    """Decide what comes on a Kafka topic, exactly once: decisions, alerts and dead letters go to topics of their own.

    One worker has one ledger. Metrics, health and the champion are on the internal port, as of 'tollgate serve'.
    """
    _extra("stream", "streaming", "kafka")(config, bundle, internal_port, schemas)


@app.command()
def retrain(
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train and compare, but leave the champion as it is.")
    ] = False,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Train on from the champion's weights instead of from nothing.")
    ] = False,
    every: Annotated[
        str | None, typer.Option(help="Go on, and do it again each time so much has passed: 1d, 12h.")
    ] = None,
    by: ByOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what came of it as JSON.")] = False,
) -> None:
    """Train a challenger from the ledger alone, compare it with the champion, and promote it only if it is better.

    Ends with 6 where it was refused: the labels cannot be believed, or the challenger is not better. Running servers
    take a promoted one within a second.
    """
    _trainer("retrain")(config, dry_run, incremental, every, by, as_json)


app.add_typer(features)
app.command()(archive)
app.add_typer(bundles)
app.add_typer(keys)
app.add_typer(lists)
app.add_typer(rules)
app.command()(audit)
app.command()(backfill)
app.command()(backtest)
app.command()(score)
app.command("import")(import_history)
app.command()(label)
app.command()(monitor)
app.command()(serve)
app.command()(simulate)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; deliberate errors become one line and an exit code."""
    try:
        app(args=arguments)
    except TollgateError as error:
        ERR.print(f"[bold red]error[/bold red] [dim]({error.code})[/dim]: {escape(error.message)}", soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
