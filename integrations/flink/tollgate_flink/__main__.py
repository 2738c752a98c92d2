"""`python -m tollgate_flink`: the two jobs; the only place that puts their parts together."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.engine import make_url

from tollgate.bundle import Registry
from tollgate.cli.wiring import BundleOption, ConfigOption, open_config
from tollgate.config import Config, read_config
from tollgate.control import ListEntry
from tollgate.errors import EXIT_PARTIAL, TollgateError
from tollgate.ledger.controls import Controls
from tollgate_flink import enrich as enriching
from tollgate_flink import rescore as rescoring
from tollgate_flink.environment import connector, newest_checkpoint
from tollgate_flink.settings import Settings, read_settings
from tollgate_flink.tables import read_tables

JARS = Path(__file__).resolve().parents[3] / "build" / "flink" / "jars"
_KEY_BYTES = 32

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def enrich(
    settings: Annotated[Path, typer.Argument(help="From where to where, and how: a TOML file.")],
    jars: Annotated[Path, typer.Option(help="Folder of the Kafka connector.")] = JARS,
    name: Annotated[str, typer.Option(help="Of the job and its Kafka transactions.")] = "tollgate-enrich",
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew instead of at the newest checkpoint.")] = False,
) -> None:
    """Make Tollgate's transactions out of a topic of foreign records, exactly once, until stopped."""
    read = read_settings(settings)
    folder = settings.resolve().parent
    config = read_config(folder / read.tollgate)
    target = _target(config)
    tables = read_tables(read.tables, read.rules, folder)
    checkpoints, newest = _checkpoints(read, folder)
    resume = None if fresh or newest is None else newest.resolve().as_uri()
    begins = f"at {resume}" if resume else f"at the {read.kafka.start} records"
    typer.echo(f"{name}: {read.kafka.source} to {read.kafka.target}, beginning {begins}")
    enriching.run(read, tables, target, connector(jars), checkpoints, resume, name)


@app.command()
def rescore(
    data: Annotated[Path, typer.Argument(help="Transactions in order of time: .parquet, .csv or .jsonl.")],
    output: Annotated[Path, typer.Argument(help="A new folder for the decisions, as parts in Parquet.")],
    config: ConfigOption = None,
    bundle: BundleOption = None,
    parallelism: Annotated[int, typer.Option(min=1, help="Tasks that judge.")] = 1,
    name: Annotated[str, typer.Option(help="Of the job.")] = "tollgate-rescore",
) -> None:
    """Decide a file of transactions as `tollgate score` does, in Flink; nothing is written to the ledger."""
    settings = open_config(config)
    registry = Registry(Path(settings.bundles).resolve())
    chosen = registry.load(bundle)
    entries, rules = _standing(settings)
    job = rescoring.Rescoring(
        data.resolve(), settings.files.sort, Path(settings.bundles).resolve(), chosen.id, entries, rules,
        secrets.token_bytes(_KEY_BYTES),
    )  # fmt: skip
    done = rescoring.run(job, output.resolve(), parallelism, name)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in done.outcomes.most_common())
    typer.echo(f"wrote {done.outcomes.total()} decisions to {output}: {counts}")
    if done.late:
        typer.echo(f"{done.late} times a transaction came after a newer one of the same entity")
    side = output.with_name(output.name + ".rejected.jsonl")
    side.unlink(missing_ok=True)
    if done.rejected:
        side.write_bytes(b"\n".join(done.rejected) + b"\n")
        typer.echo(f"{len(done.rejected)} rows were rejected; see {side}", err=True)
        raise typer.Exit(EXIT_PARTIAL)


def _target(config: Config) -> enriching.Target:
    serve = config.serve
    manifest = Registry(Path(config.bundles)).load().manifest
    return enriching.Target.of(manifest.schema_, manifest.money, serve.pan, serve.pan_columns, serve.max_ahead_us)


def _checkpoints(settings: Settings, folder: Path) -> tuple[str, Path | None]:
    """Return the URL of the folder of checkpoints, and the newest there; in another file system Flink is to be told."""
    if "://" in settings.flink.checkpoints:
        return settings.flink.checkpoints, None
    local = (folder / settings.flink.checkpoints).resolve()
    return local.as_uri(), newest_checkpoint(local)


def _standing(config: Config) -> tuple[tuple[ListEntry, ...], bytes | None]:
    """Return list entries and rules as they are now, or none where there is no ledger yet."""
    url = make_url(config.ledger.url)
    if url.get_backend_name() == "sqlite" and (url.database is None or not Path(url.database).is_file()):
        return (), None
    with Controls(config.ledger.url) as controls:
        return tuple(controls.entries()), controls.rules()


def main(command: Callable[[], object] = app) -> None:
    """Run a command; an error on purpose is a sentence and an exit code, not a traceback."""
    # On a mini-cluster PyFlink would run the tasks as threads of this process, and a cluster does not.
    os.environ.setdefault("_python_worker_execution_mode", "process")
    try:
        command()
    except TollgateError as error:
        typer.echo(f"{error.code}: {error.message}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
