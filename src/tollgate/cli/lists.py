"""`tollgate lists`: put single values on the allow or the block list while the server runs."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from tollgate.cli.actor import ByOption, actor_of
from tollgate.cli.keys import in_words
from tollgate.cli.wiring import HASH_KEY_VARIABLE, OUT, ConfigOption, hash_key, keeps_state, now_us, open_config
from tollgate.config import Config
from tollgate.control import ListEntry, ListKind
from tollgate.duration import parse_duration_us
from tollgate.errors import ConfigError
from tollgate.ledger.controls import Controls
from tollgate.lists import check_column
from tollgate.pan import guard, hashed, refusal_of

lists = typer.Typer(name="lists", help="Allow and block lists: add, remove, show.", no_args_is_help=True)

KindArgument = Annotated[ListKind, typer.Argument(metavar="LIST", help="allow or block.", show_default=False)]
ColumnArgument = Annotated[
    str, typer.Argument(help="An entity or category column: card_id, country.", show_default=False)
]
ValueArgument = Annotated[str, typer.Argument(help="As it stands in that column.", show_default=False)]


@lists.command()
def add(
    kind: KindArgument,
    column: ColumnArgument,
    value: ValueArgument,
    reason: Annotated[str, typer.Option(help="Why; decisions and the audit trail say so.", show_default=False)],
    expires: Annotated[str | None, typer.Option(help="After how long it counts no more: 12h, 7d.")] = None,
    token: Annotated[
        bool, typer.Option("--token", help="The value is a token, even if it looks like a card number.")
    ] = False,
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Put a value on a list, in place of an older entry for it. Running servers take it within a second."""
    settings = open_config(config)
    check_column(column, settings.table)
    if not token:
        value = _as_stored(settings, column, value)
    at_us = now_us()
    until_us = None if expires is None else at_us + parse_duration_us(expires)
    entry = ListEntry(kind, column, value, reason, actor_of(by), at_us, until_us)
    with Controls(settings.ledger.url) as controls:
        controls.add_entry(entry, at_us)
    until = "until it is removed" if until_us is None else f"until {in_words(until_us)}"
    OUT.print(f"{kind.value} {column}={value} {until}", highlight=False, markup=False, soft_wrap=True)


@lists.command()
def remove(
    kind: KindArgument,
    column: ColumnArgument,
    value: ValueArgument,
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Take a value off a list."""
    settings = open_config(config)
    if settings.serve.pan == "hash":
        value = _as_stored(settings, column, value)
    with Controls(settings.ledger.url) as controls:
        controls.remove_entry(kind, column, value, actor_of(by), now_us())
    OUT.print(f"removed {kind.value} {column}={value}", highlight=False, markup=False, soft_wrap=True)


@lists.command()
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show all entries, those that have expired too."""
    with Controls(open_config(config).ledger.url) as controls:
        entries = controls.entries()
    if as_json:
        for entry in entries:
            typer.echo(msgspec.json.encode(entry))
        return
    now = now_us()
    table = Table(title=f"{len(entries)} entries", title_justify="left")
    for heading in ("list", "column", "value", "reason", "by", "added", "expires"):
        table.add_column(heading, overflow="fold")
    for one in entries:
        until = "" if one.expires_us is None else in_words(one.expires_us)
        if one.expires_us is not None and one.expires_us <= now:
            until += " (expired)"
        cells = (one.list.value, one.column, one.value, one.reason, one.added_by, in_words(one.added_us), until)
        table.add_row(*map(Text, cells))
    OUT.print(table)


def _as_stored(settings: Config, column: str, value: str) -> str:
    """Return a value as the server stores it: a raw card number is hashed or refused there too."""
    if settings.serve.pan == "allow" or not guard([value]):
        return value
    if settings.serve.pan == "refuse":
        raise refusal_of(column, value)
    if not keeps_state():
        raise ConfigError("no_hash_key", f'[serve] pan = "hash": set {HASH_KEY_VARIABLE}, as for the server')
    return hashed(value, hash_key())
