"""`tollgate score`: a file in, its decisions out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from tollgate.cli.decisions import counts_of, decided, report_decided
from tollgate.cli.scored_set import score_set
from tollgate.cli.wiring import (
    BundleOption,
    ConfigOption,
    hash_key,
    is_set,
    judge_of,
    open_bundle,
    open_config,
    open_file,
    plan_of,
    policy_now,
    progress_bar,
    report_rejected,
)
from tollgate.errors import EXIT_PARTIAL, ConfigError, InputError
from tollgate.features import FeatureEngine
from tollgate.files import Rejected
from tollgate.folders import is_local, local_path
from tollgate.intake import TransactionReader


def score(
    data: Annotated[
        str,
        typer.Argument(help="Transactions in order of time: .parquet, .csv or .jsonl, or a folder or URL of them."),
    ],
    output: Annotated[
        str, typer.Argument(help="Where the decisions go: .parquet, .csv or .jsonl; of a folder another folder or URL.")
    ],
    config: ConfigOption = None,
    bundle: BundleOption = None,
) -> None:
    """Decide a file of transactions, each with the history before it in the file, by lists and rules as they are now.

    Nothing is written to the ledger. Of a folder every file is decided with the history in all files before it, and its
    decisions are written to a file of the same name; with TOLLGATE_HASH_KEY set, a run that was cut off goes on where
    it was when the same command is run again.
    """
    settings = open_config(config)
    if is_set(data):
        score_set(data, output, settings, bundle)
        return
    target = local_path(output)
    if not is_local(output) or target.suffix not in (".parquet", ".csv", ".jsonl"):
        raise ConfigError("unknown_format", f"expected an output ending in .parquet, .csv or .jsonl, got {target.name}")
    chosen = open_bundle(settings, bundle)
    manifest = chosen.manifest
    reader = TransactionReader(manifest.schema_, manifest.money, hash_key())
    file = open_file(data, settings, reader)
    engine = FeatureEngine(plan_of(chosen))
    judge = judge_of(chosen, policy_now(settings, chosen, reader))
    frames: list[pl.DataFrame] = []
    rejected: list[Rejected] = []
    with progress_bar() as progress:
        task = progress.add_task(f"scoring {file.name}", total=file.rows)
        for chunk in file.chunks():
            frames.append(decided(chunk.batch, engine, judge))
            rejected += chunk.rejected
            progress.advance(task, len(chunk.batch) + len(chunk.rejected))
    some = report_rejected(rejected, target)
    decisions = pl.concat(frames)
    if not len(decisions):
        raise InputError("no_rows", f"no row of {data} could be used", file=data)
    _write(decisions, target)
    report_decided(Counter(counts_of(decisions)), output, engine.late)
    if some:
        raise typer.Exit(EXIT_PARTIAL)


def _write(frame: pl.DataFrame, output: Path) -> None:
    """Write whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    match output.suffix:
        case ".parquet":
            frame.write_parquet(part)
        case ".csv":
            frame.write_csv(part)
        case _:
            frame.write_ndjson(part)
    part.replace(output)
