"""`tollgate archive`: the oldest transactions out of the ledger, into files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tollgate.cli.wiring import OUT, ConfigOption, now_us, open_config
from tollgate.duration import parse_duration_us
from tollgate.ledger import Ledger
from tollgate.ledger.archive import archive as archive_ledger


def archive(
    older_than: Annotated[
        str, typer.Option(help="Only what was observed that long ago, such as 90d.", show_default=False)
    ],
    to: Annotated[Path | None, typer.Option(help="The folder of the files; that of the last time by default.")] = None,
    config: ConfigOption = None,
) -> None:
    """Move the oldest transactions from the ledger to Parquet files by day; a server may go on deciding.

    They count in features as before, and a replay reads them. But a transaction that is not known, and not newer than
    the newest archived one, is refused from then on: what became of it is in the files.
    """
    settings = open_config(config)
    before_us = now_us() - parse_duration_us(older_than)
    with Ledger(settings.ledger.url, settings.ledger.durability, write=False) as ledger:
        done = archive_ledger(ledger, before_us, to)
        for path in done.files:
            OUT.print(f"wrote {path}", soft_wrap=True, highlight=False, markup=False)
        OUT.print(
            f"archived {done.transactions} transactions to {done.folder}; the rest of the {ledger.transactions} that "
            f"{ledger.url} ever held are still in it",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    if done.held_up_by:
        OUT.print(f"it ends there because {done.held_up_by}", soft_wrap=True, highlight=False, markup=False)
