"""Moving the ledger's beginning to files: written, marked as archived, deleted, in this order.

It may stop anywhere. Before the mark, the files count for nothing and are written again; after it, what is still in the
table is there twice, is read from one place only, and is deleted by the next run. The writer may go on meanwhile.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine, delete, select

from tollgate.duration import DAY_US
from tollgate.errors import LedgerError
from tollgate.ledger import archived, partitions
from tollgate.ledger.archived import Kept
from tollgate.ledger.connection import reading, streamed, writing
from tollgate.ledger.group import Counts
from tollgate.ledger.ledger import Ledger
from tollgate.ledger.lock import lock
from tollgate.ledger.postgres import ARCHIVES
from tollgate.ledger.session import Lock, Session
from tollgate.ledger.settings import ArchiveMark, archive_mark, set_archive_mark
from tollgate.ledger.stretches import opened
from tollgate.ledger.tables import GROUPS

FILE_ROWS = 131_072  # transactions of a day that are in memory, and in a file, at once
_READ_AHEAD = 16  # groups in memory at once
_DELETED_AT_ONCE = 64  # groups: the writer waits for each deletion


class Archived(NamedTuple):
    """What was done: transactions and files, and where; what holds up the rest, if it is not their age."""

    transactions: int
    files: list[Path]
    folder: Path
    held_up_by: str


def archive(ledger: Ledger, before_us: int, folder: Path | None = None, file_rows: int = FILE_ROWS) -> Archived:
    """Move the groups that come first and were wholly observed before `before_us` to files, and delete them.

    A group with a transaction of a later effective time stays, and so does what came after it: the horizon up to
    which unknown transactions are refused is the newest archived effective time.

    Args:
        ledger: Any; its writer may be another process.
        before_us: Observed time, microseconds since 1970-01-01 UTC.
        folder: Where the files go; the one of the last time by default. Another one must hold the files so far.
        file_rows: About how many transactions a file holds at most.

    Raises:
        LedgerError: No folder is known, the files so far are not there, another process archives, or something could
            not be written; the ledger and the files together still hold everything.
    """
    engine = ledger.engine
    with _alone(engine):
        with reading(engine) as connection:
            mark = archive_mark(connection)
        target = _target(mark, folder)
        archived.check(target, mark.last)
        _delete(engine, mark.last)
        start, files = mark.last, []
        while run := _next_run(engine, mark.last, before_us, file_rows):
            files.append(archived.write(target, run.groups))
            mark = ArchiveMark(
                run.last,
                max(run.most_us, run.most_us if mark.horizon_us is None else mark.horizon_us),
                str(target),
                Counts(*map(sum, zip(mark.counts, run.counts, strict=True))),
            )
            with writing(engine) as connection:
                set_archive_mark(connection, mark)
            _delete(engine, mark.last)
        ledger.refresh()
        return Archived(mark.last - start, files, target, _held_up(engine, mark.last, before_us))


class _Run(NamedTuple):
    groups: list[Kept]
    last: int
    most_us: int
    counts: Counts


def _alone(engine: Engine) -> AbstractContextManager[object]:
    if engine.dialect.name == "postgresql":
        return Session(engine, Lock(ARCHIVES, "archives"))
    return lock(engine, ".archive.lock", "archives")


def _target(mark: ArchiveMark, folder: Path | None) -> Path:
    if folder is None and not mark.folder:
        raise LedgerError("no_archive", "expected a folder to archive to, but none was ever named; name one with --to")
    target = Path(mark.folder) if folder is None else folder.resolve()
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError("archive_failed", f"could not make the folder {target}: {error}; name another one") from error
    return target


def _next_run(engine: Engine, after: int, before_us: int, file_rows: int) -> _Run | None:
    """Return the next groups that may go, of one day and of bounded size."""
    groups: list[Kept] = []
    counts, most_us, last = Counts(), 0, after
    query = select(GROUPS).where(GROUPS.c.first > after).order_by(GROUPS.c.first)
    with reading(engine) as connection, streamed(connection, query, _READ_AHEAD) as rows:
        for row in rows:
            if row.observed_us >= before_us or row.most_us >= before_us or last - after >= file_rows:
                break
            if groups and row.observed_us // DAY_US != groups[0].observed_us // DAY_US:
                break
            groups.append(Kept(row.first, row.observed_us, row.bundle, opened(engine, row.first, row.payload)))
            last = row.first + len(groups[-1].packed) - 1
            most_us = max(most_us, row.most_us) if len(groups) > 1 else row.most_us
            counts = Counts(*(n + getattr(row, name) for name, n in counts._asdict().items()))
    return _Run(groups, last, most_us, counts) if groups else None


def _delete(engine: Engine, last: int) -> None:
    """Delete the groups up to transaction `last`, a few at a time, so that no decision waits for long."""
    if engine.dialect.name == "postgresql":
        partitions.drop(engine, last)
    query = select(GROUPS.c.first).where(GROUPS.c.first <= last).order_by(GROUPS.c.first).limit(_DELETED_AT_ONCE)
    while True:
        with reading(engine) as connection:
            firsts = connection.scalars(query).all()
        if not firsts:
            return
        with writing(engine) as connection:
            connection.execute(delete(GROUPS).where(GROUPS.c.first <= firsts[-1]))


def _held_up(engine: Engine, last: int, before_us: int) -> str:
    """Return why the next group stays although it is old enough, or nothing."""
    query = select(GROUPS.c.first, GROUPS.c.observed_us).where(GROUPS.c.first > last).order_by(GROUPS.c.first).limit(1)
    with reading(engine) as connection:
        row = connection.execute(query).one_or_none()
    if row is None or row.observed_us >= before_us:
        return ""
    return f"a transaction from number {row.first} on has an effective time after those to be archived"
