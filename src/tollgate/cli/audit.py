"""`tollgate audit`: who changed which key, list, rule set or champion."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from tollgate.cli.keys import in_words
from tollgate.cli.wiring import OUT, ConfigOption, open_config
from tollgate.ledger.controls import Controls


def audit(
    newest: Annotated[int, typer.Option(help="How many of the newest changes.", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show the changes of keys, lists, rules and the champion, the newest last."""
    with Controls(open_config(config).ledger.url) as controls:
        records = controls.audit(newest)
    if as_json:
        for record in records:
            typer.echo(msgspec.json.encode(record))
        return
    table = Table(title=f"{len(records)} changes", title_justify="left")
    for heading in ("number", "time", "by", "action", "of", "detail"):
        table.add_column(heading, overflow="fold")
    for one in records:
        detail = ", ".join(f"{name}: {value}" for name, value in one.detail.items())
        cells = (str(one.seq), in_words(one.at_us), one.actor, one.action, one.subject, detail)
        table.add_row(*map(Text, cells))
    OUT.print(table)
