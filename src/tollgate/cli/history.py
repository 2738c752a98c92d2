"""`tollgate import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tollgate.cli.actor import actor_of
from tollgate.cli.wiring import (
    OUT,
    ConfigOption,
    now_us,
    open_config,
    open_labelled,
    progress_bar,
    report_rejected,
)
from tollgate.duration import parse_duration_us
from tollgate.errors import EXIT_PARTIAL, InputError
from tollgate.files import Chunk, Rejected
from tollgate.intake import TransactionReader
from tollgate.label import Label, LabelSource
from tollgate.ledger import History, Ledger


def import_history(
    data: Annotated[Path, typer.Argument(help="Labelled transactions: .parquet, .csv or .jsonl.")],
    config: ConfigOption = None,
    before: Annotated[
        str | None, typer.Option(help="Leave out the newest, such as 7d: what a server is to decide later.")
    ] = None,
) -> None:
    """Put past transactions and their labels into the ledger: history for features, a pool for training."""
    settings = open_config(config)
    file, reader = open_labelled(data, settings)
    until_us = None
    if before is not None:
        newest = max(int(chunk.batch.time_us.max(initial=0)) for chunk in file.chunks())
        until_us = newest - parse_duration_us(before)
    rejected: list[Rejected] = []
    imported = known = archived = 0
    with Ledger(settings.ledger.url, settings.ledger.durability) as ledger, progress_bar() as progress:
        task = progress.add_task(f"importing {data.name}", total=file.rows)
        for chunk in file.chunks():
            history, labels = _records(chunk, reader, until_us)
            there = ledger.find([one.transaction_id for one in history])
            new = [one for one in history if one.transaction_id not in there]
            fresh = [one for one in new if ledger.horizon_us is None or one.effective_us > ledger.horizon_us]
            ledger.import_history(fresh, labels, actor_of(None))
            imported, known, archived = imported + len(fresh), known + len(there), archived + len(new) - len(fresh)
            rejected += chunk.rejected
            progress.advance(task, len(chunk.batch) + len(chunk.rejected))
        if not imported and not known and not archived:
            report_rejected(rejected, data)
            raise InputError("no_rows", f"no row of {data} could be used", file=str(data))
        OUT.print(f"imported {imported} transactions into {ledger.url}; {known} were there already", soft_wrap=True)
        if archived:
            OUT.print(f"{archived} were left out: they are as old as what is archived, and may be a part of it")
    if report_rejected(rejected, data):
        raise typer.Exit(EXIT_PARTIAL)


def _records(chunk: Chunk, reader: TransactionReader, until_us: int | None) -> tuple[list[History], list[Label]]:
    """Return what the ledger keeps of a chunk's rows that are not newer than `until_us`."""
    observed_us = now_us()
    batch = chunk.batch
    rows = np.arange(len(batch)) if until_us is None else np.flatnonzero(batch.time_us <= until_us)
    bodies = [reader.body(reader.typed(cells)) for cells in chunk.frame[rows].to_dicts()]
    history = [
        History(batch.ids[row], int(batch.time_us[row]), observed_us, body)
        for row, body in zip(rows.tolist(), bodies, strict=True)
    ]
    assert chunk.is_fraud is not None
    assert chunk.available_us is not None
    labels = [
        Label(batch.ids[row], bool(chunk.is_fraud[row]), LabelSource.IMPORT, int(chunk.available_us[row]))
        for row in rows.tolist()
    ]
    return history, labels
