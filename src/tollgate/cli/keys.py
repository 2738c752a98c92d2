"""`tollgate keys`: make, list and revoke API keys while the server runs."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from tollgate.cli.actor import ByOption, actor_of
from tollgate.cli.wiring import ERR, OUT, ConfigOption, now_us, open_config
from tollgate.control import Scope
from tollgate.duration import SECOND_US
from tollgate.keys import new_key
from tollgate.ledger.controls import Controls

keys = typer.Typer(name="keys", help="API keys: create, list, revoke.", no_args_is_help=True)

_DEFAULT_RATE_PER_S = 1000.0


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="Whose it is: 'checkout', 'back office'.", show_default=False)],
    scope: Annotated[
        list[Scope], typer.Option(help="What it is good for; may be given more than once.", show_default=False)
    ],
    rate: Annotated[float, typer.Option(help="Transactions a second, sustained.", min=0.001)] = _DEFAULT_RATE_PER_S,
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a key and print it: this once, for only its digest is kept. Running servers take it within a second."""
    with Controls(open_config(config).ledger.url) as controls:
        at_us = now_us()
        text, key = new_key(name, scope, rate, at_us, secrets.token_bytes)
        controls.add_key(key, actor_of(by), at_us)
    ERR.print(f"key {key.id}, good for {', '.join(key.scopes)}; keep it now, it cannot be shown again:", style="dim")
    typer.echo(text)


@keys.command("list")
def list_keys(config: ConfigOption = None) -> None:
    """Show all keys, without their secrets."""
    with Controls(open_config(config).ledger.url) as controls:
        known = controls.keys()
    table = Table(title=f"{len(known)} keys", title_justify="left")
    for heading in ("id", "name", "scopes", "rate/s", "created", "revoked"):
        table.add_column(heading, overflow="fold")
    for key in known:
        revoked = "" if key.revoked_us is None else in_words(key.revoked_us)
        rate, created = f"{key.rate_per_s:g}", in_words(key.created_us)
        table.add_row(*map(Text, (key.id, key.name, " ".join(key.scopes), rate, created, revoked)))
    OUT.print(table)


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Of the key, as 'list' shows it.", show_default=False)],
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a key worthless. Running servers refuse it within a second."""
    with Controls(open_config(config).ledger.url) as controls:
        controls.revoke_key(key_id, actor_of(by), now_us())
    OUT.print(f"revoked {key_id}", highlight=False, markup=False)


def in_words(at_us: int) -> str:
    """Return a time as a person reads it, UTC, to the second."""
    return dt.datetime.fromtimestamp(at_us // SECOND_US, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
