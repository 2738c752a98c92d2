"""`tollgate label`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tollgate.cli.actor import ByOption, actor_of
from tollgate.cli.deciding import card_numbers
from tollgate.cli.wiring import OUT, ConfigOption, hash_key, now_us, open_config, progress_bar, report_rejected
from tollgate.config import Config
from tollgate.errors import EXIT_PARTIAL, ConfigError, InputError, LedgerError
from tollgate.files import Rejected
from tollgate.frame import LabelFields
from tollgate.label import Label, LabelResult, LabelSource
from tollgate.label_file import LabelFile
from tollgate.labelling import refusal_of
from tollgate.ledger import IN_USE, Ledger
from tollgate.ledger.controls import Controls
from tollgate.schema import TRANSACTION_ID

if TYPE_CHECKING:
    from tollgate.client import Client

API_KEY_VARIABLE = "TOLLGATE_API_KEY"

TIMEOUT_S = 60.0  # of one request of a thousand labels

Take = Callable[[Sequence[Label]], list[LabelResult]]
Counts = Counter[tuple[LabelSource, str]]


def label(
    data: Annotated[Path, typer.Argument(help="Labels: .parquet, .csv or .jsonl.")],
    config: ConfigOption = None,
    source: Annotated[
        LabelSource | None, typer.Option(help="Who says so, where the file has no column 'source'.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(help=f"Internal port of a running server, http://127.0.0.1:8081; key in {API_KEY_VARIABLE}."),
    ] = None,
    by: ByOption = None,
) -> None:
    """Record what became of transactions: columns transaction_id, is_fraud, source, and when it was known.

    While a server runs, only the server writes the ledger: name it with --server, and its features move at once.
    """
    settings = open_config(config)
    fields = LabelFields(settings.label.source, settings.label.available_from, settings.label.delay_us)
    file = LabelFile(data, settings.table.sources(TRANSACTION_ID)[0], fields, source)
    counts: Counts = Counter()
    rejected: list[Rejected] = []
    with _door(settings, server, actor_of(by), data.name, counts) as take, progress_bar() as progress:
        task = progress.add_task(f"labels of {data.name}", total=file.rows)
        for chunk in file.chunks():
            results = take(chunk.labels) if chunk.labels else []
            counts.update((one.source, result.value) for one, result in zip(chunk.labels, results, strict=True))
            rejected += chunk.rejected
            for one, row, result in zip(chunk.labels, chunk.rows, results, strict=True):
                error = refusal_of(one, result)
                if error is not None:
                    rejected.append(Rejected(row, one.transaction_id, error))
            progress.advance(task, len(chunk.labels) + len(chunk.rejected))
    OUT.print(_summary(counts))
    some = report_rejected(sorted(rejected, key=lambda one: one.row), data)
    if not any(LabelResult(result).accepted for _, result in counts):
        raise InputError("no_rows", f"no label of {data} could be recorded", file=str(data))
    if some:
        raise typer.Exit(EXIT_PARTIAL)


@contextmanager
def _door(settings: Config, server: str | None, actor: str, name: str, counts: Counts) -> Iterator[Take]:
    """Yield what records labels: a running server, or else the ledger itself, with a note in the audit trail."""
    if server is not None:
        with _client(server) as client:
            yield lambda labels: [one.result for one in client.label(labels)]
        return
    numbers = card_numbers(settings.serve, settings.table, hash_key())
    try:
        ledger = Ledger(settings.ledger.url, settings.ledger.durability)
    except LedgerError as error:
        if error.code != IN_USE:
            raise
        raise LedgerError(error.code, f"{error.message}; or send the labels to the server: --server URL") from None
    with ledger, Controls(settings.ledger.url) as controls:
        try:
            yield lambda labels: ledger.add_labels(
                [one if numbers is None else numbers.as_recorded(one) for one in labels], actor, now_us()
            )
        finally:
            detail = {result.value: sum(n for (_, one), n in counts.items() if one == result) for result in LabelResult}
            controls.note(actor, "labels.add", name, now_us(), **detail)


def _client(url: str) -> Client:
    try:
        from tollgate.client import Client  # noqa: PLC0415  # the one seam of the extra
    except ImportError as error:
        raise ConfigError("missing_extra", f"--server needs httpx: {error}") from None
    return Client(url, os.environ.get(API_KEY_VARIABLE), TIMEOUT_S)


def _summary(counts: Counts) -> Table:
    table = Table(title=f"{counts.total()} labels", title_justify="left")
    table.add_column("source")
    for result in LabelResult:
        table.add_column(result.value.replace("_", " "), justify="right")
    for source in LabelSource:
        row = [counts[source, result.value] for result in LabelResult]
        if any(row):
            table.add_row(source.value, *map(str, row))
    return table
