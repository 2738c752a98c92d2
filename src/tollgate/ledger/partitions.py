"""PostgreSQL's tables of groups and ids in parts by arrival number, so that the oldest go at once, whole.

A part is named after the numbers that it holds: from the first one up to, and without, the second. It is made ahead,
and dropped when all of it is archived. Both happen beside a writer, which waits for neither.
"""

from __future__ import annotations

import logging
import re

from sqlalchemy import Connection, Engine, delete, text

from tollgate.errors import LedgerError
from tollgate.ledger.connection import reading, writing
from tollgate.ledger.shared_tables import IDS, WRITTEN
from tollgate.ledger.tables import GROUPS

LOG = logging.getLogger(__name__)

ROWS = 1 << 24  # arrival numbers: some ten gigabytes, or a month at six a second
_NAME = re.compile(rf"{GROUPS.name}_(\d+)_(\d+)")
_DROP_WAITS_MS = 200  # for who reads the table: others wait behind it


def make_room(engine: Engine, last: int) -> int:
    """Make parts until those after arrival number `last` hold at least `ROWS` more; return where the newest one ends.

    Raises:
        LedgerError: They could not be made.
    """
    with writing(engine) as connection:
        end = max((end for _, end in _parts(connection)), default=(last + 1) // ROWS * ROWS)
        while end <= last + ROWS:
            start, end = end, end + ROWS
            for table, more in ((GROUPS.name, ""), (IDS.name, _IDS_MORE)):
                name = f"{table}_{start}_{end}"
                connection.execute(text(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL); {more.format(name=name)}"))
                # Unlike a table that is made as a part, this one waits for nobody who reads or writes.
                connection.execute(
                    text(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})")
                )
    return end


def drop(engine: Engine, last: int) -> None:
    """Drop the parts that hold nothing after arrival number `last`, and forget the ids and the writers up to there.

    A part that somebody reads all the time stays, and is dropped the next time.

    Raises:
        LedgerError: Something could not be changed; what was archived may still be there.
    """
    with reading(engine) as connection:
        old = [(start, end) for start, end in _parts(connection) if end <= last + 1]
    for part in [f"{table}_{start}_{end}" for start, end in old for table in (IDS.name, GROUPS.name)]:
        try:
            with reading(engine, "archive") as connection:
                connection.execute(text(f"SET LOCAL lock_timeout = {_DROP_WAITS_MS}"))
                connection.execute(text(f"DROP TABLE IF EXISTS {part}"))
                connection.commit()
        except LedgerError as error:
            LOG.warning("%s: %s", error.code, error.message)
    with writing(engine) as connection:
        connection.execute(delete(IDS).where(IDS.c.number <= last))
        connection.execute(delete(WRITTEN).where(WRITTEN.c.first <= last))


def _parts(connection: Connection) -> list[tuple[int, int]]:
    names = connection.scalars(_PARTS)
    return sorted((int(match[1]), int(match[2])) for name in names if (match := _NAME.fullmatch(name)))


_PARTS = text(
    "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'groups'::regclass"
)
# Unique over one part alone: who appends looks into all of them, one after the other.
_IDS_MORE = "CREATE UNIQUE INDEX ON {name} (key); CREATE INDEX ON {name} USING brin (number)"
