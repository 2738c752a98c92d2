"""Who a change is recorded under."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

ByOption = Annotated[
    str | None, typer.Option("--by", help="Who makes the change, for the audit trail; the system's user by default.")
]


def actor_of(by: str | None) -> str:
    """Return the named actor, else the user that the system knows."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
