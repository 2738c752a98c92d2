"""A ledger that several processes write at once, on PostgreSQL: the database numbers transactions and knows their ids.

Who writes it must not decide by what it alone has seen: the features of a transaction have to come from a state that
all writers share.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, NoReturn

import numpy as np
from sqlalchemy import Connection, insert, literal, select, update

from tollgate.errors import LedgerError
from tollgate.label import Label
from tollgate.ledger.connection import dialect, reading, streamed, writing
from tollgate.ledger.durability import Durability
from tollgate.ledger.group import Group
from tollgate.ledger.identities import HASH_KEY_BYTES, Hashes, Numbers
from tollgate.ledger.ledger import KNOWN_TRANSACTION, Ledger
from tollgate.ledger.lock import IN_USE
from tollgate.ledger.lookup import NOT_THERE
from tollgate.ledger.postgres import STARTS
from tollgate.ledger.records import History, Recorded
from tollgate.ledger.session import Lock, Session
from tollgate.ledger.settings import ARCHIVE, read_mark
from tollgate.ledger.shared_tables import ARRIVALS, IDS, WRITTEN
from tollgate.ledger.stretches import REPLAY_ROWS, opened, stretches
from tollgate.ledger.tables import GROUPS
from tollgate.ledger.writer import SharedWriter, Writer, name_lock, row_of

ALONE = "(alone)"  # in place of a writer: what was recorded while one process wrote, or imported

_KEY_BYTES = 16
# One that is not there may be archived: how far the ledger is belongs to the answer, under a number that no id has.
_FIND = f"""
SELECT key, number FROM ids WHERE key = ANY(%s)
UNION ALL SELECT value, {NOT_THERE} FROM settings WHERE key = '{ARCHIVE}'
"""  # noqa: S608
_READ_AHEAD = 16  # groups in memory at once
_WRITTEN = select(GROUPS.c.first, GROUPS.c.count, GROUPS.c.payload).join(WRITTEN, WRITTEN.c.first == GROUPS.c.first)
_FORGET = "DELETE FROM ids WHERE key = ANY(%s) AND number <= %s"


class SharedLedger(Ledger):
    """As `Ledger`, but any number of processes write it, and each finds at once what the others have recorded.

    `append` refuses a group of which another process has recorded something meanwhile; `record` records the rest of it.

    Attributes:
        writer: The name of this process among those that write the ledger.
    """

    asks = True

    def __init__(self, url: str, durability: Durability = "fsync", *, writer: str, **options: Any) -> None:
        """Open it, as `Ledger`; where it is written by one process, that must be stopped first.

        Args:
            url: An SQLAlchemy URL: `postgresql+psycopg://user@host/database`.
            durability: As for `Ledger`.
            writer: A name that no other process has at the same time.
            options: As for `Ledger`.

        Raises:
            LedgerError: It cannot be opened, one process alone writes it, or another has that name.
        """
        self.writer = writer
        self._asking = threading.RLock()  # ids are looked for in one thread, and in the one that writes after a failure
        self._lookups: Session | None = None
        self._newest_own = 0
        super().__init__(url, durability, **options)

    def close(self) -> None:
        """Close the connections and give up the right to write."""
        if self._lookups is not None:
            self._lookups.close()
        super().close()

    def append(self, group: Group, hashes: Hashes | None = None) -> None:
        """Record transactions and their decisions, all or none, durably, in this order; see `Ledger.append`.

        Raises:
            LedgerError: Nothing was recorded, or the connection was lost before that could be said.
        """
        writer = self._writing()
        if hashes is None:
            hashes = self._new(group.ids)
        writer.make_room(self._last + len(group))
        try:
            first = writer.append_new(self._keys(group.ids, hashes), row_of(group, 0, hashes))
        except LedgerError:
            self._stale = True
            raise
        if not first:
            raise LedgerError(KNOWN_TRANSACTION, "expected new transactions, but one was recorded by another process")
        self._newest_own = first + len(group) - 1
        self._last = max(self._last, self._newest_own)

    @property
    def newest_own(self) -> int:
        """The arrival number of the newest transaction that this process recorded; 0 before the first."""
        return self._newest_own

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Be the only one of the writers that brings their feature state up to the ledger.

        Raises:
            LedgerError: Another one is at it.
        """
        try:
            session = Session(self.engine, Lock(STARTS, "starts on", patient=True))
        except LedgerError as error:
            if error.code != IN_USE:
                raise
            raise LedgerError(
                "not_ready", "another server brings the shared feature state up to the ledger; it is waited for"
            ) from None
        with session:
            yield

    @contextmanager
    def instead_of(self, writer: str) -> Iterator[bool]:
        """Take the name of a writer that is gone, so that it does not come back meanwhile; yield whether it is gone.

        Raises:
            LedgerError: The server cannot be reached.
        """
        try:
            session = Session(self.engine, name_lock(writer))
        except LedgerError as error:
            if error.code != IN_USE:
                raise
            yield False
            return
        with session:
            yield True

    def written(self, writer: str, after: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield the bodies of what a writer recorded after an arrival number, in order, in chunks.

        What is archived is left out.

        Args:
            writer: Its name.
            after: The arrival number.

        Yields:
            The number of a chunk's newest transaction, and the bodies, JSON.

        Raises:
            LedgerError: They could not be read.
        """
        while part := self._written_part(writer, after):
            after = part[0]
            yield part

    def _written_part(self, writer: str, after: int) -> tuple[int, list[bytes]] | None:
        query = _WRITTEN.where(WRITTEN.c.writer == writer, WRITTEN.c.first > after).order_by(GROUPS.c.first)
        part: list[bytes] = []
        with reading(self.engine) as connection, streamed(connection, query, _READ_AHEAD) as rows:
            for first, count, payload in rows:
                packed = opened(self.engine, first, payload)
                part += [packed.body(row) for row in range(count)]
                after = first + count - 1
                if len(part) >= REPLAY_ROWS:
                    break
        return (after, part) if part else None

    def import_history(self, history: Sequence[History], labels: Sequence[Label], by: str) -> NoReturn:  # noqa: ARG002
        """Refuse: history comes before what is decided, and so before several processes write.

        Raises:
            LedgerError: Always.
        """
        raise LedgerError(IN_USE, "expected a ledger that one process writes; import before the others start")

    def _open_writer(self) -> Writer:
        if self.engine.dialect.name != "postgresql":
            raise LedgerError(IN_USE, f"expected a ledger on PostgreSQL for several writers, but got {self.url}")
        return SharedWriter(self.engine, self.writer)

    def _writing(self) -> SharedWriter:
        writer = super()._writing()
        assert isinstance(writer, SharedWriter)
        return writer

    def _begin(self) -> None:
        """Give what a single writer has recorded, and its ids, their place."""
        self._writing().make_room(self._last)
        with writing(self.engine, "open") as connection:
            numbered = int(connection.scalar(select(ARRIVALS.c.last).with_for_update()) or 0)
            self.refresh()
            if numbered < self._last:
                self._number_ids(connection, max(numbered, self._mark.last))
                alone = select(literal(ALONE), GROUPS.c.first).where(GROUPS.c.first > numbered)
                connection.execute(insert(WRITTEN).from_select(["writer", "first"], alone))
                connection.execute(update(ARRIVALS).values(last=self._last))

    def _number_ids(self, connection: Connection, after: int) -> None:
        for part in stretches(self.engine, after):
            for one in part:
                keys = self._keys(one.ids, self.hashes(one.ids))
                rows = list(zip(keys, range(one.first, one.first + len(keys)), strict=True))
                dialect(self.engine).insert_all(connection, IDS, rows)

    def _catch_up(self) -> None:
        """After a failure, connect again; what is there is asked for anyway."""
        if self._writer is not None:
            self._writer.hold()
        self.refresh()

    def _find(self, ids: Sequence[str], hashes: Hashes) -> dict[str, Recorded]:
        with self._asking:
            if self._stale:
                self._catch_up()
            numbers = self._candidates(ids, hashes)
            there = np.flatnonzero(numbers).tolist()
            if not there:
                return {}
            found = {
                identifier: Recorded(packed.body(row), packed.answer(row))
                for identifier, _, packed, row in self._verified(ids, hashes, numbers)
            }
            if len(found) < len(there) and self._writer is not None and self._lookups is not None:
                # Their transactions were archived, and the ids are about to be forgotten.
                left = [row for row in there if ids[row] not in found]
                keys = self._keys([ids[row] for row in left], hashes[left])
                self._lookups.run(_FORGET, [keys, self._mark.last])
            return found

    def _candidates(self, ids: Sequence[str], hashes: Hashes) -> Numbers:
        with self._asking:
            if self._lookups is None:
                self._lookups = Session(self.engine)
            keys = self._keys(ids, hashes)
            try:
                rows = self._lookups.run(_FIND, [keys])
            except LedgerError:
                self._stale = True  # the connection that writes may be lost as well
                raise
            self._mark = read_mark(next((value for value, number in rows if number == NOT_THERE), None))
            there = {key: number for key, number in rows if number != NOT_THERE}
            return np.array([there.get(key, NOT_THERE) for key in keys], dtype=np.int64)

    def _newest(self, connection: Connection) -> int:
        """Return what all writers together have recorded: labels must come in the order of what they came after."""
        return int(connection.scalar(select(ARRIVALS.c.last)) or 0)

    def _next(self, hashed: int) -> tuple[int, int]:
        return hashed, NOT_THERE

    def _check_room(self, count: int) -> None:
        """Do nothing: the database holds any number."""

    def _keys(self, ids: Sequence[str], hashes: Hashes) -> list[bytes]:
        """Return what N ids are known under: their hashes, and those under another key."""
        words = np.empty((len(ids), 2), dtype="<u8")
        words[:, 0] = hashes
        words[:, 1] = self._hash_ids(ids, blake2b(self._key, digest_size=HASH_KEY_BYTES).digest())
        raw = words.tobytes()
        return [raw[start : start + _KEY_BYTES] for start in range(0, len(raw), _KEY_BYTES)]
