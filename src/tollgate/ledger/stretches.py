"""All transactions in order of arrival, wherever they lie: in the archive's files, then in the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from sqlalchemy import Connection, Engine, func, select

from tollgate.errors import LedgerError
from tollgate.ledger import archived
from tollgate.ledger.archived import Stretch
from tollgate.ledger.connection import reading, shown_url, streamed
from tollgate.ledger.group import Packed
from tollgate.ledger.settings import ArchiveMark, archive_mark
from tollgate.ledger.tables import GROUPS

REPLAY_ROWS = 4096  # transactions a chunk holds before it is handed on
_READ_AHEAD = 16  # groups in memory at once
_NEWEST = select(GROUPS.c.first, GROUPS.c.count).order_by(GROUPS.c.first.desc()).limit(1)
_PAYLOADS = select(GROUPS.c.first, GROUPS.c.count, GROUPS.c.payload)


def extent(connection: Connection) -> tuple[ArchiveMark, int]:
    """Return how far a ledger is archived, and the arrival number of its newest transaction; 0 for none."""
    newest = connection.execute(_NEWEST).one_or_none()
    mark = archive_mark(connection)  # read last: what is marked is deleted after
    return mark, max(mark.last, 0 if newest is None else newest.first + newest.count - 1)


def stretches(engine: Engine, after: int) -> Iterator[list[Stretch]]:
    """Yield all after arrival number `after`, in order, in chunks; each chunk is read on its own.

    The archive's files come first, then the table; what is archived meanwhile is read from its file.

    Raises:
        LedgerError: They could not be read, or some are missing.
    """
    position = after
    while True:
        if part := _table_part(engine, position):
            position = part[-1].first + len(part[-1].ids) - 1
            yield part
            continue
        with reading(engine) as connection:
            following = connection.scalar(select(func.min(GROUPS.c.first)).where(GROUPS.c.first > position))
            mark = archive_mark(connection)  # read last: what is marked is deleted after
        if mark.last > position:
            for stretch in archived.read(Path(mark.folder), position, mark.last):
                yield [stretch]
            position = mark.last
        elif following is None:
            return
        elif following > position + 1:
            raise gap(engine, position)


def _table_part(engine: Engine, position: int) -> list[Stretch]:
    """Return the table's first groups that go beyond arrival number `position`, cut off there, up to a gap."""
    begin = select(func.max(GROUPS.c.first)).where(GROUPS.c.first <= position + 1).scalar_subquery()
    query = _PAYLOADS.where(GROUPS.c.first >= func.coalesce(begin, 0)).order_by(GROUPS.c.first)
    part: list[Stretch] = []
    at = position
    with reading(engine) as connection, streamed(connection, query, _READ_AHEAD) as rows:
        for first, count, payload in rows:
            if at - position >= REPLAY_ROWS or first > at + 1:
                break
            if first + count - 1 > at:
                part.append(_stretch(opened(engine, first, payload), first, at + 1 - first))
                at = first + count - 1
    return part


def bodies(engine: Engine, numbers: Iterable[int]) -> dict[int, bytes]:
    """Return the bodies of transactions by their arrival numbers, wherever they lie.

    Raises:
        LedgerError: They could not be read, or some are missing.
    """
    wanted = sorted(set(numbers))
    found: dict[int, bytes] = {}
    first, packed = 0, None
    with reading(engine) as connection:
        for number in wanted:
            if packed is None or number >= first + len(packed):
                query = _PAYLOADS.where(GROUPS.c.first <= number).order_by(GROUPS.c.first.desc()).limit(1)
                row = connection.execute(query).one_or_none()
                if row is None or number >= row.first + row.count:
                    continue
                first, packed = row.first, opened(engine, row.first, row.payload)
            found[number] = packed.body(number - first)
        mark = archive_mark(connection)  # read last: what is marked is deleted after
    missing = [number for number in wanted if number not in found]
    if missing and missing[-1] > mark.last:
        raise gap(engine, missing[-1] - 1)
    return found | archived.bodies(Path(mark.folder), missing, mark.last) if missing else found


def opened(engine: Engine, first: int, payload: bytes) -> Packed:
    """Return the group from `first` on, ready to be read.

    Raises:
        LedgerError: It is damaged.
    """
    try:
        return Packed(payload)
    except ValueError as error:
        raise LedgerError(
            "ledger_failed",
            f"the ledger {shown_url(engine)} is damaged at transaction {first}: {error}; restore it from a copy",
        ) from error


def _stretch(packed: Packed, first: int, skip: int) -> Stretch:
    rows = range(skip, len(packed))
    return Stretch(
        first + skip,
        [packed.id(row) for row in rows],
        [packed.body(row) for row in rows],
        [packed.answer(row) for row in rows],
        [packed.feature_bytes(row) for row in rows],
    )


def gap(engine: Engine, position: int) -> LedgerError:
    """Return the error that says that what follows `position` is missing."""
    return LedgerError(
        "ledger_failed",
        f"the ledger {shown_url(engine)} is damaged: expected transaction {position + 1} after {position}, but it is "
        "not there; restore it from a copy",
    )
