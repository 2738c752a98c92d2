"""Who may do what only one process may do at a time."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from sqlalchemy import Engine

from tollgate.errors import LedgerError
from tollgate.ledger.connection import failure, shown_url

IN_USE = "ledger_in_use"  # the code of the error for what only one process may do at a time
ADVICE = "stop it first, or use another ledger"


def lock(engine: Engine, suffix: str, doing: str) -> IO[str]:
    """Return a lock on the ledger, held until it is closed; it ends with the process.

    Args:
        engine: The ledger's.
        suffix: Of the lock's file beside the ledger's.
        doing: What its holder does, as the error says it.

    Raises:
        LedgerError: Another process holds it, or it cannot be made.
    """
    path = Path(engine.url.database or "tollgate.db")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = path.with_name(path.name + suffix).open("w")
    except OSError as error:
        raise failure("open", engine, error) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise refusal(engine, doing) from None
    return held


def refusal(engine: Engine, doing: str, advice: str = ADVICE) -> LedgerError:
    """Return the error that says that another process does what only one may do."""
    return LedgerError(IN_USE, f"another process {doing} the ledger {shown_url(engine)}; {advice}")
