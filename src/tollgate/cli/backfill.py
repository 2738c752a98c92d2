"""`tollgate backfill`: the state of a bundle from the ledger, or the features of a history in files."""

from __future__ import annotations

import os
import secrets
import sys
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from tollgate.backfill import Job, Outcome, run_single
from tollgate.bundle import Bundle
from tollgate.cli.extras import extra_module
from tollgate.cli.wiring import (
    ERR,
    HASH_KEY_VARIABLE,
    OUT,
    BundleOption,
    ConfigOption,
    features_of,
    hash_key,
    is_set,
    label_fields,
    open_bundle,
    open_config,
    open_file,
    open_ledger,
    plan_of,
    progress_bar,
    recovery_of,
    snapshots_of,
)
from tollgate.config import Config
from tollgate.errors import EXIT_PARTIAL, ConfigError
from tollgate.features import FeaturePlan
from tollgate.intake import TransactionReader

_KEY_BYTES = 32
_TIMEOUT_MS = 5000
_WRITER = "(backfill)"  # it records nothing: those who do have names


class Engine(StrEnum):
    """Who computes the features of files."""

    HERE = "here"
    SPARK = "spark"


def backfill(
    data: Annotated[
        str | None, typer.Argument(help="Instead of the ledger: a folder or URL of .parquet, .csv or .jsonl files.")
    ] = None,
    output: Annotated[str | None, typer.Argument(help="Folder or URL for the features of these files.")] = None,
    config: ConfigOption = None,
    bundle: BundleOption = None,
    on: Annotated[Engine, typer.Option(help="Who computes the features of files.")] = Engine.HERE,
    master: Annotated[
        str | None, typer.Option(help="Of Spark, such as 'local\\[8]'; as its own settings say by default.")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(help="Over how many the entities of a kind are spread by Spark.", min=1)
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Remove a shared state first, for all servers that share it.")
    ] = False,
) -> None:
    """Compute the feature state of a bundle from the ledger, while a server with another one goes on deciding.

    The server that is then started with the bundle takes the state up where this left off. A shared state gets what the
    ledger has and it has not.

    With DATA and OUTPUT: compute the features of a history in files, labels as they became known, into a Parquet file
    for each. They are those of the bundle, or without one of the configuration; the bits are the same on any engine.
    """
    settings = open_config(config)
    if data is None:
        if on is not Engine.HERE:
            raise ConfigError("no_data", "expected DATA and OUTPUT with --on: the ledger is read by one process")
        _from_ledger(settings, open_bundle(settings, bundle), anew=anew)
        return
    if output is None or not is_set(data):
        raise ConfigError("no_data", f"expected a folder or URL of files and a place for the output, but got {data!r}")
    plan = features_of(settings) if bundle is None else plan_of(open_bundle(settings, bundle))
    job = _job(data, output, settings, plan)
    outcome = _on_spark(job, master, partitions) if on is Engine.SPARK else _here(job)
    OUT.print(f"wrote {len(plan.names)} features of {outcome.rows} transactions to {output}", soft_wrap=True)
    if outcome.late:
        OUT.print(
            f"{outcome.late} times a transaction came after a newer one of the same entity; if the files are not in "
            "the order in which the payments arrived, set sort = true in [files]"
        )
    if outcome.rejected:
        ERR.print(f"[yellow]{outcome.rejected} rows were rejected; see {escape(output)}/_rejected[/yellow]")
        raise typer.Exit(EXIT_PARTIAL)


def _job(data: str, output: str, settings: Config, plan: FeaturePlan) -> Job:
    if data.rstrip("/") == output.rstrip("/"):
        raise ConfigError("bad_output", f"expected another folder for the features than {data} itself")
    # No feature depends on the key, and this one goes to other machines: it is not the one that servers hash under.
    key = secrets.token_bytes(_KEY_BYTES)
    labels = label_fields(settings)
    file = open_file(data, settings, TransactionReader(plan.schema, settings.money, key))
    labelled = plan.learns or labels.source in file.columns
    return Job(data, output, plan, settings.money, labels if labelled else None, settings.files.sort, key)


def _here(job: Job) -> Outcome:
    with progress_bar() as progress:
        task = progress.add_task(f"computing {len(job.plan.names)} features", total=None)
        return run_single(job, lambda rows: progress.advance(task, rows))


def _on_spark(job: Job, master: str | None, partitions: int | None) -> Outcome:
    spark = extra_module("backfill.spark", "spark", "'tollgate backfill --on spark' needs")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the workers run whatever python3 is first
    session = spark.open_session(master)
    try:
        outcome: Outcome = spark.run_spark(job, session, partitions)
    finally:
        session.stop()
    return outcome


def _from_ledger(settings: Config, chosen: Bundle, *, anew: bool) -> None:
    plan, key = plan_of(chosen), hash_key()
    snapshots = snapshots_of(settings, plan, key)
    if snapshots is None:
        raise ConfigError(
            "no_hash_key",
            f"expected the secret that the server hashes entities under in {HASH_KEY_VARIABLE}: a kept state is "
            "of use only under the same key",
        )
    reader = TransactionReader(chosen.manifest.schema_, chosen.manifest.money, key)
    patient = _patient(settings)
    with open_ledger(patient, write=False) as ledger, progress_bar() as progress:
        task = progress.add_task("backfilling", total=ledger.transactions)
        recovery = recovery_of(patient, plan, reader, ledger, key)
        arrivals = recovery.recover(lambda done, total: progress.update(task, completed=done, total=total), anew=anew)
        recovery.save(arrivals)
        arrivals.engine.close()
        ledger.refresh()
        done = ledger.transactions if settings.ledger.shared else arrivals.engine.observed
    where = snapshots.path if settings.state.engine == "embedded" else ", ".join(settings.state.redis.urls)
    OUT.print(
        f"{where} holds the state of bundle {chosen.id} after {done} transactions",
        soft_wrap=True,
        highlight=False,
    )


def _patient(settings: Config) -> Config:
    """Return the settings with more time for each answer, for no payment waits for one here, and another name."""
    replace = msgspec.structs.replace
    redis = settings.state.redis
    writer = _WRITER if settings.ledger.shared else redis.writer
    redis = replace(redis, timeout_ms=max(redis.timeout_ms, _TIMEOUT_MS), writer=writer)
    return replace(settings, state=replace(settings.state, redis=redis))
